"""How a dead letter looks: as a row, as a line, as a sheet, and in a JSON document."""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from factfold_cli.ages import duration, iso
from factfold_cli.decoding import Events, NotDecoded, hexdump, stored, text
from factfold_cli.facts import NAMES, known_meta
from factfold_cli.letter_table import show_table
from factfold_cli.letters import Letter, entry_fields
from factfold_cli.output import Output
from factfold_cli.printable import printable

_MOST_NAMED = 10


def show_tables(chosen: Sequence[tuple[str, Letter]], output: Output) -> None:
    """One table for each group."""
    for group in dict.fromkeys(name for name, _ in chosen):
        rows = []
        for letter in (letter for name, letter in chosen if name == group):
            position, key, kind, *rest, why = _columns(letter, _ago(letter.failed))
            rows.append(([position, key, kind.rpartition(".")[2], *rest], why))
        show_table(printable(group), rows, output)


def line_of(group: str, letter: Letter) -> str:
    """For programs that read lines: with tabs between the columns."""
    return "\t".join([printable(group), *_columns(letter, _iso(letter.failed))])


def _columns(letter: Letter, when: str) -> list[str]:
    why = letter.error or (f"behind {letter.behind}" if letter.behind else "")
    columns = [
        *(str(letter.position), letter.key, letter.type, _standing(letter.state, letter.queued)),
        *(str(letter.tries or ""), when, " ".join(why.split())),
    ]
    return [printable(column) for column in columns]


def _standing(state: str, queued: Sequence[str]) -> str:
    return state + (f", {' and '.join(queued)} queued" if queued else "")


def summary(group: str, letter: Letter) -> dict[str, Any]:
    """What a list tells of a letter, as JSON values."""
    return {
        "group": group,
        "position": str(letter.position),
        "entry_id": letter.entry_id,
        "key": letter.key,
        "type": letter.type,
        "state": letter.state,
        "queued": list(letter.queued),
        "tries": letter.tries,
        "failed_at": _iso(letter.failed) or None,
        "error": letter.error or None,
        "behind": str(letter.behind) if letter.behind else None,
    }


def detail(group: str, found: Letter, letter: Any, events: Events) -> dict[str, Any]:
    """All that is known of a factfold.v1.DeadLetter, as JSON values."""
    fields = entry_fields(letter)
    at = found.line.index(found.position)
    shown = {
        **summary(group, found),
        "holds_back": [str(position) for position in found.line[at + 1 :]],
        # A try has settled the answer, which is not in the log yet; or parts of one are.
        "settled": letter.HasField("outcome"),
        "answered_in": [f"{place.stream}/{place.partition}" for place in letter.applied],
        "meta": _meta(fields.get(b"meta", b"")),
        "data": None,
        "data_hex": None,
        "not_decoded": None,
        "unknown_fields": [],
        "other_fields": {
            text(name): text(value) for name, value in fields.items() if name not in NAMES
        },
    }
    try:
        if b"type" not in fields or b"data" not in fields:
            raise NotDecoded("the entry has no type or no data: it is not factfold's")
        shown["data"], shown["unknown_fields"] = events.decode(found.type, fields[b"data"])
    except NotDecoded as reason:
        shown |= {"not_decoded": str(reason), "data_hex": fields.get(b"data", b"").hex()}
    return shown


def _meta(raw: bytes) -> dict[str, Any]:
    try:
        meta = stored("FactMeta").FromString(raw)
    except DecodeError:
        return {"hex": raw.hex()}
    return known_meta(meta)


def sheet(shown: dict[str, Any]) -> str:
    """What `detail` gives, for a person."""
    return "\n".join(printable(line) for line in _lines(shown))


def _lines(shown: dict[str, Any]) -> Iterator[str]:
    meta: dict[str, Any] = shown["meta"]
    named = {
        "group": shown["group"],
        "position": shown["position"],
        "state": _standing(shown["state"], shown["queued"]),
        "tries": shown["tries"],
        "last try": shown["failed_at"],
        "settled": "its answer is settled, and on its way into the log" if shown["settled"] else "",
        "answered in": ", ".join(shown["answered_in"]),
        "behind": shown["behind"],
        "holds back": _named(shown["holds_back"]),
        "entry": shown["entry_id"],
        "key": shown["key"],
        "type": shown["type"],
        "fact": meta.get("id"),
        "source": meta.get("source"),
        "time": meta.get("time"),
        "trace": meta.get("trace_id"),
        "span": meta.get("span_id"),
        "trace state": meta.get("trace_state"),
        "caused by": meta.get("causation_id"),
        "request": meta.get("request_id"),
        "version": meta.get("version"),
        "meta, raw": meta.get("hex"),
        **{f"  {name}": value for name, value in meta.get("extensions", {}).items()},
        **{f"field {name}": value for name, value in shown["other_fields"].items()},
    }
    for name, value in named.items():
        if value:
            yield f"{name:<12} {value}"
    if shown["error"]:
        yield from ("", "error", *(f"  {line}" for line in shown["error"].split("\n")))
    if shown["not_decoded"]:
        raw = bytes.fromhex(shown["data_hex"])
        yield from ("", f"data, {len(raw)} bytes, not decoded: {shown['not_decoded']}")
        yield from (f"  {line}" for line in hexdump(raw))
        return
    unknown = ", ".join(map(str, shown["unknown_fields"]))
    yield from (
        "",
        "data" + (f", without fields that the contract lacks: {unknown}" * bool(unknown)),
    )
    document = json.dumps(shown["data"], indent=2, ensure_ascii=False)
    yield from (f"  {line}" for line in document.split("\n"))


def _named(positions: Sequence[str]) -> str:
    more = len(positions) - _MOST_NAMED
    return ", ".join(positions[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _iso(nanoseconds: int) -> str:
    """Empty for no time at all."""
    return iso(nanoseconds // 1_000_000_000) if nanoseconds else ""


def _ago(nanoseconds: int) -> str:
    return duration(time.time() - nanoseconds / 1e9) if nanoseconds else ""
