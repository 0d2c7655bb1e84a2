"""What a contract declares, read from its descriptors: streams, events and methods."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from google.protobuf.descriptor import Descriptor, FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from factfold.v1 import options_pb2
from factfold_chassis.errors import NotInStubs, WiringError

DEFAULT_PARTITIONS = 4
# types-protobuf types the options of generated code, protoc's own .pyi does not.
_STREAM: Any = options_pb2.stream
_EVENT: Any = options_pb2.event
_KEY: Any = options_pb2.key
_STREAM_NAME = re.compile(r"[a-z0-9.-]{1,64}")


@dataclass(frozen=True, slots=True, eq=False)
class EventSpec:
    """One event type of a stream."""

    name: str  # full protobuf name
    message: type[Message]
    key_field: str
    stream: "StreamSpec"

    def key_of(self, event: Message) -> str:
        return str(getattr(event, self.key_field))


@dataclass(frozen=True, slots=True, eq=False)
class StreamSpec:
    """One stream as its owner's contract declares it."""

    name: str
    partitions: int
    versioned: bool
    own: bool
    events: dict[str, EventSpec] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class MethodSpec:
    """One RPC."""

    name: str
    path: str  # "/package.Service/Name"
    service: str  # full protobuf name
    request: type[Message]
    response: type[Message]
    client_streaming: bool
    server_streaming: bool
    idempotent: bool  # NO_SIDE_EFFECTS: a query


class Contract:
    """The service's own contract and those that it subscribes to.

    Args:
        own: files whose streams this service writes and whose RPCs it answers.
        foreign: files of other services' contracts.

    Raises:
        WiringError: a stream or an event is not declared as it must be.
    """

    def __init__(self, own: Iterable[FileDescriptor], foreign: Iterable[FileDescriptor] = ()):
        self.streams: dict[str, StreamSpec] = {}
        self.events: dict[str, EventSpec] = {}
        self.methods: list[MethodSpec] = []
        for file in own:
            self._read_stream(file, own=True)
            for service in file.services_by_name.values():
                self.methods += [_method(method) for method in service.methods]
        for file in foreign:
            self._read_stream(file, own=False)

    @property
    def own_streams(self) -> Sequence[StreamSpec]:
        return [stream for stream in self.streams.values() if stream.own]

    def event_of(self, message: Message | type[Message]) -> EventSpec:
        """The event type of `message`. Raises WiringError if it is none."""
        name = message.DESCRIPTOR.full_name
        try:
            return self.events[name]
        except KeyError:
            raise WiringError(
                f"{name} is not an event of a stream in the contract: give it "
                "`option (factfold.v1.event) = {};` and a field with `[(factfold.v1.key) = true]`"
            ) from None

    def _read_stream(self, file: FileDescriptor, *, own: bool) -> None:
        options = file.GetOptions()
        if not options.HasExtension(_STREAM):
            return
        declared: options_pb2.Stream = options.Extensions[_STREAM]
        if not _STREAM_NAME.fullmatch(declared.name):
            raise WiringError(
                f"{file.name}: the stream name {declared.name!r} must be 1 to 64 characters "
                "of a-z, 0-9, '-' and '.'"
            )
        if declared.name in self.streams:
            raise WiringError(f"{file.name}: the stream {declared.name} is declared twice")
        partitions = declared.partitions or DEFAULT_PARTITIONS
        stream = StreamSpec(declared.name, partitions, declared.versioned, own)
        self.streams[stream.name] = stream
        for message in file.message_types_by_name.values():
            if message.GetOptions().HasExtension(_EVENT):
                event = _event(message, stream)
                stream.events[event.name] = self.events[event.name] = event


def _event(message: Descriptor, stream: StreamSpec) -> EventSpec:
    keys = [
        field.name
        for field in message.fields
        if field.GetOptions().Extensions[_KEY]
        and field.type == field.TYPE_STRING
        and not field.is_repeated
    ]
    if len(keys) != 1:
        raise WiringError(
            f"{message.full_name}: an event needs exactly one string field with "
            f"`[(factfold.v1.key) = true]`, it has {len(keys)}"
        )
    return EventSpec(message.full_name, GetMessageClass(message), keys[0], stream)


def _method(method: MethodDescriptor) -> MethodSpec:
    service = method.containing_service.full_name
    return MethodSpec(
        name=method.name,
        path=f"/{service}/{method.name}",
        service=service,
        request=GetMessageClass(method.input_type),
        response=GetMessageClass(method.output_type),
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
        idempotent=method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS,
    )


def not_in_stubs(name: str) -> NoReturn:
    """`__getattr__` of a module that stands for a contract's stubs."""
    raise NotInStubs(name)
