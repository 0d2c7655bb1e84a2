"""A call and all that a caller sees of its end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from faults.probe import Probe
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2

POSITION, AT_LEAST = "factfold-position", "factfold-at-least"
_DETAILS = "grpc-status-details-bin"

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Answer:
    """`code` is a name such as ABORTED; `says` the message of a status that is not OK."""

    code: str
    says: str = ""
    message: Any = None
    trailers: dict[str, str | bytes] = field(default_factory=dict)

    @property
    def violations(self) -> list[tuple[str, str]]:
        """Field and description of each, of google.rpc.BadRequest."""
        if (raw := self.trailers.get(_DETAILS)) is None:
            return []
        assert isinstance(raw, bytes)
        status = status_pb2.Status.FromString(raw)
        assert (status.code, status.message) == (
            grpc.StatusCode[self.code].value[0],
            self.says,
        ), "the details are of another status"
        (packed,) = status.details
        request = error_details_pb2.BadRequest()
        assert packed.Unpack(request), "the details are no BadRequest"
        return [(each.field, each.description) for each in request.field_violations]


async def call(
    probe: Probe, method: str, request: Any, metadata: Metadata = (), timeout: float | None = 20
) -> Answer:
    """A unary call of the probe's contract, whatever its end."""
    return await _ended(getattr(probe.stub, method)(request, metadata=metadata, timeout=timeout))


async def call_raw(probe: Probe, path: str, data: bytes, metadata: Metadata = ()) -> Answer:
    """A unary call of any path with any bytes."""
    method: Any = probe.channel.unary_unary(path)
    return await _ended(method(data, metadata=metadata, timeout=20))


async def _ended(under_way: Any) -> Answer:
    try:
        message, code, says = await under_way, "OK", ""
    except grpc.aio.AioRpcError as error:
        message, code, says = None, error.code().name, error.details() or ""
    found = dict(await under_way.trailing_metadata())
    return Answer(code, says, message, found)


async def check_health(channel: grpc.aio.Channel, service: str = "") -> int | str:
    """What gRPC health says of a service: 1 is SERVING; the code's name if that is not OK."""
    check: Any = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    answer = await _ended(check(health_pb2.HealthCheckRequest(service=service), timeout=5))
    return answer.code if answer.message is None else int(answer.message.status)


def matches(pattern: str, text: str) -> bool:
    """Whether a text is as the pattern, in which each `*` stands for anything."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), text, re.DOTALL) is not None
