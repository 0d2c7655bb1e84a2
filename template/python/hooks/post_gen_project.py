"""Finishes a rendered repository. Cookiecutter runs this file; `factfold` imports it.

Standard library only, because plain cookiecutter runs it with whatever Python it has.
"""

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import unquote

MANIFEST = Path(".factfold/manifest.json")
BASE = Path(".factfold/base")


def clean(root: Path, caches: Sequence[str], products: Sequence[str]) -> None:
    """Removes caches and build products below `root`, and sets the file modes that git keeps.

    A template may come from a clone or from an installed package, with other modes in each, and
    checks may have run in it.

    Args:
        caches: patterns of names of files and whole folders.
        products: paths of folders.
    """

    def cached(name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in caches)

    umask = os.umask(0)
    os.umask(umask)
    for folder, folders, files in os.walk(root):
        for path in (Path(folder, name) for name in folders + files):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                usual = 0o777 if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0o666
                path.chmod(stat.S_IMODE(mode) & ~0o777 | usual & ~umask)
    for name in products:
        shutil.rmtree(root / name, ignore_errors=True)
    for folder, folders, files in os.walk(root, topdown=False):
        for name in filter(cached, files):
            Path(folder, name).unlink()
        for path in (Path(folder, name) for name in folders):
            if cached(path.name) or not any(path.iterdir()):
                shutil.rmtree(path)


def files_of(root: Path) -> list[str]:
    """The paths of a repository's files, relative, with `/`, sorted, without factfold's own."""
    found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return sorted(path for path in found if not path.startswith(".factfold/"))


def zone_of(path: str, zones: Mapping[str, list[str]]) -> str:
    """ "tool", "shared" or "team": who owns the file at `path`."""
    for zone, patterns in zones.items():
        if any(fnmatch(path, pattern) for pattern in patterns):
            return zone
    return "team"


def sha256(path: Path) -> str:
    """The SHA-256 of the file at `path`, 64 hex digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_manifest(root: Path, manifest: Mapping[str, Any]) -> None:
    """Puts `manifest` in its place below `root`, sorted, in one step."""
    path = root / MANIFEST
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    new = path.with_suffix(".new")
    try:
        new.write_text(text, encoding="utf-8", newline="\n")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def finish(root: Path, context: Mapping[str, Any]) -> None:
    """Cleans what was rendered to `root`, writes its manifest and keeps its merge base."""
    clean(root, context["_caches"], context["_products"])
    zones = {path: zone_of(path, context["_zones"]) for path in files_of(root)}
    for path, zone in zones.items():
        if zone == "shared":
            (root / BASE / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / path, root / BASE / path)
    write_manifest(
        root,
        {
            "answers": {key: value for key, value in context.items() if not key.startswith("_")},
            "files": {
                path: {"sha256": sha256(root / path), "zone": zone} for path, zone in zones.items()
            },
            "format": 1,
            "generator": context["_generator_version"],
            "language": context["_language"],
            "subscriptions": [],
        },
    )


def commands(root: Path) -> list[str]:
    """What runs the service and what tests it: the first two sh blocks of its README, a line each.

    Fewer if it has no such blocks.
    """
    page = root / "README.md"
    text = page.read_text("utf-8") if page.is_file() else ""
    return re.findall(r"^```sh\n(.*?)\n```$", text, re.M | re.S)[:2]


if __name__ == "__main__":
    # Percent-encoded, so that an answer can be nothing but the inside of a string here.
    given = json.loads(unquote("{{ cookiecutter | tojson | urlencode }}"))
    finish(Path.cwd(), given)
    if not given.get("_by_factfold"):
        name = Path.cwd().name
        print(f"Made {name}. Next:", f"cd {name}", *reversed(commands(Path.cwd())), sep="\n  ")
