"""What a contract declares, read from the descriptors that protoc makes of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from factfold_cli.contract import DEFAULT_PARTITIONS, Annotations, compiled, sources


@dataclass(frozen=True)
class Rpc:
    """One RPC. `request` and `response` are full names of messages.

    `kind` is that of the handler which the chassis wants: "command", "query" or "watch"; None if
    it has none for such an RPC. `file` is the path of the file that declares it.
    """

    name: str
    full_name: str
    service: str
    request: str
    response: str
    kind: str | None
    file: str


@dataclass(frozen=True)
class Stream:
    """The stream that a file declares. `events` maps full names to names of key fields."""

    file: str
    name: str
    partitions: int
    versioned: bool
    events: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Declared:
    """All .proto files of a repository, and what they import, compiled.

    `files` are FileDescriptorProtos with comments by path below protos/, `own` the paths of the
    files which are no copies of another service's contract.
    """

    files: Mapping[str, Any]
    own: tuple[str, ...]

    @cached_property
    def messages(self) -> dict[str, tuple[str, Any]]:
        """Path of the file and DescriptorProto of each message, by full name, also of nested."""
        return {
            name: (path, message)
            for path, file in self.files.items()
            for name, message in _messages(file.package, file.message_type)
        }

    @cached_property
    def annotations(self) -> Annotations:
        return Annotations(list(self.files.values()))

    @cached_property
    def streams(self) -> dict[str, Stream]:
        """By the path of the file that declares it."""
        return dict(_streams(self.files, self.annotations))

    @cached_property
    def passed_on(self) -> tuple[str, ...]:
        """The files whose messages the module `service.contract` has.

        Those of a package with a stream or an RPC of the service: others, such as a vendored file,
        keep to their own modules.
        """
        packages = {
            self.files[path].package
            for path in self.own
            if path in self.streams or self.files[path].service
        }
        return tuple(path for path in self.own if self.files[path].package in packages)

    @cached_property
    def rpcs(self) -> list[Rpc]:
        """Those that the service answers, in the order of its contract."""
        return [rpc for path in self.own for rpc in rpcs(self.files[path])]

    @cached_property
    def documented(self) -> tuple[str, ...]:
        """`passed_on`, and behind it what else of `own` those files need."""
        found = list(self.passed_on)
        for path in found:
            needed = self.files[path].dependency
            found.extend(name for name in needed if name in self.own and name not in found)
        return tuple(found)

    def python_name(self, message: str) -> str:
        """The name of a message in the module that protoc makes of its file."""
        package = self.files[self.messages[message][0]].package
        return message.removeprefix(f"{package}.")


def declared(protos: Path, copies: set[str]) -> Declared:
    """Compiles all files below `protos`; raises Failed if they have an error.

    `copies` are the paths below it of other services' files.
    """
    paths = sources(protos)
    files = {file.name: file for file in compiled(protos, paths, source_info=True)}
    return Declared(files, tuple(path for path in paths if path not in copies))


def copies(manifest: Mapping[str, Any]) -> set[str]:
    """The paths below protos/ of the files that came with subscriptions."""
    return {
        path.removeprefix("protos/")
        for known in manifest["subscriptions"]
        for path in known["contract"]
    }


def subscribed(manifest: Mapping[str, Any], known: Declared) -> dict[str, str]:
    """The path below protos/ of the contract of each service that is subscribed to, by its name.

    What was copied beside it because it imports it, a stream of a third service say, is not it.
    """
    found: dict[str, str] = {}
    for subscription in manifest["subscriptions"]:
        copied = {path.removeprefix("protos/") for path in subscription["contract"]}
        there = copied & known.files.keys()
        imported = {name for path in there for name in known.files[path].dependency}
        for path in there - imported:
            if path in known.streams:
                found[subscription["name"]] = path
    return found


def rpcs(file: Any) -> Iterator[Rpc]:
    """Those of a FileDescriptorProto."""
    for service in file.service:
        for method in service.method:
            full_name = f"{file.package}.{service.name}".strip(".")
            yield Rpc(
                method.name,
                f"{full_name}.{method.name}",
                service.name,
                method.input_type.strip("."),
                method.output_type.strip("."),
                _kind(method),
                file.name,
            )


def _kind(method: Any) -> str | None:
    if method.client_streaming:
        return None
    if method.server_streaming:
        return "watch"
    return "query" if method.options.idempotency_level == 1 else "command"  # NO_SIDE_EFFECTS


def _messages(prefix: str, found: Any) -> Iterator[tuple[str, Any]]:
    for message in found:
        name = f"{prefix}.{message.name}".strip(".")
        yield name, message
        yield from _messages(name, message.nested_type)


def _streams(files: Mapping[str, Any], annotations: Annotations) -> Iterator[tuple[str, Stream]]:
    for path, file in files.items():
        if (stream := annotations.stream(file)) is None:
            continue
        events = {
            f"{file.package}.{message.name}".strip("."): next(
                (each.name for each in message.field if annotations.of(each, "key")), ""
            )
            for message in file.message_type
            if annotations.of(message, "event") is not None
        }
        partitions = stream.partitions or DEFAULT_PARTITIONS
        yield path, Stream(path, stream.name, partitions, stream.versioned, events)
