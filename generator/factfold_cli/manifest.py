"""The manifest of a generated repository: what the generator knows of it later."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factfold_cli.errors import Failed, Refused
from factfold_cli.hooks import hook
from factfold_cli.render import variables
from factfold_cli.templates import languages

PATH = Path(".factfold/manifest.json")
FORMAT = 1


def read(root: Path) -> dict[str, Any]:
    """The manifest below `root`: answers, files (zone, sha256), generator, language, subscriptions.

    Raises Refused if `root` is no generated repository, or one of a newer factfold.
    """
    try:
        manifest = written(root)
        if manifest["format"] == FORMAT:
            _check(manifest)
            return manifest
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Refused(f"{str(root)!r} is no generated repository: it has no {PATH}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise Failed(f"{str(root / PATH)!r} is damaged ({error}); take it back from git") from error
    raise Refused(f"{str(root)!r} was made by another factfold; install the one that made it")


def written(root: Path) -> dict[str, Any]:
    """The same of a repository that this process has made: nothing is checked."""
    manifest: dict[str, Any] = json.loads((root / PATH).read_text(encoding="utf-8"))
    return manifest


def _check(manifest: Mapping[str, Any]) -> None:
    """Raises ValueError or LookupError for a manifest that no generator wrote.

    The manifest may be another team's, and its answers become names of files and of code.
    """
    language = manifest["language"]
    if language not in languages():
        raise ValueError(f"no such language: {language!r}")
    context = variables(language, manifest["answers"])
    if wrong := hook(language, "pre_gen_project").problem(context):
        raise ValueError(wrong)
    if missing := {"files", "generator", "subscriptions"} - manifest.keys():
        raise ValueError(f"it says nothing of {', '.join(sorted(missing))}")


def write(root: Path, manifest: Mapping[str, Any]) -> None:
    """Replaces the manifest below `root` in one step."""
    hook(manifest["language"], "post_gen_project").write_manifest(root, manifest)


def entry(root: Path, manifest: Mapping[str, Any], path: str, zone: str) -> dict[str, str]:
    """What a manifest says of the file at `path` in `zone`."""
    return {
        "sha256": hook(manifest["language"], "post_gen_project").sha256(root / path),
        "zone": zone,
    }


def root_here() -> Path:
    """The generated repository that the present folder is in; raises Refused if there is none."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / PATH).is_file():
            return folder
    raise Refused(f"{str(here)!r} is in no generated repository; run this inside one")
