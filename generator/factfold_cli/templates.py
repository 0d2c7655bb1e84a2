"""Where the templates are: in the installed package, or in the clone around it."""

import json
from pathlib import Path

_INSTALLED = Path(__file__).parent / "share"
SHARE = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).resolve().parents[2]

# The include path of protoc that has factfold/v1/options.proto.
PROTOS = SHARE / "protos"


def languages() -> list[str]:
    """The languages that have a template, the default first."""
    listed = json.loads((SHARE / "cookiecutter.json").read_text(encoding="utf-8"))
    return list(listed["templates"])


def template(language: str) -> Path:
    """The folder of the Cookiecutter template of `language`, one of `languages()`."""
    return SHARE / "template" / language


def questions(language: str) -> dict[str, str]:
    """What cookiecutter asks for each variable of the template of `language`."""
    listed = json.loads((template(language) / "cookiecutter.json").read_text(encoding="utf-8"))
    return dict(listed["__prompts__"])
