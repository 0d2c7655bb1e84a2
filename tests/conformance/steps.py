"""Cases as data: what is done, step by step, and what must follow (README.md, Steps)."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
from faults.log import Logged, eventually, partition_of
from faults.probe import Probe, contract

from . import entries
from .calls import AT_LEAST, POSITION, Answer, Metadata, call, call_raw, matches
from .cases import Case
from .reading import everything, keyed
from .stage import Stage

_ROWS = {
    "inputs": "Seen", "outputs": "Seen", "moves": "Move", "joined": "Joined", "groups": "Group",
}  # fmt: skip


class Steps:
    """Plays a case's steps. `{name}` in a text is what was saved under that name; `{key}` is the
    case's own key."""

    def __init__(self, stage: Stage, case: Case) -> None:
        self._stage = stage
        self._case = case
        self._saved: dict[str, str] = {"key": case.key}
        self._written: list[str] = []  # positions, for reads that must have them

    async def play(self) -> None:
        for number, step in enumerate(self._case.steps, 1):
            (verb,) = step.keys() & VERBS.keys()
            try:
                await VERBS[verb](self, self._filled(step[verb]), self._filled(step))
            except AssertionError as error:
                raise AssertionError(f"step {number} ({verb}): {error}") from error

    def _filled(self, told: Any) -> Any:
        if isinstance(told, dict):
            return {name: self._filled(value) for name, value in told.items()}
        if isinstance(told, list):
            return [self._filled(value) for value in told]
        if not isinstance(told, str):
            return told
        return re.sub(r"\{([a-z_]+)\}", lambda found: self._saved[found[1]], told)

    async def _probe(self, step: dict[str, Any]) -> Probe:
        settings = {**self._case.probe, **step.get("probe", {})}
        return await self._stage.probe(step.get("at", 0), **settings)

    def _request(self, fields: dict[str, Any]) -> Any:
        times = fields.pop("key_bytes", 0)  # fills the key up to so many bytes
        told = {"stream": "inputs", "key": self._case.key, "first": 1, **fields}
        if times:
            told["key"] = told["key"].ljust(times, "x")
        return contract.AppendRequest(**told)

    def _metadata(self, step: dict[str, Any]) -> Metadata:
        return list(step.get("metadata", {}).items())

    def _ended(self, answer: Answer, step: dict[str, Any]) -> None:
        wanted = step.get("code", "OK")
        assert answer.code == wanted, f"{answer.code} {answer.says!r}, not {wanted}"
        if "says" in step:
            assert matches(step["says"], answer.says), f"it says {answer.says!r}"
        if wanted != "OK" or "violations" in step:
            told, found = step.get("violations", []), answer.violations
            same = [
                field == name and matches(rule, description)
                for (name, rule), (field, description) in zip(told, found, strict=False)
            ]
            assert same == [True] * max(len(told), len(found)), f"violations are {found}"
        if "position" in step:
            assert matches(step["position"], str(answer.trailers.get(POSITION, ""))), (
                f"{POSITION} is {answer.trailers.get(POSITION)!r}"
            )

    # What is done.

    async def append(self, fields: dict[str, Any], step: dict[str, Any]) -> None:
        """One command. Of the answer: `version`, `repeated`, `same` as a saved position."""
        probe = await self._probe(step)
        request = self._request(
            {name: value for name, value in fields.items() if name not in _ANSWER}
        )
        answer = await call(probe, "Append", request, self._metadata(step), _timeout(step))
        self._ended(answer, step)
        if answer.message is None:
            return
        position = answer.message.position
        self._written.append(position)
        assert answer.trailers.get(POSITION) == position, "the trailer has another position"
        if "save" in step:
            self._saved[step["save"]] = position
        for name in ("version", "repeated"):
            if name in fields:
                value = getattr(answer.message, name)
                assert value == fields[name], f"{name} is {value}"
        if "same" in fields:
            assert position == fields["same"], f"it is at {position}"

    async def many(self, units: list[dict[str, Any]], step: dict[str, Any]) -> None:
        """Units side by side; `codes` and `messages` of each, by default all OK."""
        probe = await self._probe(step)
        outcomes = await probe.append_many([self._request(dict(unit)) for unit in units])
        codes = [_code(each.code) for each in outcomes]
        messages = [each.message for each in outcomes]
        assert codes == step.get("codes", ["OK"] * len(units)), f"{codes} {messages}"
        for wanted, message in zip(step.get("messages", []), messages, strict=False):
            assert matches(wanted, message), f"it says {message!r}"
        self._written += [each.appended.position for each in outcomes if not each.code]

    async def read(self, at_least: str, step: dict[str, Any]) -> None:
        """A query that asks for positions."""
        metadata = [(AT_LEAST, at_least)] if at_least else []
        request = contract.DumpRequest(hashes_only=True)
        answer = await call(await self._probe(step), "Dump", request, metadata, _timeout(step))
        self._ended(answer, step)

    async def send(self, told: dict[str, Any], step: dict[str, Any]) -> None:
        """A call of any `path` with any bytes, `data` in hex."""
        data = bytes.fromhex(told.get("data", ""))
        answer = await call_raw(await self._probe(step), told["path"], data, self._metadata(step))
        self._ended(answer, step)

    async def write(self, told: dict[str, Any], step: dict[str, Any]) -> None:
        """An entry past every service: a whole one, but for what is told of its fields.

        `event`: fields of the stream's event. `meta`: of the metadata, bytes in hex. `drop`:
        fields it lacks. `as`: fields that have another value, in hex. `before` and `more`:
        further fields in front and behind. `reversed`: the fields' order.
        """
        stream = told.get("stream", "inputs")
        key = told.get("key", self._case.key)
        kind = {"inputs": "Input", "moves": "Moved", "outputs": "Output"}[stream]
        event = getattr(contract, kind)(**{"key": key, **told.get("event", {})})
        meta = {name: _meta_value(name, value) for name, value in told.get("meta", {}).items()}
        fields = entries.pairs(event, key, entries.new_meta(**meta))
        others = {name.encode(): bytes.fromhex(value) for name, value in told.get("as", {}).items()}
        fields = [(name, others.get(name, value)) for name, value in fields
                  if name.decode() not in told.get("drop", [])]  # fmt: skip
        if told.get("reversed"):
            fields.reverse()
        fields = [*_named(told.get("before", [])), *fields, *_named(told.get("more", []))]
        position, _ = entries.write(self._stage.log, stream, fields, partition_of(key))
        self._written.append(position)
        if "save" in step:
            self._saved[step["save"]] = position

    # What must follow.

    async def logged(self, told: dict[str, Any], step: dict[str, Any]) -> None:
        """The facts of a key: their `numbers`, `versions`, `requests` (request ids)."""
        key = told.get("key", self._case.key)
        found = keyed(self._stage, told.get("stream", "inputs"), key)
        for name, of in _OF_A_FACT.items():
            if name in told:
                values = [of(fact) for fact in found]
                assert values == told[name], f"{name} are {values}"

    async def row(self, told: dict[str, Any], step: dict[str, Any]) -> None:
        """A row of a `table`, of a view that has all that was written; `absent` if there is none.

        Other words are its fields.
        """
        probe = await self._probe(step)
        dumped = await probe.dump(",".join(self._written))
        table = told.pop("table", "inputs")
        key, absent = told.pop("key", self._case.key), told.pop("absent", False)
        (rows,) = (each.row for each in dumped.tables if each.name == table)
        found = [each.value for each in rows if each.key == key]
        assert bool(found) != absent, f"{table}[{key}] is {found}"
        if absent:
            return
        row = getattr(contract, _ROWS[table]).FromString(found[0])
        for name, wanted in told.items():
            value: Any = row
            for part in name.split("."):
                value = getattr(value, part)
            assert value == wanted, f"{table}[{key}].{name} is {value!r}"

    async def answered(self, told: dict[str, Any], step: dict[str, Any]) -> None:
        """The inputs of a key that a `reaction` has answered: their `numbers`, in this order."""
        key, reaction = told.get("key", self._case.key), told.get("reaction", "answer")

        def numbers() -> list[int]:
            found = everything(self._stage, "outputs")
            own = [fact.event for fact in found if fact.event.of == key]
            return [event.number for event in own if event.reaction == reaction]

        wanted = told["numbers"]
        await eventually(lambda: len(numbers()) >= len(wanted), 20, lambda: f"{numbers()}")
        assert numbers() == wanted, f"answered are {numbers()}"


_ANSWER = {"version", "repeated", "same"}
_OF_A_FACT: dict[str, Callable[[Logged], Any]] = {
    "numbers": lambda fact: fact.event.number,
    "versions": lambda fact: fact.meta.version,
    "requests": lambda fact: fact.meta.request_id,
}
VERBS: dict[str, Callable[[Steps, Any, dict[str, Any]], Coroutine[Any, Any, None]]] = {
    "append": Steps.append,
    "many": Steps.many,
    "read": Steps.read,
    "send": Steps.send,
    "write": Steps.write,
    "logged": Steps.logged,
    "row": Steps.row,
    "answered": Steps.answered,
}


def _timeout(step: dict[str, Any]) -> float | None:
    """Seconds; `timeout = 0` is a call without a deadline."""
    return float(step.get("timeout", 20)) or None


def _code(number: int) -> str:
    return next(code.name for code in grpc.StatusCode if code.value[0] == number)


def _meta_value(name: str, value: Any) -> Any:
    return bytes.fromhex(value) if name.endswith("id") and name != "request_id" else value


def _named(fields: list[list[str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in fields]
