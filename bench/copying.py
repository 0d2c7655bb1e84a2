"""The template of `factfold new`, translated into one of copier's.

Tags lose their prefix, files with tags get a suffix, derived variables become questions that are
never asked, and the two hooks become tasks: a process each, as in cookiecutter.
"""

import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

# Copier's settings begin with an underscore, so its variables cannot.
_NAME = re.compile(r"\bcookiecutter\._*(\w+)")
_HOOKS = ("pre_gen_project", "post_gen_project")
_SUFFIX = ".jinja"


def translated(template: Path, context: Mapping[str, Any], out: Path) -> Path:
    """Make in `out` the copier template of a cookiecutter template.

    `context` are cookiecutter's variables for the answers that will be given: hooks are rendered
    with them here, once.
    """
    listed = json.loads((template / "cookiecutter.json").read_text("utf-8"))
    (source,) = template.glob("{{*}}")
    for path in source.rglob("*"):
        relative = path.relative_to(source)
        if path.is_dir() or "__pycache__" in relative.parts:
            continue
        copied = out / "template" / _translated(relative.as_posix())
        copied.parent.mkdir(parents=True, exist_ok=True)
        if set(listed["_copy_without_render"]).isdisjoint(relative.parts):
            copied = copied.with_name(copied.name + _SUFFIX)
            copied.write_text(_translated(path.read_text("utf-8")), "utf-8")
        else:
            shutil.copy(path, copied)
    tasks = []
    for name in _HOOKS:
        text = (template / "hooks" / f"{name}.py").read_text("utf-8")
        hook = out / f"{name}.py"
        whole = quote(json.dumps(context))
        hook.write_text(text.replace("{{ cookiecutter | tojson | urlencode }}", whole), "utf-8")
        tasks.append([sys.executable, str(hook)])
    settings = {
        "_subdirectory": "template",
        "_templates_suffix": _SUFFIX,
        "_jinja_extensions": ["cookiecutter.extensions.SlugifyExtension"],
        "_exclude": [],
        "_tasks": tasks,
        **dict(_questions(listed)),
    }
    # JSON is YAML.
    (out / "copier.yml").write_text(json.dumps(settings), "utf-8")
    return out


def _questions(listed: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    questions = []
    for name, value in listed.items():
        if name == "__prompts__":
            continue
        plain = isinstance(value, str)
        question = {
            "type": "str" if plain else "json",
            "default": _translated(value) if plain else json.dumps(value),
        }
        hidden = {"when": False} if name.startswith("_") else {}
        questions.append((name.lstrip("_"), question | hidden))
    return questions


def _translated(text: str) -> str:
    return _NAME.sub(r"\1", text)
