"""How a generated repository stands: what factfold owns in it, its environment, its stubs."""

import hashlib
import shlex
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from factfold_cli import go_checks, go_stubs, stubs_made
from factfold_cli import manifest as manifests
from factfold_cli.environment_checks import environment
from factfold_cli.errors import Failed, Refused
from factfold_cli.findings import MISSING, OK, WARNING, WRONG, Finding

_MOST_NAMED = 3
# How far back a file is looked for as factfold wrote it.
_MOST_COMMITS = 50


def repository(root: Path, commands: Collection[str]) -> list[Finding]:
    """`commands` are those that this factfold has."""
    try:
        manifest = manifests.read(root)
    except (Failed, Refused) as error:
        return [Finding("repository", "manifest", WRONG, error.format_message())]
    return [
        _generator(manifest),
        _owned(root, manifest),
        *_BUILDS.get(manifest["language"], _nothing)(root),
        *_contract(root, commands),
        *_subscriptions(root, manifest, commands),
    ]


def _generator(manifest: Mapping[str, Any]) -> Finding:
    made, here = str(manifest["generator"]), manifests.release(manifest["language"])
    older = "" if made == here else f", this is {here}"
    return Finding("repository", "factfold", OK, f"made by factfold {made}{older}")


def _owned(root: Path, manifest: Mapping[str, Any]) -> Finding:
    """Tool-owned files are to be as they were written: an update replaces them whole."""
    owned = {
        path: str(entry["sha256"])
        for path, entry in sorted(manifest["files"].items())
        if entry["zone"] == "tool"
    }
    missing = [path for path in owned if not (root / path).is_file()]
    changed = [
        path for path in owned if path not in missing and not _same(root / path, owned[path])
    ]
    if not missing and not changed:
        found = f"{len(owned)} files are as factfold wrote them"
        return Finding("repository", "owned files", OK, found)
    said = [
        *([f"changed: {_named(changed)}"] if changed else []),
        *([f"missing: {_named(missing)}"] if missing else []),
    ]
    mend = _taken_back(root, {path: owned[path] for path in [*changed, *missing]})
    values = {"changed": changed, "missing": missing}
    return Finding("repository", "owned files", WRONG, "; ".join(said), mend, values)


def _same(path: Path, digest: str) -> bool:
    """A checkout may have given it other line ends."""
    raw = path.read_bytes()
    plain = raw.replace(b"\r\n", b"\n")
    return digest in (hashlib.sha256(raw).hexdigest(), hashlib.sha256(plain).hexdigest())


def _named(paths: Sequence[str]) -> str:
    more = len(paths) - _MOST_NAMED
    return ", ".join(paths[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _taken_back(root: Path, owned: Mapping[str, str]) -> str:
    """The commands that take files back from the commit that has them as they were written."""
    of_commit: dict[str, list[str]] = {}
    lost = []
    for path, digest in owned.items():
        commits = _git(root, "log", f"-{_MOST_COMMITS}", "--format=%h", "--", path)
        for commit in commits.decode().split():
            raw = _git(root, "show", f"{commit}:./{path}")
            if hashlib.sha256(raw).hexdigest() == digest:
                of_commit.setdefault(commit, []).append(path)
                break
        else:
            lost.append(path)
    if lost:
        return (
            f"take {_named(lost)} from another service that the same factfold made; no commit here "
            "has them as they were written"
        )
    return " && ".join(
        f"git checkout {commit} -- {shlex.join(paths)}" for commit, paths in of_commit.items()
    )


def _git(root: Path, *words: str) -> bytes:
    """What git prints; nothing where there is no git, or no repository of it."""
    try:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return b""


def _python(root: Path) -> list[Finding]:
    return [environment(root), _stubs(root, stubs_made.outdated, stubs_made.MAKE)]


def _go(root: Path) -> list[Finding]:
    stubs = _stubs(root, go_stubs.outdated, go_stubs.MAKE)
    return [go_checks.toolchain(root), go_checks.modules(root), stubs]


def _nothing(root: Path) -> list[Finding]:
    return []


_BUILDS = {"go": _go, "python": _python}


def _stubs(root: Path, outdated: Callable[[Path], list[str]], make: str) -> Finding:
    try:
        stale = outdated(root)
    except Failed as failure:
        found = failure.format_message()
        return Finding("repository", "stubs", WRONG, found, "mend the contract in protos/")
    if not (root / "gen").is_dir():
        found = "there is no gen/; a build makes it"
        return Finding("repository", "stubs", MISSING, found, make)
    if stale:
        found = f"gen/ is of another contract: {_named(stale)}"
        return Finding("repository", "stubs", WRONG, found, make, {"outdated": stale})
    return Finding("repository", "stubs", OK, "gen/ is of this contract")


def _contract(root: Path, commands: Collection[str]) -> Iterator[Finding]:
    """The contract against the code, and against its released versions, as their commands say."""
    for name, words, mend in (
        ("code", ("sync", "--check"), "factfold sync"),
        ("released contract", ("contract", "check"), "factfold contract check"),
    ):
        if words[0] not in commands:
            continue
        done = subprocess.run(
            [sys.executable, "-P", "-m", "factfold_cli", *words],
            cwd=root,
            capture_output=True,
            text=True,
            errors="replace",
        )
        lines = (done.stderr or done.stdout).strip().splitlines() or [
            f"exit code {done.returncode}"
        ]
        said = lines[-1].removeprefix("factfold: ")
        if done.returncode:
            yield Finding("repository", name, WRONG, said, mend)
        else:
            yield Finding("repository", name, OK, said)


def _subscriptions(
    root: Path, manifest: Mapping[str, Any], commands: Collection[str]
) -> Iterator[Finding]:
    for known in manifest["subscriptions"]:
        name, source = f"contract of {known['name']}", root / known["source"]
        if not (source / manifests.PATH).is_file():
            yield Finding(
                "repository", name, OK, f"{known['source']} is not here, so it is not compared"
            )
            continue
        changed = [
            path
            for path, digest in sorted(known["contract"].items())
            if not (source / path).is_file() or not _same(source / path, digest)
        ]
        if not changed:
            yield Finding("repository", name, OK, f"as it is in {known['source']}")
            continue
        found = f"{known['source']} has changed since it was copied: {_named(changed)}"
        mend = f"factfold sync --from {shlex.quote(known['source'])}" if "sync" in commands else ""
        yield Finding("repository", name, WARNING, found, mend, {"changed": changed})
