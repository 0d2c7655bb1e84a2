"""Copies another service's contract into a repository, with a fold and a reaction to start from."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factfold_cli import manifest as manifests
from factfold_cli.contract import Contract, contracts
from factfold_cli.errors import Refused
from factfold_cli.hooks import hook
from factfold_cli.render import variables
from factfold_cli.templates import template

LONGEST_NAME = 60


def subscribe(root: Path, source: Path, home: Path) -> list[str]:
    """Subscribes the repository `root` to the one in `source`; returns the paths it wrote.

    `home` is the folder that `root` has or is going to have: the source is recorded relative to it.
    Raises Refused, or Failed if a contract does not compile; then `root` is as it was.
    """
    ours, theirs = manifests.read(root), manifests.read(source)
    if source.resolve() in (root.resolve(), home.resolve()):
        raise Refused(f"{str(source)!r} is this service itself; subscribe to another one")
    name = theirs["answers"]["service_slug"]
    if any(known["name"] == name for known in ours["subscriptions"]):
        raise Refused(f"{name!r} is subscribed already; its contract stays as it is")
    own, foreign = _contract(root, ours), _contract(source, theirs)
    if own.stream == foreign.stream:
        raise Refused(
            f"{str(source)!r} has a stream {foreign.stream!r} as this service has; rename one"
        )
    copied = {
        f"protos/{path}": (source / "protos" / path).read_bytes()
        for path in (foreign.path, *foreign.imports)
    }
    for path, content in copied.items():
        if (root / path).exists() and (root / path).read_bytes() != content:
            raise Refused(f"{path!r} exists and comes from elsewhere; move it first")
    written = copied | _parts(root, ours, theirs, foreign)
    _write(
        root,
        ours,
        written,
        set(copied),
        {
            "contract": {path: hashlib.sha256(copied[path]).hexdigest() for path in copied},
            "name": name,
            "source": Path(os.path.relpath(source.resolve(), home.resolve())).as_posix(),
        },
    )
    return sorted(written)


def _contract(root: Path, manifest: Mapping[str, Any]) -> Contract:
    """The contract of the repository's own stream, with the event that the parts speak of."""
    copies = {path for known in manifest["subscriptions"] for path in known["contract"]}
    event = f"{manifest['answers']['aggregate']}Created"
    for contract in contracts(root):
        if f"protos/{contract.path}" not in copies and {"id", "name"} <= contract.messages.get(
            event, frozenset()
        ):
            return contract
    raise Refused(
        f"{str(root)!r} has no event {event!r} with the strings id and name, which the fold and the"
        " reaction would be made for; write them yourself"
    )


def _parts(
    root: Path, ours: Mapping[str, Any], theirs: Mapping[str, Any], contract: Contract
) -> dict[str, bytes]:
    """The files that a subscription adds, by path, under names that are free in `root`."""
    package = [word for word in contract.package.split(".") if not re.fullmatch(r"v\d+\w*", word)]
    if not package or not all(word.isidentifier() for word in _stubs(contract).split(".")):
        raise Refused(f"{contract.path!r} is no path of a Python module; rename it there")
    ident = package[-1]
    for prefix in ("", f"{ident}_"):
        made = _rendered(ours, theirs, contract, ident, prefix)
        taken = [path for path in made if (root / path).exists()]
        if not taken:
            return made
    raise Refused(f"{taken[0]!r} exists and stays as it is; rename it first")


def _rendered(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], contract: Contract, ident: str, prefix: str
) -> dict[str, bytes]:
    from cookiecutter.utils import create_env_with_context

    their = variables(ours["language"], theirs["answers"])
    our = variables(ours["language"], ours["answers"])
    one, many = their["__aggregate_snake"], their["__plural_snake"]
    context = {
        "cookiecutter": our,
        "theirs": {
            "aggregate": their["aggregate"],
            "ident": ident,
            "name": their["service_slug"],
            "one": (prefix + one)[:LONGEST_NAME].rstrip("_"),
            "many": (prefix + many)[:LONGEST_NAME].rstrip("_"),
            "stubs": _stubs(contract),
        },
    }
    env = create_env_with_context(context)
    parts = template(ours["language"]) / "parts" / "subscription"
    return {
        env.from_string(path.relative_to(parts).as_posix()).render(context): env.from_string(
            path.read_text(encoding="utf-8")
        )
        .render(context)
        .encode()
        for path in sorted(parts.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _stubs(contract: Contract) -> str:
    """The module that protoc makes of the contract."""
    return contract.path.removesuffix(".proto").replace("-", "_").replace("/", ".") + "_pb2"


def _write(
    root: Path,
    manifest: dict[str, Any],
    written: Mapping[str, bytes],
    copied: set[str],
    subscription: Mapping[str, Any],
) -> None:
    zones = variables(manifest["language"], {})["_zones"]
    zone_of = hook(manifest["language"], "post_gen_project").zone_of
    new = [path for path in written if not (root / path).exists()]
    absent = {folder for path in new for folder in (root / path).parents if not folder.exists()}
    try:
        for path in new:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(written[path])
        files = manifest["files"] | {
            path: manifests.entry(
                root, manifest, path, "tool" if path in copied else zone_of(path, zones)
            )
            for path in written
        }
        subscriptions = [*manifest["subscriptions"], subscription]
        manifests.write(
            root,
            manifest
            | {
                "files": files,
                "subscriptions": sorted(subscriptions, key=lambda each: str(each["name"])),
            },
        )
    except BaseException:
        for path in new:
            (root / path).unlink(missing_ok=True)
        for folder in sorted(absent, reverse=True):
            if folder.exists():
                folder.rmdir()
        raise
