"""Copies another service's contract into a repository, with a fold and a reaction to start from."""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from factfold_cli import manifest as manifests
from factfold_cli.contract import Contract, contracts, stubs
from factfold_cli.declared import Declared, copies, declared
from factfold_cli.documents import documents
from factfold_cli.errors import Refused
from factfold_cli.languages import go_subscription, of
from factfold_cli.parts import rendered
from factfold_cli.placing import place, protos_with, same, unix, with_entries
from factfold_cli.products import products
from factfold_cli.render import variables
from factfold_cli.shims import ident, shim

LONGEST_NAME = 60


def subscribe(root: Path, source: Path, home: Path, *, dry_run: bool = False) -> list[str]:
    """Subscribes the repository `root` to the one in `source`; returns the paths it wrote.

    With `dry_run` those that it would write. `home` is the folder that `root` has or is going to
    have: the source is recorded relative to it.
    Raises Refused, or Failed if a contract does not compile; then `root` is as it was.
    """
    ours, theirs = manifests.read(root), manifests.read(source)
    of(ours["language"])  # refuses one that no code is written in
    parts, made_of = _LANGUAGES[ours["language"]]
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
        f"protos/{path}": unix((source / "protos" / path).read_bytes())
        for path in (foreign.path, *foreign.imports)
    }
    for path, content in copied.items():
        if (root / path).exists() and not same(root / path, content):
            raise Refused(f"{path!r} exists and comes from elsewhere; move it first")
    written = copied | parts(root, ours, theirs, foreign)
    subscription = {
        "contract": {path: hashlib.sha256(copied[path]).hexdigest() for path in copied},
        "name": name,
        "source": Path(os.path.relpath(source.resolve(), home.resolve())).as_posix(),
    }
    subscriptions = sorted(
        [*ours["subscriptions"], subscription], key=lambda each: str(each["name"])
    )
    manifest = ours | {"subscriptions": subscriptions}
    with protos_with(root, copied) as protos:
        made = made_of(root, manifest, declared(protos, copies(manifest)))
    written |= made
    if not dry_run:
        place(root, written, with_entries(manifest, written, {*copied, *made}))
    return sorted(written)


def _contract(root: Path, manifest: Mapping[str, Any]) -> Contract:
    """The contract of the repository's own stream, with the event that the parts speak of."""
    theirs = copies(manifest)
    event = f"{manifest['answers']['aggregate']}Created"
    for contract in contracts(root):
        if contract.path not in theirs and {"id", "name"} <= contract.messages.get(
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
    name = ident(contract.package)
    if not name or not all(word.isidentifier() for word in stubs(contract.path).split(".")):
        raise Refused(f"{contract.path!r} is no path of a Python module; rename it there")
    for prefix in ("", f"{name}_"):
        made = _rendered(ours, theirs, contract, prefix)
        taken = [path for path in made if (root / path).exists()]
        if not taken:
            return made
    raise Refused(f"{taken[0]!r} exists and stays as it is; rename it first")


def _rendered(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], contract: Contract, prefix: str
) -> dict[str, bytes]:
    their = variables(ours["language"], theirs["answers"])
    our = variables(ours["language"], ours["answers"])
    service = their["service_slug"]
    one, many = their["__aggregate_snake"], their["__plural_snake"]
    context = {
        "cookiecutter": our,
        "theirs": {
            "aggregate": their["aggregate"],
            "ident": ident(contract.package),
            "name": service,
            "one": (prefix + one)[:LONGEST_NAME].rstrip("_"),
            "many": (prefix + many)[:LONGEST_NAME].rstrip("_"),
        },
    }
    language = ours["language"]
    return rendered(language, "subscription", context) | shim(
        language, service, contract.path, contract.package
    )


def _documents(root: Path, manifest: Mapping[str, Any], known: Declared) -> dict[str, bytes]:
    made = documents(manifest, known)
    return {path: content for path, content in made.items() if not same(root / path, content)}


# What a subscription adds in each language, and which files follow from the contracts alone.
_Parts = Callable[[Path, Mapping[str, Any], Mapping[str, Any], Contract], dict[str, bytes]]
_Products = Callable[[Path, Mapping[str, Any], Declared], dict[str, bytes]]
_LANGUAGES: Mapping[str, tuple[_Parts, _Products]] = {
    "go": (go_subscription.parts, _documents),
    "python": (_parts, products),
}
