"""What a reaction decided, on its way through the outbox into the log."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from factfold.v1.fact_pb2 import Outcome
from factfold_chassis.contract import Contract
from factfold_chassis.errors import InvalidRequest, WiringError
from factfold_chassis.facts import Fact, new_meta, partition_of
from factfold_chassis.log.lane import check_key, check_size, check_version, listed_versions
from factfold_chassis.log.link import Argument
from factfold_chassis.log.scripts import APPEND
from factfold_chassis.log.streams import Keys
from factfold_chassis.reactions.declare import Append, Outputs
from factfold_chassis.telemetry import Send, Telemetry

# Of one fact. What is settled has to be appended, in one call for each partition, and Redis 6.2
# breaks the connection of who sends more than 2^20 arguments at once, again and again.
MAX_OUTPUTS = 4096
MAX_OUTPUT_BYTES = 4 << 20  # unless it is one output alone

PlaceKey = tuple[str, int]  # stream and partition of an output
Output = tuple[str, int | None, str, bytes, bytes]  # key, expected version, type, meta, data


@dataclass(slots=True, eq=False)
class Unit:
    """All outputs of one fact to one partition: appended together or not at all."""

    n: int  # of the fact that it answers
    place: PlaceKey
    send: Send | None = None  # open until it is in the log, or the attempt is given up
    outputs: list[Output] = field(default_factory=list)
    size: int = 0  # bytes, about

    def add(self, output: Output) -> int:
        """Returns the size of `output`."""
        key, _, type_, meta, data = output
        size = len(key) + len(type_) + len(meta) + len(data) + 32
        self.outputs.append(output)
        self.size += size
        return size

    def end(self, error: BaseException | None = None) -> None:
        if self.send and self.send.recorded:
            self.send.end(error)


@contextmanager
def ending(units: Iterable[Unit]) -> Iterator[None]:
    """The spans of units that are not appended in the `with` block end with it, and its error."""
    try:
        yield
    except BaseException as error:
        for unit in units:
            unit.end(error)
        raise
    else:
        for unit in units:
            unit.end()


def outcome_of(units: Iterable[Unit]) -> Outcome:
    """Units as they are settled."""
    outcome = Outcome()
    for unit in units:
        kept = outcome.units.add()
        kept.stream, kept.partition = unit.place
        for key, expected, type_, meta, data in unit.outputs:
            fact = kept.facts.add()
            fact.key, fact.type, fact.meta, fact.data = key, type_, meta, data
            if expected is not None:
                fact.expected_version = expected
    return outcome


def units_of(n: int, outcome: Outcome) -> list[Unit]:
    """Units that were settled, by this owner or one before; what sent them is not known."""
    units = []
    for kept in outcome.units:
        unit = Unit(n, (kept.stream, kept.partition))
        for fact in kept.facts:
            expected = fact.expected_version if fact.HasField("expected_version") else None
            unit.add((fact.key, expected, fact.type, fact.meta, fact.data))
        units.append(unit)
    return units


def decide(
    outputs: Outputs,
    fact: Fact,
    contract: Contract,
    source: str,
    telemetry: Telemetry,
    max_fact_bytes: int,
) -> list[Unit]:
    """What is to be settled, and then appended.

    Raises:
        WiringError: an output is no event of an own stream, or its version does not fit.
        InvalidRequest: its key, its size or its version does not fit, or there are too many.
    """
    units: dict[PlaceKey, Unit] = {}
    n, cause = fact.n, fact.meta.id
    total = 0
    for count, output in enumerate(_listed(outputs), 1):
        event = contract.event_of(output.event)
        stream = event.stream
        if not stream.own:
            raise WiringError(
                f"{event.name} belongs to stream {stream.name} of another service: "
                "append an event of this service and let the other one react to it"
            )
        expected = output.expected_version
        if stream.versioned and expected is None:
            raise WiringError(
                f"stream {stream.name} is versioned: give Append an expected_version, "
                "0 for a new key"
            )
        if expected:
            check_version(expected)
        key = event.key_of(output.event)
        check_key(key)
        place = (stream.name, partition_of(key, stream.partitions))
        if place not in units:
            units[place] = Unit(n, place, telemetry.send(stream.name))
        unit = units[place]
        meta = new_meta(source, cause=cause)
        before = None
        if stream.versioned:
            before = expected or 0
            meta.version = before + 1
        if unit.send:
            unit.send.fill(meta)
        data = output.event.SerializeToString()
        size = unit.add((key, before, event.name, meta.SerializeToString(), data))
        check_size(event.name, size, max_fact_bytes)
        total += size
        if count > MAX_OUTPUTS or (count > 1 and total > MAX_OUTPUT_BYTES):
            raise InvalidRequest(
                "outputs",
                f"one fact is answered with at most {MAX_OUTPUTS} events and {MAX_OUTPUT_BYTES} "
                "bytes; append one event instead, and the rest in parts, as answers to that",
            )
    return list(units.values())


def _listed(outputs: Outputs) -> Sequence[Append]:
    if outputs is None:
        return ()
    return (outputs,) if isinstance(outputs, Append) else outputs


def append_command(
    place: PlaceKey,
    epoch: str,
    producer: str,
    predecessor: int,
    units: Sequence[Unit],
    sequence: int | None = None,
    ms: int = 0,
) -> tuple[Argument, ...]:
    """The append script's call; the sequence of a unit is the n that it answers, or `sequence`.

    `ms`: of an input that is answered with them, or of a later one that is settled.
    """
    numbered = (unit.n if sequence is None else sequence for unit in units)
    sizes = ",".join(f"{n}:{len(unit.outputs)}" for n, unit in zip(numbered, units, strict=True))
    outputs = [output for unit in units for output in unit.outputs]
    versions = listed_versions([expected for _, expected, _, _, _ in outputs])
    args: list[Argument] = [epoch, producer, "units", ms, predecessor, sizes, versions]
    for key, _, type_, meta, data in outputs:
        args += (type_, key, meta, data)
    return APPEND.command(Keys(*place).appending, *args)
