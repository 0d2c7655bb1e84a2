"""The contract that a service itself gives to others, as descriptors: present or frozen."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from factfold_cli.contract import DEFAULT_PARTITIONS, Annotations, compiled, sources
from factfold_cli.declared import copies
from factfold_cli.errors import Refused

# What comes with protoc and with the chassis: newer ones are no change of the contract.
_TOOLS = ("google/", "factfold/")
# Numbers of fields of google.protobuf.FileDescriptorProto.
_MESSAGE, _OPTIONS = 4, 8


class Stream(NamedTuple):
    """A stream as its contract declares it."""

    name: str
    partitions: int
    versioned: bool


class Event(NamedTuple):
    """An event: where it is declared, and number and name of the string fields that are its key."""

    name: str
    path: str
    keys: tuple[tuple[int, str], ...]


class OwnContract:
    """The .proto files of one service, without the copies of other services' contracts."""

    def __init__(self, files: Iterable[FileDescriptorProto], own: Sequence[str]) -> None:
        """`files` are the own ones behind all that they import, `own` the paths of the former."""
        self.files = list(files)
        self.own = sorted(own)
        self._annotations = Annotations(self.files)
        self.pool = self._annotations.pool

    def descriptor_set(self, *, source_info: bool = False) -> bytes:
        """A FileDescriptorSet of all files; without source info it is always the same."""
        return (
            FileDescriptorSet(file=self.files).SerializeToString()
            if source_info
            else _set(self.files)
        )

    def same_as(self, other: "OwnContract") -> bool:
        """Whether both say the same, whatever their comments and their tools."""
        return self.own == other.own and self._said() == other._said()

    def _said(self) -> bytes:
        return _set(file for file in self.files if not file.name.startswith(_TOOLS))

    def message(self, name: str) -> Any:
        """The Descriptor of the message with the full name `name`, or None."""
        try:
            return self.pool.FindMessageTypeByName(name)
        except KeyError:
            return None

    def enum(self, name: str) -> Any:
        """The EnumDescriptor of the enum with the full name `name`, or None."""
        try:
            return self.pool.FindEnumTypeByName(name)
        except KeyError:
            return None

    @cached_property
    def services(self) -> list[str]:
        """Full names of the own services."""
        return [
            f"{file.package}.{service.name}".lstrip(".")
            for file in self._own_files()
            for service in file.service
        ]

    @cached_property
    def streams(self) -> Mapping[str, Stream]:
        """The own streams, by the path of the file."""
        return {
            file.name: Stream(said.name, said.partitions or DEFAULT_PARTITIONS, said.versioned)
            for file in self._own_files()
            if (said := self._annotations.stream(file)) is not None
        }

    @cached_property
    def events(self) -> Mapping[str, Event]:
        """The events of the own streams, by their full names."""
        events = [
            Event(
                f"{file.package}.{message.name}".lstrip("."),
                file.name,
                tuple(
                    (field.number, field.name)
                    for field in message.field
                    if self._annotations.of(field, "key")
                    and field.type == field.TYPE_STRING
                    and field.label != field.LABEL_REPEATED
                ),
            )
            for file in self._own_files()
            if file.name in self.streams
            for message in file.message_type
            if self._annotations.of(message, "event") is not None
        ]
        return {event.name: event for event in events}

    def locations(self, path: str) -> list[Any]:
        """Where each part of the file `path` is written, as descriptor.proto has it."""
        return [
            location
            for file in self.files
            if file.name == path
            for location in file.source_code_info.location
        ]

    def line_of_message(self, path: str, name: str) -> int | None:
        """The line of the top-level message with the full name `name`, from 1."""
        messages = self.pool.FindFileByName(path).message_types_by_name.values()
        names = [message.full_name for message in messages]
        return self._line(path, [_MESSAGE, names.index(name)]) if name in names else None

    def line_of_option(self, path: str, name: str) -> int | None:
        """The line of our option `name` of the file `path`, from 1."""
        number = self.pool.FindExtensionByName(f"factfold.v1.{name}").number
        return self._line(path, [_OPTIONS, number])

    def _line(self, path: str, place: list[int]) -> int | None:
        lines = (
            location.span[0] + 1
            for location in self.locations(path)
            if list(location.path[: len(place)]) == place
        )
        return min(lines, default=None)

    def _own_files(self) -> list[FileDescriptorProto]:
        return [file for file in self.files if file.name in self.own]


def present(root: Path, manifest: Mapping[str, Any]) -> OwnContract:
    """The own contract of the repository `root` as it is written now.

    Raises Failed if it does not compile, Refused if there is none.
    """
    protos = root / "protos"
    theirs = copies(manifest)
    own = [path for path in sources(protos) if path not in theirs]
    if not own:
        raise Refused(f"{str(root)!r} has no contract of its own: no .proto file in protos/")
    return OwnContract(compiled(protos, own, source_info=True), own)


def _set(files: Iterable[FileDescriptorProto]) -> bytes:
    bare = []
    for file in files:
        copy = FileDescriptorProto.FromString(file.SerializeToString())
        copy.ClearField("source_code_info")
        bare.append(copy)
    return FileDescriptorSet(file=bare).SerializeToString(deterministic=True)
