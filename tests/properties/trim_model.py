"""What the trim script is to do, as docs/protocol.md has it."""

from dataclasses import dataclass, field

Id = tuple[int, int]  # ms and n
START: Id = (0, 0)


@dataclass
class TrimModel:
    """One partition: its facts, and who reads them.

    Attributes:
        facts: ids, in order; those that were trimmed are gone.
        cursors: reader → instance → from where it would read again.
        groups: reaction → position, and whether it is of this log.
    """

    epoch: bytes
    facts: list[Id] = field(default_factory=list)
    n: int = 0
    trimmed: int = 0
    cursors: dict[str, dict[str, Id]] = field(default_factory=dict)
    groups: dict[str, tuple[Id, bool]] = field(default_factory=dict)

    def stands_at(self, at: Id) -> int:
        return at[1] if at[1] <= self.trimmed or at in self.facts else 0

    def needs(self) -> list[int]:
        """The n where each one stands."""
        found = [
            self.stands_at(at)
            for instances in self.cursors.values()
            for at in instances.values() or [START]
        ]
        return found + [
            self.stands_at(at) if of_this else 0 for at, of_this in self.groups.values()
        ]

    def trim(self, epoch: bytes, first: int, everything: bool, most: int) -> list[bytes]:
        """The reply without the holder, whose place is empty if there is none."""
        if epoch != self.epoch:
            return [b"EPOCH", self.epoch]
        if len(self.facts) != self.n - self.trimmed:
            return [b"GAP", b"%d" % len(self.facts), b"%d" % (self.n - self.trimmed)]
        first = min(first, self.n + 1)
        smallest = min(self.needs(), default=self.n + 1)
        held = any(n > max(smallest, self.trimmed) for n in range(1, first))
        allowed = max(self.trimmed + 1, min(first, smallest))
        if held and everything:
            return [b"HELD", b"%d" % self.trimmed, b"%d" % allowed, b"%d" % smallest]
        gone = min(allowed - 1, self.trimmed + most)
        self.facts = [each for each in self.facts if each[1] > gone]
        self.trimmed = max(self.trimmed, gone)
        holder = b"%d" % smallest if held else b""
        return [b"OK", b"%d" % self.trimmed, b"%d" % allowed, holder]
