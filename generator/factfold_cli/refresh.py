"""Takes over a newer version of a contract that the repository subscribes to."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from factfold_cli import manifest as manifests
from factfold_cli.contract import Contract, contracts
from factfold_cli.declared import copies, declared
from factfold_cli.differences import differences
from factfold_cli.errors import Refused
from factfold_cli.placing import protos_with, same, unix
from factfold_cli.shims import ident


@dataclass(frozen=True)
class Refreshed:
    """The newer version of the contract of the service `name`.

    `files` are contents by path (None: removed) of what differs, `protos` is a folder that has
    them among the others, `manifest` knows of them; `changes` are lines on what is different.
    """

    name: str
    files: Mapping[str, bytes | None]
    protos: Path
    manifest: Mapping[str, Any]
    changes: list[str]


@contextmanager
def refreshed(root: Path, source: Path) -> Iterator[Refreshed]:
    """Reads the contract of the service in `source`; writes nothing below `root`.

    Raises Refused if `root` does not subscribe to it, or has edited its copy.
    """
    ours, theirs = manifests.read(root), manifests.read(source)
    if source.resolve() == root.resolve():
        raise Refused(f"{str(source)!r} is this service itself; name one that it subscribes to")
    name = theirs["answers"]["service_slug"]
    known = next((each for each in ours["subscriptions"] if each["name"] == name), None)
    if known is None:
        raise Refused(
            f"{name!r} is not subscribed; to do so: factfold add subscription {quote(str(source))}"
        )
    for path, digest in known["contract"].items():
        _check_unedited(root / path, path, digest)
    old = {path.removeprefix("protos/") for path in known["contract"]}
    found = _contract(root, source, old, copies(theirs))
    new = (found.path, *found.imports)
    others = copies({"subscriptions": [each for each in ours["subscriptions"] if each != known]})
    files = _changed(root, source, known["contract"], new, others)
    manifest = _manifest(ours, known, new, files)
    with protos_with(root, files) as protos:
        before, after = declared(root / "protos", set()), declared(protos, set())
        # What another subscription has too neither comes nor goes with this one.
        kept = others & before.files.keys()
        changes = differences(before, after, old | kept, kept.union(new))
        yield Refreshed(name, files, protos, manifest, changes)


def _check_unedited(path: Path, shown: str, digest: str) -> None:
    if not path.is_file():
        raise Refused(f"{shown!r} is gone; take it back: git checkout -- {quote(shown)}")
    content = path.read_bytes()
    if digest not in (_digest(content), _digest(unix(content))):
        raise Refused(
            f"{shown!r} was edited here and would be replaced; have it edited at its owner's,"
            f" and take it back: git checkout -- {quote(shown)}"
        )


def _contract(root: Path, source: Path, old: set[str], theirs: set[str]) -> Contract:
    """The contract in `source` of the stream that the copy `old` is of."""
    copied = [each for each in contracts(root) if each.path in old]
    imported = {path for each in copied for path in each.imports}
    copy = next((each for each in copied if each.path not in imported), None)
    if copy is None:
        raise Refused(
            f"the copy of the contract of {str(source)!r} declares no stream; take it back from git"
        )
    for contract in contracts(source):
        if contract.stream == copy.stream and contract.path not in theirs:
            if ident(contract.package) != ident(copy.package):
                raise Refused(
                    f"{str(source)!r} has moved its stream from package {copy.package} to"
                    f" {contract.package}; subscribe anew once the code here does without the old"
                )
            return contract
    raise Refused(
        f"{str(source)!r} has no stream {copy.stream!r} any more; the copy stays as it is"
    )


def _changed(
    root: Path, source: Path, known: Mapping[str, str], new: tuple[str, ...], others: set[str]
) -> dict[str, bytes | None]:
    """What to write and to remove, by path. `others` are the copies of other contracts."""
    files: dict[str, bytes | None] = {}
    for name in new:
        path, content = f"protos/{name}", unix((source / "protos" / name).read_bytes())
        if same(root / path, content) and path in known:
            continue
        if (root / path).exists() and path not in known and not same(root / path, content):
            raise Refused(f"{path!r} exists and comes from elsewhere; move it first")
        files[path] = content
    for path in known:
        name = path.removeprefix("protos/")
        if name not in new and name not in others:
            files[path] = None
    return files


def _manifest(
    ours: Mapping[str, Any],
    known: Mapping[str, Any],
    new: tuple[str, ...],
    files: Mapping[str, bytes | None],
) -> dict[str, Any]:
    digests = {path: _digest(content) for path, content in files.items() if content is not None}
    # What only another contract imports by now is that one's alone.
    needed = {f"protos/{name}" for name in new}
    contract = {path: digest for path, digest in known["contract"].items() if path in needed}
    subscriptions = [
        {**each, "contract": contract | digests}
        if each is known
        # Another contract may import the same file.
        else {
            **each,
            "contract": {
                path: digests.get(path, digest) for path, digest in each["contract"].items()
            },
        }
        for each in ours["subscriptions"]
    ]
    return {**ours, "subscriptions": subscriptions}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
