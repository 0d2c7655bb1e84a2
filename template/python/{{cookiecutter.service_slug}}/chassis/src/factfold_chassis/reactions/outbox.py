"""What a reaction decided, on its way through the outbox into the log."""

from collections.abc import Sequence

from factfold.v1.fact_pb2 import NewFact, Outcome, Unit
from factfold_chassis.contract import Contract
from factfold_chassis.errors import InvalidRequest, WiringError
from factfold_chassis.facts import Fact, new_meta, partition_of
from factfold_chassis.log.lane import check_fact, check_version
from factfold_chassis.log.link import Argument
from factfold_chassis.log.scripts import APPEND
from factfold_chassis.log.streams import Keys
from factfold_chassis.reactions.declare import Append, Outputs
from factfold_chassis.telemetry import Send, Telemetry

# Of one fact. What is settled has to be appended, in one call for each partition, and Redis 6.2
# breaks the connection of who sends more than 2^20 arguments at once, again and again.
MAX_OUTPUTS = 4096
MAX_OUTPUT_BYTES = 4 << 20  # unless it is one output alone


def decide(
    outputs: Outputs,
    fact: Fact,
    contract: Contract,
    source: str,
    telemetry: Telemetry,
    max_fact_bytes: int,
) -> tuple[Outcome, list[Send]]:
    """The outcome to settle, and a span for each append that is still to come.

    All outputs to one partition are one unit, appended together or not at all.

    Raises:
        WiringError: an output is no event of an own stream, or its version does not fit.
        InvalidRequest: its key, its size or its version does not fit, or there are too many.
    """
    units: dict[tuple[str, int], tuple[Unit, Send]] = {}
    total = 0
    for count, output in enumerate(_listed(outputs), 1):
        event = contract.event_of(output.event)
        stream = event.stream
        if not stream.own:
            raise WiringError(
                f"{event.name} belongs to stream {stream.name} of another service: "
                "append an event of this service and let the other one react to it"
            )
        if stream.versioned and output.expected_version is None:
            raise WiringError(
                f"stream {stream.name} is versioned: give Append an expected_version, "
                "0 for a new key"
            )
        check_version(output.expected_version or 0)
        key = event.key_of(output.event)
        place = (stream.name, partition_of(key, stream.partitions))
        if place not in units:
            units[place] = Unit(stream=place[0], partition=place[1]), telemetry.send(stream.name)
        unit, send = units[place]
        version = (output.expected_version or 0) + 1 if stream.versioned else 0
        meta = new_meta(source, cause=fact.id.bytes, version=version)
        send.fill(meta)
        unit.facts.append(
            NewFact(
                key=key,
                expected_version=output.expected_version if stream.versioned else None,
                type=event.name,
                meta=meta.SerializeToString(),
                data=output.event.SerializeToString(),
            )
        )
        size = unit.facts[-1].ByteSize()
        check_fact(key, event.name, size, max_fact_bytes)
        total += size
        if count > MAX_OUTPUTS or (count > 1 and total > MAX_OUTPUT_BYTES):
            raise InvalidRequest(
                "outputs",
                f"one fact is answered with at most {MAX_OUTPUTS} events and {MAX_OUTPUT_BYTES} "
                "bytes; append one event instead, and the rest in parts, as answers to that",
            )
    outcome = Outcome(units=[unit for unit, _ in units.values()])
    return outcome, [send for _, send in units.values()]


def _listed(outputs: Outputs) -> Sequence[Append]:
    if outputs is None:
        return ()
    return (outputs,) if isinstance(outputs, Append) else outputs


def append_command(
    stream: str,
    partition: int,
    epoch: str,
    producer: str,
    predecessor: int,
    units: Sequence[tuple[int, Unit]],
) -> tuple[Argument, ...]:
    """The append script's call for units, each with the n of the fact that it answers."""
    args: list[Argument] = [epoch, producer, "units", 0, predecessor, len(units)]
    for n, unit in units:
        args += (n, len(unit.facts))
        for fact in unit.facts:
            expected = fact.expected_version if fact.HasField("expected_version") else ""
            args += (fact.key, expected, fact.type, fact.meta, fact.data)
    return APPEND.command(Keys(stream, partition).appending, *args)
