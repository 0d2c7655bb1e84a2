"""Both ways to append: as one command, and many units in one call."""

import asyncio

from google.protobuf.message import Message
from service import contract
from service.views import probe

from factfold_chassis import Appended, ChassisError, Command, command


@command
async def append(request: contract.AppendRequest, call: Command) -> contract.AppendResponse:
    await asyncio.sleep(request.sleep_ms / 1000)
    events = _events(request)
    expected: int | None = None
    if request.stream == "moves":
        expected = request.expected_version
        if not request.HasField("expected_version"):
            row = call.rows(probe.MOVES).get(request.key)
            expected = row.version if row else 0
    done: Appended[Message] = await call.append(*events, expected_version=expected)
    return contract.AppendResponse(
        position=str(done.position), version=done.version, repeated=done.repeated
    )


@command
async def append_many(
    request: contract.AppendManyRequest, call: Command
) -> contract.AppendManyResponse:
    outcomes = await asyncio.gather(*(_outcome(unit, call) for unit in request.units))
    return contract.AppendManyResponse(outcomes=outcomes)


async def _outcome(unit: contract.AppendRequest, call: Command) -> contract.AppendOutcome:
    try:
        return contract.AppendOutcome(appended=await append(unit, call))
    except ChassisError as error:
        return contract.AppendOutcome(code=error.code.value[0], message=error.message)


def _events(request: contract.AppendRequest) -> list[Message]:
    numbers = range(request.first, request.first + (request.facts or 1))
    payload = bytes(request.payload_bytes)
    if request.stream == "moves":
        return [
            contract.Moved(
                key=request.key,
                number=number,
                payload=payload,
                group=request.group,
                amount=request.amount,
                to=request.to,
            )
            for number in numbers
        ]
    return [
        contract.Input(key=request.key, number=number, payload=payload, do=request.do)
        for number in numbers
    ]
