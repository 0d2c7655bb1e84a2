"""Dead letters as they stand in Redis, and what the command line asks for."""

from collections.abc import Iterable

from factfold.v1.fact_pb2 import DeadLetter

from .log import PARTITIONS, Log
from .row import Row


def letters(log: Log, reaction: str, stream: str = "inputs") -> dict[tuple[int, int], DeadLetter]:
    """All dead letters of a reaction, by partition and n."""
    found = {}
    with log.redis() as client:
        for partition in range(PARTITIONS):
            dead = client.hgetall(f"{{{stream}/{partition}}}:dead:probe.{reaction}")
            for n in sorted(map(int, dead.keys() - {b"_"})):
                found[partition, n] = DeadLetter.FromString(dead[b"%d" % n])
    return found


def keys_of(log: Log, reaction: str, stream: str = "inputs") -> dict[bytes, list[tuple[int, int]]]:
    """Which letters each key has, in their order."""
    found: dict[bytes, list[tuple[int, int]]] = {}
    with log.redis() as client:
        for partition in range(PARTITIONS):
            held = client.hgetall(f"{{{stream}/{partition}}}:dead-keys:probe.{reaction}")
            for key in held.keys() - {b"_"}:
                found.setdefault(key, []).extend((partition, int(n)) for n in held[key].split(b","))
    return found


def ask(row: Row, log: Log, reaction: str, what: str, places: Iterable[tuple[int, int]]) -> None:
    """`redrive` or `discard` the letters at these partitions and n, in this order."""
    script = (row.made.scripts / "ask.lua").read_text()
    with log.redis() as client:
        for partition, n in places:
            key = f"{{inputs/{partition}}}:redrive:probe.{reaction}"
            assert client.eval(script, 1, key, f"{what}:{n}")[0] == b"OK"


def asked(log: Log, reaction: str) -> int:
    """How many requests have not been carried out."""
    with log.redis() as client:
        keys = [f"{{inputs/{p}}}:redrive:probe.{reaction}" for p in range(PARTITIONS)]
        return sum(len(set(client.hkeys(key)) - {b"_", b"last"}) for key in keys)
