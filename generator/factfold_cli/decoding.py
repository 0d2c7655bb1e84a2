"""Turns bytes of the log into what a person reads, with contracts compiled when they are needed."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from factfold_cli import manifest as manifests
from factfold_cli.contract import compiled, sources
from factfold_cli.declared import copies
from factfold_cli.errors import Failed, Refused
from factfold_cli.templates import PROTOS

_HEX_BYTES = 4096


class NotDecoded(Exception):
    """The bytes are no such event; `str(error)` says why in one line."""


def repositories(directory: Path | None) -> list[Path]:
    """Those whose contracts decode: the one at `directory`, else those right below it.

    Without a `directory`, the same of where this is run.
    """
    if directory is None:
        try:
            return [manifests.root_here()]
        except Refused:
            return _below(Path())
    return [directory] if (directory / "protos").is_dir() else _below(directory) or [directory]


def _below(folder: Path) -> list[Path]:
    return sorted(path.parents[1] for path in folder.glob(f"*/{manifests.PATH}"))


class Events:
    """The events of the contracts in some repositories, their own and those they subscribe to."""

    def __init__(self, roots: Sequence[Path]) -> None:
        """`roots` are the repositories; without one nothing can be decoded."""
        self._where = ", ".join(repr(str(root)) for root in roots)
        # One for each: a copied contract may be older than its owner's.
        self._pools: list[tuple[DescriptorPool, set[str]]] = []
        self._failures: list[str] = []
        self._names: set[str] = set()
        for root in roots:
            try:
                files = compiled(root / "protos", sources(root / "protos"))
                self._pools.append((_pool(files), _copied(root)))
            except (Failed, Refused) as failure:
                self._failures.append(failure.format_message())
                continue
            for file in files:
                short = {message.name for message in file.message_type}
                self._names |= short | {f"{file.package}.{name}" for name in short}
        self._problem = ""
        if not self._pools:
            self._problem = "; ".join(self._failures) or (
                "no contract: run this inside the service's repository, or name it with --contract"
            )

    @property
    def problem(self) -> str:
        """Why nothing at all can be decoded; empty if something can."""
        return self._problem

    def _find(self, type: str) -> tuple[DescriptorPool, Any]:
        """What declares `type`, an owner's contract before copies. Raises NotDecoded."""
        found = None
        for pool, copied in self._pools:
            with suppress(KeyError):
                descriptor = pool.FindMessageTypeByName(type)
                if descriptor.file.name not in copied:
                    return pool, descriptor
                found = found or (pool, descriptor)
        if found is None:
            why = [f"no contract in {self._where} has {type!r}", *self._failures]
            raise NotDecoded("; ".join(why))
        return found

    def declare(self, type: str) -> bool:
        """Whether a contract has a message `type`, by its full or its short name."""
        return type in self._names

    def decode(self, type: str, data: bytes) -> tuple[Any, list[int]]:
        """The event as protobuf JSON, and the numbers of fields that the contract does not know.

        Raises NotDecoded.
        """
        if self._problem:
            raise NotDecoded(self._problem)
        pool, descriptor = self._find(type)
        try:
            event: Any = GetMessageClass(descriptor).FromString(data)
        except DecodeError:
            raise NotDecoded(f"these bytes are no {type}") from None
        try:
            shown = json_format.MessageToDict(event, descriptor_pool=pool)
        # An Any of an unknown type is a TypeError, a Struct of no number a ValueError.
        except (json_format.Error, TypeError, ValueError) as error:
            raise NotDecoded(f"{type} has no JSON form: {error}") from None
        unknown: Any = UnknownFieldSet(event)
        return shown, sorted({field.field_number for field in unknown})


def _pool(files: Iterable[Any]) -> DescriptorPool:
    pool = DescriptorPool()
    for file in files:
        pool.Add(file)
    return pool


def _copied(root: Path) -> set[str]:
    """The files of other services' contracts; none if `root` is no generated repository."""
    if not (root / manifests.PATH).is_file():
        return set()
    return copies(manifests.read(root))


@cache
def stored(name: str) -> Any:
    """The class of a message of factfold/v1/fact.proto: FactMeta, DeadLetter, …"""
    pool = _pool(compiled(PROTOS, ["factfold/v1/fact.proto"]))
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
