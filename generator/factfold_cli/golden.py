"""Golden facts: for each event, entries that set every field, and what they must decode to."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from factfold_cli.decoding import stored
from factfold_cli.errors import Failed
from factfold_cli.own_contract import Event, OwnContract

# 2026-01-01T00:00:00Z.
_TIME_UNIX_NANO = 1_767_225_600_000_000_000
# Types that contain each other would make millions of messages, and protobuf reads 100 levels.
# Behind so many in one golden fact, only those are filled of whose type there is none yet.
_MOST_MESSAGES, _DEEPEST = 1000, 30
# Too wide for 32 bits, and not for a google.protobuf.Duration.
_WIDE = 2**33


def golden_facts(contract: OwnContract, event: Event) -> list[dict[str, Any]]:
    """Golden facts of `event`: one, and one more for each further member of its widest oneof.

    Each is `entry` (the four fields of docs/wire-format.md: `type` and `key` as text, `meta` and
    `data` in hex), and beside it `meta` and `event`, the decoded ones in protobuf's JSON form.
    The same contract gives the same facts.
    """
    message = contract.message(event.name)
    filler = _Filler(event, contract.pool)
    facts = []
    for choice in range(filler.choices(message)):
        try:
            data = filler.filled(message, choice)
        except RecursionError as error:
            raise Failed(
                f"nobody can write {event.name}: it requires a message that requires itself"
            ) from error
        stream = contract.streams[event.path]
        meta = stored("FactMeta")(
            id=_id(event.name),
            source=f"/{stream.name}",
            time_unix_nano=_TIME_UNIX_NANO,
            version=int(stream.versioned),
        )
        entry = {
            "type": event.name,
            "key": getattr(data, event.keys[0][1]),
            "meta": meta.SerializeToString(deterministic=True).hex(),
            "data": data.SerializeToString(deterministic=True).hex(),
        }
        facts.append({"entry": entry, "meta": shown(meta), "event": shown(data, contract.pool)})
    return facts


def shown(message: Message, pool: DescriptorPool | None = None) -> dict[str, Any]:
    """`message` in protobuf's JSON form, with the names of fields as in the .proto file."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, descriptor_pool=pool
    )


def differences(contract: OwnContract, fact: Mapping[str, Any]) -> Iterator[str]:
    """What `contract` reads in a golden fact that is not what is written beside it."""
    name, data = fact["entry"]["type"], bytes.fromhex(fact["entry"]["data"])
    message = contract.message(name)
    if message is None:
        yield f"{name}: the contract has no such message"
        return
    try:
        read = shown(GetMessageClass(message).FromString(data), contract.pool)
    except DecodeError:
        yield f"{name}: its golden fact does not parse"
        return
    # An Any of an unknown type is a TypeError, a Struct of no number a ValueError.
    except (json_format.Error, TypeError, ValueError) as error:
        yield f"{name}: its golden fact has no JSON form: {error}"
        return
    yield from _unlike(fact["event"], read, name)


def _unlike(written: Any, read: Any, where: str) -> Iterator[str]:
    if isinstance(written, dict) and isinstance(read, dict):
        for name in written | read:
            yield from _unlike(written.get(name), read.get(name), f"{where}.{name}")
    elif written != read or type(written) is not type(read):
        yield f"{where} was {written!r}, is read as {read!r}"


class _Filler:
    """Makes messages of one event in which each field says something."""

    def __init__(self, event: Event, pool: DescriptorPool) -> None:
        self._event = event
        self._pool = pool
        self._filled: Counter[str] = Counter()

    def choices(self, message: Any) -> int:
        """How many messages show each member of each oneof in `message` and below."""
        found = {message.full_name: message}
        waiting = [message]
        while waiting:
            for field in waiting.pop().fields:
                inner = field.message_type
                if inner is not None and inner.full_name not in found:
                    found[inner.full_name] = inner
                    waiting.append(inner)
        return max([1, *(len(oneof.fields) for each in found.values() for oneof in each.oneofs)])

    def filled(self, message: Any, choice: int, above: tuple[str, ...] = ()) -> Any:
        """A message of that type with every field set, of each oneof the member `choice`.

        A message inside one of its own type stays empty, but for what is required.
        """
        made: Any = GetMessageClass(message)()
        if not above:
            self._filled.clear()
        name = message.full_name
        enough = self._filled.total() >= _MOST_MESSAGES and name in self._filled
        empty = name in above or enough or len(above) >= _DEEPEST
        self._filled[name] += 1
        match name:
            case "google.protobuf.Timestamp":
                made.FromNanoseconds(_TIME_UNIX_NANO + 1)
            case "google.protobuf.Any":
                # Of a type that everybody who reads the event knows.
                made.type_url = f"type.googleapis.com/{self._event.name}"
            case "google.protobuf.Value" if empty:
                # It has no JSON form when it is empty.
                made.bool_value = True
            case _:
                for field in message.fields:
                    oneof = field.containing_oneof
                    chosen = oneof is None or field == oneof.fields[choice % len(oneof.fields)]
                    if field.is_required or (chosen and not empty):
                        self._set(made, field, choice, (*above, name))
        return made

    def _set(self, made: Any, field: Any, choice: int, path: tuple[str, ...]) -> None:
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            key, value = (kind.fields_by_name[name] for name in ("key", "value"))
            entries = getattr(made, field.name)
            if value.message_type is None:
                entries[_scalar(key)] = _scalar(value)
            else:
                entries[_scalar(key)].CopyFrom(self.filled(value.message_type, choice, path))
            return
        content = _scalar(field) if kind is None else self.filled(kind, choice, path)
        if field.is_repeated:
            getattr(made, field.name).append(content)
        elif kind is None:
            setattr(made, field.name, content)
        else:
            getattr(made, field.name).CopyFrom(content)
            getattr(made, field.name).SetInParent()


def _scalar(field: Any) -> Any:
    """A value of a field that is no message: not its default, and another for each field."""
    number = field.number
    if field.cpp_type == field.CPPTYPE_ENUM:
        numbers = [value.number for value in field.enum_type.values]
        return next(filter(None, numbers), numbers[0])
    return {
        field.CPPTYPE_BOOL: True,
        field.CPPTYPE_INT32: -number,
        field.CPPTYPE_INT64: -_WIDE - number,
        field.CPPTYPE_UINT32: 2**31 + number,
        field.CPPTYPE_UINT64: _WIDE + number,
        field.CPPTYPE_FLOAT: number + 0.5,
        field.CPPTYPE_DOUBLE: number + 0.5,
        field.CPPTYPE_STRING: field.name.encode() if field.type == field.TYPE_BYTES else field.name,
    }[field.cpp_type]


def _id(name: str) -> bytes:
    """A UUIDv7 made of the type's name and the golden time."""
    raw = bytearray(
        (_TIME_UNIX_NANO // 10**6).to_bytes(6, "big") + hashlib.sha256(name.encode()).digest()[:10]
    )
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)
