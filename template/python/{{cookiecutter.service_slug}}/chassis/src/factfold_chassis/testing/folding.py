"""Folding events into tables without a server and without a log."""

import time
from collections import Counter
from typing import Any, NoReturn, TypeVar

from google.protobuf.message import Message

from factfold_chassis.facts import Entry, new_meta, partition_of
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.streams import Head
from factfold_chassis.service import Service
from factfold_chassis.views.declare import Table
from factfold_chassis.views.engine import ViewEngine
from factfold_chassis.views.place import Place
from factfold_chassis.views.tables import Rows

Row = TypeVar("Row", bound=Message)

EPOCH = "0" * 16
NOWHERE = "redis://127.0.0.1:1/0"  # an engine wants to know a server; folding needs none


class Folded:
    """The tables of a service after some facts."""

    def __init__(self, app: Service):
        wired = app.wire()
        self._contract = wired.contract
        self._engines = {
            view: ViewEngine(
                view,
                [fold for fold in wired.folds if fold.into.view is view],
                wired.contract,
                Redis(NOWHERE),
                count=_raise,
            )
            for view in {fold.into.view for fold in wired.folds}
        }
        self._facts: Counter[tuple[str, int]] = Counter()
        self._versions: Counter[tuple[str, str]] = Counter()

    def rows(self, table: Table[Row]) -> Rows[Row]:
        return self._engines[table.view].tables[table]

    def fold(self, event: Message) -> None:
        """Fold one more event, as the next fact of its key. What a fold raises comes through."""
        spec = self._contract.event_of(event)
        stream, key = spec.stream, spec.key_of(event)
        partition = partition_of(key, stream.partitions)
        self._facts[stream.name, partition] += 1
        self._versions[stream.name, key] += 1
        version = self._versions[stream.name, key] if stream.versioned else 0
        meta = new_meta(f"/{stream.name}", version=version)
        n = self._facts[stream.name, partition]
        entry: Entry = (
            f"{time.time_ns() // 1_000_000}-{n}".encode(),
            [
                *(b"type", spec.name.encode()),
                *(b"key", key.encode()),
                *(b"meta", meta.SerializeToString()),
                *(b"data", event.SerializeToString()),
            ],
        )
        for engine in self._engines.values():
            if stream.name in engine.streams:
                place = Place(stream.name, partition, Head(EPOCH, stream.partitions, 0, 0))
                engine.fold(place, [entry])


def fold_facts(app: Service, *events: Message) -> Folded:
    """The tables of `app` after these events, in this order: `fold_facts(…).rows(TABLE)`.

    Facts of a versioned stream count their key's version from 1.
    """
    folded = Folded(app)
    for event in events:
        folded.fold(event)
    return folded


def _raise(*_: Any, **__: Any) -> NoReturn:
    # Counted where the engine has caught what a fold raised: a test wants to see it.
    raise
