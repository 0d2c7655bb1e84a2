"""What the scripts of a reaction are to do, as docs/protocol.md and docs/wire-format.md have it."""

from collections.abc import Mapping, Sequence

Fields = dict[bytes, bytes]
Letters = Sequence[tuple[int, bytes, bytes]]  # n, key, letter


class GroupModel:
    """One group in one partition of its input stream, and the members of the group."""

    def __init__(self, epoch: bytes):
        self.epoch = epoch  # of the log
        self.group: Fields = {}
        self.outbox: Fields = {}
        self.dead: Fields = {}
        self.dead_keys: Fields = {}
        self.redrive: Fields = {}
        self.members: Fields = {}

    def member(self, member: bytes) -> Fields:
        self.members[member] = b"%d" % (int(self.members.get(member, 0)) + 1)
        return self.members

    def claim(
        self, epoch: bytes, owner: bytes, nonce: bytes, token: bytes, beat: bytes
    ) -> list[bytes | Fields]:
        if epoch != self.epoch:
            return [b"EPOCH", self.epoch]
        group = self.group
        if not group:
            group |= {
                b"epoch": epoch, b"position": b"0-0", b"fact": b"", b"settled": b"0",
                b"owner": b"", b"token": b"0:", b"beat": b"0",
            }  # fmt: skip
        if group[b"epoch"] != epoch:
            return [b"EPOCH", group[b"epoch"]]
        if token == b"":
            free = group[b"owner"] in (b"", owner)
        else:
            free = (token, beat) == (group[b"token"], group[b"beat"])
        if not free:
            return [b"HELD", group[b"owner"]]
        counter = int(group[b"token"].split(b":")[0])
        group |= {b"owner": owner, b"token": b"%d:%s" % (counter + 1, nonce), b"beat": b"0"}
        found = [group[name] for name in (b"token", b"position", b"settled", b"fact")]
        return [b"OK", *found, self.outbox, self.dead_keys]

    def _fenced(self, token: bytes) -> list[bytes]:
        if token == self.group.get(b"token"):
            return []
        return [b"FENCED", self.group.get(b"owner", b"")]

    def beat(self, token: bytes) -> list[bytes | Fields]:
        if fenced := self._fenced(token):
            return list(fenced)
        self.group[b"beat"] = b"%d" % (int(self.group[b"beat"]) + 1)
        return [b"OK", {name: asked for name, asked in self.redrive.items() if name != b"last"}]

    def release(self, token: bytes) -> list[bytes]:
        if fenced := self._fenced(token):
            return fenced
        self.group |= {b"owner": b"", b"token": token.split(b":")[0] + b":"}
        return [b"OK"]

    def settle(
        self, token: bytes, first: int, last: int, outcomes: Mapping[int, bytes]
    ) -> list[bytes]:
        if fenced := self._fenced(token):
            return fenced
        if first != int(self.group[b"settled"]) + 1:
            return [b"GAP", self.group[b"settled"]]
        self.outbox |= {b"%d" % n: outcome for n, outcome in outcomes.items()}
        self.group[b"settled"] = b"%d" % last
        return [b"OK"]

    def commit(
        self,
        token: bytes,
        before: bytes,
        after: bytes,
        fact: bytes,
        letters: Letters,
        done: Sequence[int],
    ) -> list[bytes]:
        if fenced := self._fenced(token):
            return fenced
        if before != self.group[b"position"]:
            return [b"MOVED", self.group[b"position"]]
        self.group |= {b"position": after, b"fact": fact}
        for n, key, letter in letters:
            self.dead[b"%d" % n] = letter
            held = self.dead_keys.get(key)
            self.dead_keys[key] = b"%d" % n if held is None else b"%s,%d" % (held, n)
        for n in done:
            self.outbox.pop(b"%d" % n, None)
        return [b"OK"]

    def letters(self, token: bytes, changes: Letters, requests: Sequence[int]) -> list[bytes]:
        if fenced := self._fenced(token):
            return fenced
        for n, key, letter in changes:
            if letter:
                self.dead[b"%d" % n] = letter
                continue
            self.dead.pop(b"%d" % n, None)
            held = self.dead_keys.get(key, b"").split(b",")
            rest = b",".join(other for other in held if other and int(other) != n)
            if rest:
                self.dead_keys[key] = rest
            else:
                self.dead_keys.pop(key, None)
        for request in requests:
            self.redrive.pop(b"%d" % request, None)
        return [b"OK"]

    def ask(self, requests: Sequence[bytes]) -> list[bytes | int]:
        if not self.group:
            return [b"NONE"]
        last = int(self.redrive.get(b"last", 0))
        for request in requests:
            last += 1
            self.redrive[b"%d" % last] = request
        self.redrive[b"last"] = b"%d" % last
        return [b"OK", last]
