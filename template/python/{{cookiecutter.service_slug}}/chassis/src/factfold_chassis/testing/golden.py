"""Golden facts: what was released of a contract, with what it must decode to for ever."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from factfold_chassis.contract import Contract
from factfold_chassis.facts import NAMES, Fact
from factfold_chassis.service import Service


@dataclass(frozen=True)
class GoldenFact:
    """One entry, and what `factfold contract release` wrote down beside it."""

    name: str  # version, type, and the place among several of one type
    entry: dict[str, str]  # type and key as text, meta and data in hex
    meta: dict[str, Any]  # protobuf's JSON form, with the names of fields as in the contract
    event: dict[str, Any]

    def __str__(self) -> str:
        return self.name

    def differences(self, app: Service) -> list[str]:
        """What the service reads in the entry that is not what is written down; empty: nothing."""
        name = self.entry["type"]
        spec = Contract(app.contract, app.subscriptions).events.get(name)
        if spec is None:
            return [f"{name} is no event of the contract any more"]
        values = [
            self.entry["type"].encode(),
            self.entry["key"].encode(),
            bytes.fromhex(self.entry["meta"]),
            bytes.fromhex(self.entry["data"]),
        ]
        fields = [part for pair in zip(NAMES, values, strict=True) for part in pair]
        fact = Fact(spec.stream.name, 0, "0" * 16, (b"1-1", fields))
        try:
            event = fact.read(spec.message)
        except ValueError as error:
            return [f"{name} cannot be read any more: {error}"]
        found = [*_unlike(self.meta, _shown(fact.meta), "meta")]
        found += _unlike(self.event, _shown(event), name)
        if not found and spec.key_of(event) != fact.key:
            found.append(f"{name}: the key was {fact.key!r}, is read as {spec.key_of(event)!r}")
        return found


def golden_facts(root: Path) -> list[GoldenFact]:
    """All golden facts that the repository `root` has released, the oldest version first."""
    return [
        GoldenFact(f"{path.parts[-3]} {path.stem} {at}", **fact)
        for path in sorted(root.glob("released/*/facts/*.json"))
        for at, fact in enumerate(json.loads(path.read_text(encoding="utf-8")), 1)
    ]


def _shown(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True)


def _unlike(written: Any, read: Any, where: str) -> Iterator[str]:
    if isinstance(written, dict) and isinstance(read, dict):
        for name in written | read:
            yield from _unlike(written.get(name), read.get(name), f"{where}.{name}")
    elif written != read or type(written) is not type(read):
        yield f"{where} was {written!r}, is read as {read!r}"
