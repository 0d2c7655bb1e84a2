"""Makes a repository match its contract: what is missing is written, what is there is left."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from factfold_cli import manifest as manifests
from factfold_cli.declared import Declared, copies, declared
from factfold_cli.languages import of
from factfold_cli.leftovers import leftovers
from factfold_cli.missing_folds import missing_folds, unfolded
from factfold_cli.missing_handlers import missing_handlers
from factfold_cli.placing import place, with_entries
from factfold_cli.products import products
from factfold_cli.render import starter_contract
from factfold_cli.repository import Repository

SCAFFOLDED = "scaffolded"


@dataclass(frozen=True)
class Synced:
    """What a sync did, or would do.

    `written` are the paths of files that were written or removed, sorted; `notes` are lines on
    what the contract no longer has, and on what the team has to write itself.
    """

    written: list[str]
    notes: list[str]


def scaffold(root: Path, *, check: bool = False) -> Synced:
    """Makes the repository `root` match its contract; with `check`, only says what that takes.

    Raises Refused, or Failed if the contract does not compile; then `root` is as it was.
    """
    return carry_out(root, manifests.read(root), {}, root / "protos", check=check)


def carry_out(
    root: Path,
    manifest: Mapping[str, Any],
    copied: Mapping[str, bytes | None],
    protos: Path,
    *,
    check: bool,
) -> Synced:
    """The same, with the files `copied` (None: removed) of other services' contracts as well.

    `protos` has them already, and `manifest` knows of them.
    """
    language = of(manifest["language"])
    known = declared(protos, copies(manifest))
    repository = Repository(root, manifest, known, language.code(root))
    notes = [*leftovers(repository), *language.unwired(repository)]
    tool = products(root, manifest, known)
    team: dict[str, bytes] = {}
    for files in missing_handlers(repository, notes):
        team |= _new(repository, files, team, notes)
    wanted = unfolded(repository)
    before = _offered(manifest, known) if wanted or SCAFFOLDED in manifest else set()
    wanted = [each for each in wanted if each[1] not in before]
    offered = set(before)
    folds = list(missing_folds(repository, wanted, notes))
    for fold in folds:
        offered.add(fold.event)
        team |= _new(repository, language.fold(repository, fold), team, notes)
    team |= language.wired(repository, folds)
    changed: dict[str, bytes | None] = {**copied, **tool, **team}
    after = with_entries(manifest, changed, {*copied, *tool})
    if SCAFFOLDED in manifest or offered != before:
        after[SCAFFOLDED] = sorted(offered)
    written = [*changed]
    if after != manifests.written(root):
        written.append(manifests.PATH.as_posix())
    if written and not check:
        place(root, changed, after)
    return Synced(sorted(written), notes)


def _new(
    repository: Repository,
    files: Mapping[str, bytes],
    others: Mapping[str, bytes],
    notes: list[str],
) -> dict[str, bytes]:
    """`files` without tests that are there, or that were there until the team deleted them."""
    new: dict[str, bytes] = {}
    for path, content in files.items():
        if not repository.language.is_test(path):
            new[path] = content
        elif path in others or (repository.root / path).exists():
            if path not in repository.manifest["files"]:
                first, *_ = files
                notes.append(
                    f"{path}: exists and stays as it is; write a test of {first} elsewhere"
                )
        elif path not in repository.manifest["files"]:
            new[path] = content
    return new


def _offered(manifest: Mapping[str, Any], known: Declared) -> set[str]:
    """The events of the contract that were scaffolded before."""
    events = {event for stream in known.streams.values() for event in stream.events}
    if SCAFFOLDED in manifest:
        return events & set(manifest[SCAFFOLDED])
    # Made by `new`, and no fold was scaffolded since: the starter's own.
    with TemporaryDirectory() as made:
        (Path(made) / "contract.proto").write_bytes(
            starter_contract(manifest["language"], manifest["answers"])
        )
        starter = declared(Path(made), set())
    return {event for stream in starter.streams.values() for event in stream.events} & events
