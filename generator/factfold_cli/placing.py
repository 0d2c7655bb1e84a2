"""Puts files into a generated repository, all of them or none, and tells the manifest."""

import errno
import fcntl
import hashlib
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from factfold_cli import manifest as manifests
from factfold_cli.errors import Failed, Refused
from factfold_cli.hooks import hook
from factfold_cli.render import ended_as_interrupt, variables

_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """No other factfold changes the repository `root` meanwhile; SIGTERM ends this as Ctrl-C does.

    Raises Refused if another one is at it.
    """
    folder = os.open(root / manifests.PATH.parent, os.O_RDONLY)
    try:
        with ended_as_interrupt():
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Refused(
                    f"another factfold is changing {str(root)!r}; run this once it has ended"
                ) from error
            except OSError:
                pass  # a file system without locks
            yield
    finally:
        os.close(folder)


def with_entries(
    manifest: Mapping[str, Any], files: Mapping[str, bytes | None], tool: set[str] | None = None
) -> dict[str, Any]:
    """The manifest that also knows of `files` (path → content, None: gone).

    Those in `tool` are in the zone "tool", whatever the template's patterns say.
    """
    zones = variables(manifest["language"], {})["_zones"]
    zone_of = hook(manifest["language"], "post_gen_project").zone_of
    known = {path: entry for path, entry in manifest["files"].items() if path not in files}
    for path, content in files.items():
        if content is not None:
            known[path] = {
                "sha256": hashlib.sha256(content).hexdigest(),
                "zone": "tool" if path in (tool or ()) else zone_of(path, zones),
            }
    return {**manifest, "files": known}


def place(root: Path, files: Mapping[str, bytes | None], manifest: Mapping[str, Any]) -> None:
    """Writes `files` below `root` (None: removes the file), and the manifest.

    Whatever fails, `root` is as it was.
    """
    # Behind links: those stay what they are.
    last = manifests.PATH.as_posix()
    targets = {path: (root / path).resolve() for path in (*files, last)}
    absent = {folder for path in files for folder in (root / path).parents if not folder.exists()}
    with (
        ended_as_interrupt(),
        TemporaryDirectory(prefix="new-", dir=root / manifests.PATH.parent) as work,
    ):
        # What needs room on the disk comes first: to put things back takes none.
        new = {path: Path(work, f"{at}.new") for at, path in enumerate(files)}
        old = {path: Path(work, f"{at}.old") for at, path in enumerate(targets)}
        for path, target in targets.items():
            if target.is_file():
                shutil.copy2(target, old[path])
        for path, content in files.items():
            if content is not None:
                new[path].write_bytes(content)
                if targets[path].is_file():
                    shutil.copymode(targets[path], new[path])
        with _uninterrupted():
            done: list[str] = []
            try:
                for path, content in files.items():
                    _move(new[path] if content is not None else None, targets[path])
                    done.append(path)
                manifests.write(root, manifest)
                done.append(last)
                if signal.sigpending() & _ENDING:
                    raise KeyboardInterrupt
            except BaseException:
                for path in done:
                    _move(old[path] if old[path].exists() else None, targets[path])
                for folder in sorted(absent, reverse=True):
                    if folder.exists():
                        folder.rmdir()
                raise


@contextmanager
def protos_with(root: Path, files: Mapping[str, bytes | None]) -> Iterator[Path]:
    """A copy of `root`/protos that has `files` already (path below `root` → content, None: not).

    What fails to compile there is said to be in `root`.
    """
    with TemporaryDirectory() as folder:
        shutil.copytree(root / "protos", Path(folder) / "protos")
        for path, content in files.items():
            _put(Path(folder) / path, content)
        try:
            yield Path(folder) / "protos"
        except Failed as error:
            raise Failed(error.message.replace(folder, str(root))) from error


def unix(content: bytes) -> bytes:
    """`content` with the line ends that the repository has, whatever git gave the checkout."""
    return content.replace(b"\r\n", b"\n")


def same(path: Path, content: bytes) -> bool:
    """Whether the file at `path` has that content, whatever its line ends."""
    return path.is_file() and unix(path.read_bytes()) == content


def _move(source: Path | None, target: Path) -> None:
    if source is None:
        target.unlink(missing_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            # Named is what the user knows, and not the copy.
            raise OSError(error.errno, error.strerror, str(target)) from error
        shutil.copy2(source, target)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """A signal that would end the process waits until the block, a short one, is through."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _put(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
