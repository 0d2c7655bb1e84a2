"""Where the templates are: in the installed package, or in the clone around it."""

import json
from pathlib import Path
from typing import Any

_INSTALLED = Path(__file__).parent / "share"
SHARE = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).resolve().parents[2]

# The include path of protoc that has factfold/v1/options.proto.
PROTOS = SHARE / "protos"

# The scripts that change the log, one file for all languages.
LUA = SHARE / "template" / "common" / "lua"


def languages() -> list[str]:
    """The languages that are offered, the default first."""
    return list(_listed())


def known() -> list[str]:
    """All that have a template."""
    return sorted(path.parent.name for path in SHARE.glob("template/*/cookiecutter.json"))


def title(language: str) -> str:
    """How people write the language."""
    return str(_listed().get(language, {}).get("title", language.capitalize()))


def _listed() -> dict[str, Any]:
    """The nested templates as plain cookiecutter offers them."""
    return dict(json.loads((SHARE / "cookiecutter.json").read_text(encoding="utf-8"))["templates"])


def template(language: str) -> Path:
    """The folder of the Cookiecutter template of `language`, one of `languages()`."""
    return SHARE / "template" / language


def questions(language: str) -> dict[str, str]:
    """What cookiecutter asks for each variable of the template of `language`."""
    return dict(variable(language, "__prompts__"))


def variable(language: str, name: str) -> Any:
    """One variable of the template of `language`, as its cookiecutter.json has it."""
    text = (template(language) / "cookiecutter.json").read_text(encoding="utf-8")
    return json.loads(text)[name]
