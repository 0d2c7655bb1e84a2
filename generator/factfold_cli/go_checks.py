"""Whether the Go that is here, and the modules of a repository, are what it needs."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from factfold_cli.findings import OK, WRONG, Finding
from factfold_cli.go_builds import INSTALL, OLDEST, setting, shown, version
from factfold_cli.installed import GO, package

_TIDY = "go mod tidy"
_MOST_NAMED = 3


def toolchain(root: Path) -> Finding:
    """Against go.mod's line: an older one fetches that version, unless it is told not to."""
    asked = next((words[0] for verb, words in _directives(root / "go.mod") if verb == "go"), "")
    if not asked:
        mend = "take go.mod back from git"
        return Finding("repository", "go", WRONG, "go.mod says no version of Go", mend)
    go = shutil.which("go")
    numbers = version(go) if go else ()
    if go is None or not numbers:
        found = f"not found, and go.mod asks for {asked}"
        return Finding("repository", "go", WRONG, found, package(GO.packages, GO.otherwise))
    if numbers >= tuple(map(int, re.findall(r"\d+", asked))):
        return Finding("repository", "go", OK, f"{shown(numbers)}; go.mod asks for {asked}")
    if numbers < OLDEST:
        found = f"{shown(numbers)} is older than {asked}, which go.mod asks for"
        return Finding("repository", "go", WRONG, found, INSTALL)
    if setting(go, "GOTOOLCHAIN").rpartition("+")[2] in ("local", "path"):
        set_by = "export" if "GOTOOLCHAIN" in os.environ else "go env -w"
        mend = f"{set_by} GOTOOLCHAIN=auto"
        found = f"{shown(numbers)} may not fetch {asked}, which go.mod asks for"
        return Finding("repository", "go", WRONG, found, mend)
    return Finding("repository", "go", OK, f"{shown(numbers)} fetches {asked} for go.mod")


def modules(root: Path) -> Finding:
    """By what stands in the files alone: nothing is fetched, and no Go is needed."""
    required, needed = (_required(root / name) for name in ("go.mod", "chassis/go.mod"))
    replaced = {words[0] for verb, words in _directives(root / "go.mod") if verb == "replace"}
    summed = {tuple(line.split()[:2]) for line in _lines(root / "go.sum")}
    for found in (
        [
            f"chassis/go.mod needs {name} {wanted}, and go.mod has {required.get(name, 'none')}"
            for name, wanted in needed.items()
            if name not in replaced and _order(required.get(name, "")) < _order(wanted)
        ],
        [
            f"go.sum has no sum of {name} {of}"
            for name, of in required.items()
            if name not in replaced and (name, of) not in summed
        ],
    ):
        if found:
            more = len(found) - _MOST_NAMED
            named = "; ".join(found[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
            return Finding("repository", "modules", WRONG, named, _TIDY)
    return Finding(
        "repository",
        "modules",
        OK,
        f"go.sum has the sums of all {len(required.keys() - replaced)} modules",
    )


def _required(path: Path) -> dict[str, str]:
    """The version of each module that a go.mod requires."""
    return {words[0]: words[1] for verb, words in _directives(path) if verb == "require"}


def _directives(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Those of a go.mod, also of its blocks, each with the words behind it."""
    block = ""
    for line in _lines(path):
        match line.partition("//")[0].split():
            case [")"]:
                block = ""
            case [verb, "("]:
                block = verb
            case [*words] if block and words:
                yield block, words
            case [verb, *words] if words:
                yield verb, words


def _lines(path: Path) -> list[str]:
    """None of a file that is not there: then it says nothing of anything."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []


def _order(of: str) -> tuple[tuple[int, ...], bool, list[int]]:
    """What versions are ordered by: one that ends in -rc.1 is before the release of its numbers."""
    release, hyphen, before = of.removesuffix("+incompatible").partition("-")
    numbers = tuple(map(int, re.findall(r"\d+", release)))
    # Of a commit's version, the time comes first.
    return numbers, not hyphen, [int(each) for each in re.findall(r"\d+", before.split("-")[0])]
