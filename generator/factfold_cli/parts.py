"""Renders the parts of a template: what is added to a repository after it was made."""

from collections.abc import Mapping
from typing import Any

from factfold_cli.templates import template


def rendered(language: str, part: str, context: Mapping[str, Any]) -> dict[str, bytes]:
    """The files below `parts`/`part` of the template of `language`, by their rendered paths."""
    from cookiecutter.utils import create_env_with_context

    env = create_env_with_context(dict(context))
    folder = template(language) / "parts" / part
    return {
        env.from_string(path.relative_to(folder).as_posix()).render(context): env.from_string(
            path.read_text(encoding="utf-8")
        )
        .render(context)
        .encode()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
