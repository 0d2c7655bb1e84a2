"""The manifest of a generated repository: what the generator knows of it later."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factfold_cli.errors import Failed, Refused
from factfold_cli.hooks import hook

PATH = Path(".factfold/manifest.json")
FORMAT = 1


def read(root: Path) -> dict[str, Any]:
    """The manifest below `root`: answers, files (zone, sha256), generator, language, subscriptions.

    Raises Refused if `root` is no generated repository, or one of a newer factfold.
    """
    try:
        text = (root / PATH).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Refused(f"{str(root)!r} is no generated repository: it has no {PATH}") from error
    try:
        manifest: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise Failed(f"{str(root / PATH)!r} is no JSON ({error}); take it back from git") from error
    if manifest.get("format") != FORMAT:
        raise Refused(f"{str(root)!r} was made by a newer factfold; install that one")
    return manifest


def write(root: Path, manifest: Mapping[str, Any]) -> None:
    """Replaces the manifest below `root` in one step."""
    hook(manifest["language"], "post_gen_project").write_manifest(root, manifest)


def entry(root: Path, manifest: Mapping[str, Any], path: str, zone: str) -> dict[str, str]:
    """What a manifest says of the file at `path` in `zone`."""
    return {"sha256": hook(manifest["language"], "post_gen_project").sha256(root / path), "zone": zone}


def root_here() -> Path:
    """The generated repository that the present folder is in; raises Refused if there is none."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / PATH).is_file():
            return folder
    raise Refused(f"{str(here)!r} is in no generated repository; run this inside one")
