"""Turns bytes of the log into what a person reads, with contracts compiled when they are needed."""

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from factfold_cli.contract import compiled, sources
from factfold_cli.errors import Failed
from factfold_cli.templates import PROTOS

_HEX_BYTES = 4096


class NotDecoded(Exception):
    """The bytes are no such event; `str(error)` says why in one line."""


class Events:
    """The events of the contracts in one repository, its own and those it subscribes to."""

    def __init__(self, root: Path | None) -> None:
        """`root` is the repository; without one nothing can be decoded."""
        self._pool = DescriptorPool()
        self._problem = ""
        protos = root and root / "protos"
        if protos is None:
            self._problem = (
                "no contract: run this inside the service's repository, or name it with --contract"
            )
            return
        try:
            for file in compiled(protos, sources(protos)):
                self._pool.Add(file)
        except Failed as failure:
            self._problem = failure.format_message()
        self._where = str(root)

    def decode(self, type: str, data: bytes) -> tuple[Any, list[int]]:
        """The event as protobuf JSON, and the numbers of fields that the contract does not know.

        Raises NotDecoded.
        """
        if self._problem:
            raise NotDecoded(self._problem)
        try:
            descriptor = self._pool.FindMessageTypeByName(type)
        except KeyError:
            raise NotDecoded(f"no contract in {self._where!r} has {type!r}") from None
        try:
            event: Any = GetMessageClass(descriptor).FromString(data)
        except DecodeError:
            raise NotDecoded(f"these bytes are no {type}") from None
        try:
            shown = json_format.MessageToDict(event, descriptor_pool=self._pool)
        # An Any of an unknown type is a TypeError, a Struct of no number a ValueError.
        except (json_format.Error, TypeError, ValueError) as error:
            raise NotDecoded(f"{type} has no JSON form: {error}") from None
        unknown: Any = UnknownFieldSet(event)
        return shown, sorted({field.field_number for field in unknown})


@cache
def stored(name: str) -> Any:
    """The class of a message of factfold/v1/fact.proto: FactMeta, DeadLetter, …"""
    pool = DescriptorPool()
    for file in compiled(PROTOS, ["factfold/v1/fact.proto"]):
        pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"factfold.v1.{name}"))


def text(raw: bytes) -> str:
    """Bytes that should be UTF-8; what is not is escaped."""
    return raw.decode(errors="backslashreplace")


def hexdump(raw: bytes) -> list[str]:
    """Offset, bytes and letters, 16 in a line; the first 4 KiB."""
    lines = []
    for at in range(0, min(len(raw), _HEX_BYTES), 16):
        part = raw[at : at + 16]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{at:08x}  {part.hex(' '):<47}  {letters}")
    if len(raw) > _HEX_BYTES:
        lines.append(f"… {len(raw) - _HEX_BYTES} more bytes; --json has them all")
    return lines
