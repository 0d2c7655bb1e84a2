"""A copy of a repository to work in, so that it changes as a whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from factfold_cli import manifest as manifests
from factfold_cli.errors import Failed, Refused
from factfold_cli.placing import place
from factfold_cli.templates import variable


@dataclass(frozen=True)
class WorkingCopy:
    """The copy `folder` of the repository `root`; `before` are its files as they were copied."""

    root: Path
    folder: Path
    before: Mapping[str, bytes]

    def changes(self) -> dict[str, bytes | None]:
        """What was written since, by path; None: removed. Without the manifest."""
        after: dict[str, bytes | None] = {**_files(self.folder)}
        found = {path: after.get(path) for path in sorted({*after, *self.before})}
        return {
            path: content
            for path, content in found.items()
            if content != self.before.get(path) and path != manifests.PATH.as_posix()
        }

    def take_over(self) -> None:
        """Makes `root` as the copy is, or leaves it as it was.

        Raises Failed if somebody has edited there what would be replaced.
        """
        changes = self.changes()
        for path in (*changes, manifests.PATH.as_posix()):
            there = self.root / path
            if (there.read_bytes() if there.is_file() else None) != self.before.get(path):
                raise Failed(
                    f"{path!r} was edited meanwhile, and nothing was changed; run it again"
                )
        place(self.root, changes, manifests.written(self.folder))


@contextmanager
def working_copy(root: Path) -> Iterator[WorkingCopy]:
    """A copy of what the generator knows of the repository `root`; it is gone afterwards.

    Errors that name the copy name `root` instead.
    """
    manifest = manifests.read(root)
    known = {Path(path).parts[0] for path in (*manifest["files"], str(manifests.PATH))}
    caches = variable(manifest["language"], "_caches")
    with tempfile.TemporaryDirectory(prefix="factfold-") as work:
        folder = Path(work).resolve() / root.resolve().name
        folder.mkdir()
        for path in (each for each in root.iterdir() if each.name in known):
            if path.is_dir():
                # What a link leads to is copied, so that nothing is written behind it.
                shutil.copytree(
                    path,
                    folder / path.name,
                    ignore=shutil.ignore_patterns(*caches),
                    ignore_dangling_symlinks=True,
                )
            elif path.is_file():
                shutil.copy2(path, folder)
        try:
            yield WorkingCopy(root, folder, _files(folder))
        except (Refused, Failed) as error:
            raise type(error)(error.message.replace(str(folder), str(root))) from error


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
