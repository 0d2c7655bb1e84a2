"""The versions of the own contract that a repository has released, frozen in `released/`."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError

from factfold_cli.errors import Failed
from factfold_cli.golden import golden_facts
from factfold_cli.own_contract import OwnContract
from factfold_cli.placing import place, with_entries
from factfold_cli.templates import SHARE

FOLDER = "released"
FORMAT = 1
_OF_VERSION = re.compile(rf"{FOLDER}/(\d{{4}})/.+")
_EXPLAINED = SHARE / "template" / "common" / FOLDER


@dataclass(frozen=True)
class Released:
    """One released version: its number from 1, its contract, and its golden facts."""

    version: int
    contract: OwnContract
    facts: tuple[Mapping[str, Any], ...]


def released(root: Path, manifest: Mapping[str, Any]) -> list[Released]:
    """All released versions, the oldest first.

    Raises Failed if one of their files is not as it was released.
    """
    hashes = {
        path: entry["sha256"]
        for path, entry in manifest["files"].items()
        if _OF_VERSION.fullmatch(path)
    }
    for path in sorted({*hashes, *_found(root)}):
        if wrong := _tampered(root / path, hashes.get(path)):
            raise Failed(f"{path} {wrong}")
    numbers = sorted({path.split("/")[1] for path in hashes})
    return [_read(root / FOLDER / number) for number in numbers]


def _found(root: Path) -> list[str]:
    files = (path.relative_to(root).as_posix() for path in (root / FOLDER).rglob("*"))
    return [path for path in files if _OF_VERSION.fullmatch(path) and (root / path).is_file()]


def _tampered(path: Path, digest: str | None) -> str:
    """How the file at `path` is not what was released with that `digest`, and what to do."""
    if digest is None:
        return "was not released by factfold; move it away, or take the manifest back from git"
    back = "what is released stays; take it back from git"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return f"is gone: {back}"
    if hashlib.sha256(content).hexdigest() == digest:
        return ""
    if hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest() == digest:
        return (
            f"has other line ends than it was released with: {back}, with {FOLDER}/.gitattributes"
        )
    return f"was changed: {back}"


def _read(folder: Path) -> Released:
    try:
        about = json.loads((folder / "release.json").read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise Failed(f"{FOLDER}/{folder.name} was released by a newer factfold; install that")
        files = FileDescriptorSet.FromString((folder / "contract.binpb").read_bytes()).file
        facts = [
            fact
            for path in sorted((folder / "facts").glob("*.json"))
            for fact in json.loads(path.read_text(encoding="utf-8"))
        ]
        return Released(int(folder.name), OwnContract(files, about["own"]), tuple(facts))
    except (OSError, ValueError, LookupError, TypeError, DecodeError) as error:
        raise Failed(
            f"{FOLDER}/{folder.name} is damaged ({error}); take it back from git"
        ) from error


def freeze(
    root: Path, manifest: Mapping[str, Any], contract: OwnContract, version: int
) -> list[str]:
    """Releases `contract` as `version`; returns the paths it wrote.

    Either all of them are there and in the manifest, or the repository is as it was.
    """
    name = f"{FOLDER}/{version:04}"
    frozen = {f"{name}/{path}": content for path, content in _files(contract).items()}
    explained = {
        f"{FOLDER}/{path.name}": path.read_bytes()
        for path in _EXPLAINED.iterdir()
        if not (root / FOLDER / path.name).exists()
    }
    files = frozen | explained
    place(root, files, with_entries(manifest, files))
    return sorted(files)


def _files(contract: OwnContract) -> dict[str, bytes]:
    """The files of a released version by their paths in its folder."""
    about = {"events": sorted(contract.events), "format": FORMAT, "own": contract.own}
    facts = {
        f"facts/{event.name}.json": golden_facts(contract, event)
        for event in contract.events.values()
    }
    documents = {"release.json": about} | facts
    return {"contract.binpb": contract.descriptor_set()} | {
        path: (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
        for path, document in documents.items()
    }
