"""The manifest of a generated repository: what the generator knows of it later."""

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from factfold_cli.errors import Failed, Refused
from factfold_cli.hooks import hook
from factfold_cli.render import variables
from factfold_cli.templates import known

PATH = Path(".factfold/manifest.json")
FORMAT = 1


def read(root: Path) -> dict[str, Any]:
    """The manifest below `root`: answers, files (zone, sha256), generator, language, subscriptions.

    Raises Refused if `root` is no generated repository, or one of another or newer factfold.
    """
    try:
        manifest = written(root)
        if manifest["format"] == FORMAT:
            if (language := manifest["language"]) not in known():
                raise Refused(
                    f"{str(root)!r} is in {language!r}, of which this factfold has no template; "
                    "install the factfold that made it"
                )
            _check(manifest)
            made, here = manifest["generator"], release(manifest["language"])
            if _numbers(made) <= _numbers(here):
                return manifest
            raise Refused(
                f"{str(root)!r} was made by factfold {made}, and this is {here}; install the newer"
            )
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
    context = variables(language, manifest["answers"])
    if wrong := hook(language, "pre_gen_project").problem(context):
        raise ValueError(wrong)
    if not isinstance(manifest.get("scaffolded", []), list):
        raise ValueError("what was scaffolded is no list")
    if missing := {"files", "generator", "subscriptions"} - manifest.keys():
        raise ValueError(f"it says nothing of {', '.join(sorted(missing))}")
    copied = (path for known in manifest["subscriptions"] for path in known["contract"])
    for path in (*manifest["files"], *copied):
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError(f"{path!r} is not in the repository")


def release(language: str) -> str:
    """The version of this factfold."""
    return str(variables(language, {})["_generator_version"])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def write(root: Path, manifest: Mapping[str, Any]) -> None:
    """Replaces the manifest below `root` in one step."""
    hook(manifest["language"], "post_gen_project").write_manifest(root, manifest)


def root_here() -> Path:
    """The generated repository that the present folder is in; raises Refused if there is none."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / PATH).is_file():
            return folder
    raise Refused(f"{str(here)!r} is in no generated repository; run this inside one")
