"""What was appended, whether or not the log still has it, and what the probes say is lost."""

import re
from collections.abc import Iterable, Sequence

import hiredis

from .log import Logged
from .probe import Probe
from .proxy import Command, Hook, Link, Verdict

NAMED = re.compile(r"are lost: ([^;]+);")


class Witness(Hook):
    """Each fact of these streams that Redis said it appended, by its position."""

    def __init__(self, *streams: str):
        self._streams = streams
        self.facts: dict[str, Logged] = {}

    async def reply(self, link: Link, command: Command, reply: bytes) -> Verdict:
        ours = command.name == "append" and command.place[0] in self._streams
        if ours and b"\r\nOK\r\n" in reply[:16]:
            self._note(command, reply)
        return Verdict.PASS

    def _note(self, command: Command, reply: bytes) -> None:
        reader = hiredis.Reader()
        reader.feed(reply)
        _, ms, first, facts, conflicts, _, skipped = reader.gets()
        assert not conflicts, "these streams have no versions"
        stream, partition = command.place
        epoch, _, _, _, _, units, _, *flat = command.arguments
        behind = sum(_sizes(units)[: int(skipped)])  # what had been appended before
        at = range(4 * behind, len(flat), 4)[: int(facts)]
        for n, begin in enumerate(at, int(first)):
            entry_id = f"{int(ms)}-{n}"
            fact = Logged.of(stream, partition, epoch.decode(), entry_id, flat[begin : begin + 4])
            self.facts[fact.position] = fact


def _sizes(units: bytes) -> Sequence[int]:
    return [int(unit.rpartition(b":")[2]) for unit in units.split(b",") if unit]


def named(probes: Iterable[Probe]) -> set[str]:
    """The positions of facts that their log lines name as lost."""
    lines = (line for probe in probes for line in probe.said(" are lost: "))
    return {
        position
        for line in lines
        for found in NAMED.finditer(line)
        for position in found[1].split(", ")
    }
