"""How something is added: the contract edited, files written, both followed by a sync."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factfold_cli import manifest as manifests
from factfold_cli.contract import compiled
from factfold_cli.contract_edit import Edit
from factfold_cli.declared import Declared, Stream, copies, declared
from factfold_cli.errors import Failed, Refused
from factfold_cli.languages import of
from factfold_cli.placing import alone, place, with_entries
from factfold_cli.proto_text import ProtoText
from factfold_cli.repository import Repository
from factfold_cli.scaffold import scaffold
from factfold_cli.working_copy import working_copy


@dataclass(frozen=True)
class Added:
    """What an addition did, or would do.

    `changed` maps files of the contract, and others of the team, to what changed, as lines of a
    diff; `written` are the paths of all others that are new or made anew; `following` is what to do
    then, with the files that fail until the team has written them; `notes` are lines on what else
    it may want to do.
    """

    written: list[str]
    changed: Mapping[str, list[str]]
    following: list[str]
    notes: list[str]


class Adding:
    """A repository to which something is being added; all is written to the copy `root`.

    `notes` are lines for the team on what it may want to do.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes: list[str] = []
        self.read()

    def read(self) -> None:
        """Looks at the repository as it now is."""
        manifest = manifests.read(self.root)
        known = declared(self.root / "protos", copies(manifest))
        self.language = str(manifest["language"])
        self.answers: Mapping[str, str] = manifest["answers"]
        code = of(self.language).code(self.root)
        self.repository = Repository(self.root, manifest, known, code)

    @property
    def known(self) -> Declared:
        """What the contracts declare."""
        return self.repository.known

    @property
    def own_files(self) -> list[Any]:
        """The FileDescriptorProtos of the service's own contract."""
        return [self.known.files[path] for path in self.known.own]

    @property
    def stream(self) -> Stream:
        """The service's own; raises Refused if it has none."""
        for stream in self.repository.own_streams:
            return stream
        raise Refused(
            f"{str(self.root)!r} has no contract of its own with a stream; give one below protos"
            " the option (factfold.v1.stream)"
        )

    def edit(self, path: str) -> Edit:
        """The file at `path` below protos/, to be changed."""
        content = (self.root / "protos" / path).read_bytes()
        files = compiled(self.root / "protos", [path], source_info=True)
        (file,) = (file for file in files if file.name == path)
        events = {event for stream in self.repository.own_streams for event in stream.events}
        return Edit(ProtoText(content, file), events)

    def write_contract(self, path: str, edit: Edit) -> None:
        """Puts the edited file in its place; raises Failed if it is not what was meant."""
        (self.root / "protos" / path).write_bytes(edit.content())
        try:
            files = compiled(self.root / "protos", [path], source_info=True)
        except Failed as error:
            why = error.message.partition("does not compile: ")[2]
            raise Failed(
                f"with what was asked for the contract does not compile, and nothing was changed:"
                f" {why}"
            ) from error
        (file,) = (file for file in files if file.name == path)
        if not edit.is_all_of(file):
            raise Failed(
                f"{f'protos/{path}'!r} is laid out in a way that this cannot be put into, and"
                " nothing was changed; edit it by hand, then run factfold sync"
            )
        self.read()

    def write(self, files: Mapping[str, bytes], changed: Mapping[str, bytes] | None = None) -> None:
        """New files, and `changed` ones of the team; raises Refused if one of the new exists."""
        self.check_absent(*files)
        files = {**files, **(changed or {})}
        place(self.root, files, with_entries(self.repository.manifest, files))
        self.read()

    def check_absent(self, *paths: str) -> None:
        """Raises Refused if there is a file at one of `paths`."""
        for path in paths:
            # A package of that name would hide the module.
            for each in (path, path.removesuffix(".py")):
                if (self.root / each).exists():
                    raise Refused(f"{each!r} exists and stays as it is; choose another name")


def add(root: Path, addition: Callable[[Adding], None], *, dry_run: bool) -> Added:
    """Carries out `addition` on the repository `root`, then a sync; with `dry_run` on a copy alone.

    Raises Refused or Failed; then `root` is as it was.
    """
    with alone(root), working_copy(root) as copy:
        adding = Adding(copy.folder)
        addition(adding)
        synced = scaffold(copy.folder)
        language = of(adding.language)
        changes = copy.changes()
        if not dry_run:
            copy.take_over()
    files = adding.repository.manifest["files"]
    edited = {
        path: content
        for path, content in changes.items()
        if path.startswith("protos/")
        or (path in copy.before and files.get(path, {}).get("zone") == "team")
    }
    new = [path for path in changes if path not in copy.before]
    written = [path for path in changes if path not in edited]
    tests = [path for path in written if path in new and language.is_test(path)]
    to_write = [path for path in new if language.unwritten in (changes[path] or b"")]
    run_tests = [language.run_tests(tests)] if tests else []
    return Added(
        written,
        {
            path: _diff(copy.before.get(path, b""), content or b"")
            for path, content in edited.items()
        },
        [
            language.make_stubs(root),
            *(f"write {path}" for path in to_write),
            *run_tests,
        ],
        [*adding.notes, *synced.notes],
    )


def _diff(before: bytes, after: bytes) -> list[str]:
    """What changed, with two lines around it, without line ends."""
    old, new = (text.decode(errors="replace").splitlines() for text in (before, after))
    return list(difflib.unified_diff(old, new, n=2, lineterm=""))[2:]
