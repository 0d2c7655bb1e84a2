"""Renders a template by Cookiecutter's own API, beside the target, and moves the result there."""

import contextlib
import json
import logging
import signal
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from factfold_cli.errors import Failed, Refused
from factfold_cli.templates import template


def literals(answers: Mapping[str, str]) -> dict[str, str]:
    """Each answer as one Jinja string literal, since Cookiecutter evaluates what it is given.

    A JSON string without \\u escapes of surrogate pairs is a Jinja string of the same characters.
    """
    return {
        name: "{{ " + json.dumps(answer, ensure_ascii=False) + " }}"
        for name, answer in answers.items()
    }


def variables(language: str, answers: Mapping[str, str]) -> dict[str, Any]:
    """All variables of the template, derived from `answers` as Cookiecutter derives them."""
    return _variables(language, tuple(answers.items()))


@cache
def _variables(language: str, answers: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    from cookiecutter.generate import generate_context
    from cookiecutter.prompt import prompt_for_config

    listed = str(template(language) / "cookiecutter.json")
    context = generate_context(listed, extra_context=literals(dict(answers)))
    return dict(prompt_for_config(context, no_input=True))


def starter_contract(language: str, answers: Mapping[str, str]) -> bytes:
    """The contract that a service of these answers begins with."""
    from cookiecutter.utils import create_env_with_context

    context = {"cookiecutter": variables(language, answers)}
    (path,) = (template(language) / "{{cookiecutter.service_slug}}/protos").rglob("contract.proto")
    text = path.read_text(encoding="utf-8")
    rendered: str = create_env_with_context(context).from_string(text).render(context)
    return rendered.encode()


def render(language: str, answers: Mapping[str, str], work: Path) -> Path:
    """Renders the template below the folder `work` and returns the repository made there."""
    from cookiecutter.exceptions import CookiecutterException
    from cookiecutter.generate import generate_files
    from jinja2 import TemplateError

    logging.getLogger("cookiecutter").addHandler(logging.NullHandler())
    try:
        with _temporary_files_in(work):
            # As cookiecutter.main does, which also fetches templates: importing that takes longer
            # than rendering.
            made = generate_files(
                str(template(language)),
                {"cookiecutter": {**variables(language, answers), "_by_factfold": True}},
                output_dir=str(work / "made"),
            )
    except (CookiecutterException, TemplateError) as error:
        raise Failed(
            f"the template {language} does not render, nothing was made: {error}"
        ) from error
    return Path(made)


@contextlib.contextmanager
def beside(parent: Path) -> Iterator[Path]:
    """A temporary folder in `parent`; both are gone after a failure, an interrupt or SIGTERM."""
    where = str(parent.absolute())
    if any(tag in where for tag in ("{{", "{%", "{#")):
        raise Refused(f"cookiecutter would evaluate the tags in {where!r}; choose another --output")
    absent = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    with ended_as_interrupt():
        try:
            parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".factfold-", dir=where) as work:
                yield Path(work)
        finally:
            for folder in absent:
                with contextlib.suppress(OSError):
                    folder.rmdir()


def move(made: Path, target: Path) -> None:
    """Renames the folder `made` to `target`, which must not exist, in one step."""
    try:
        # A rename replaces an empty folder, so this claims the name and rename() fills it.
        target.mkdir()
    except FileExistsError as error:
        raise Refused(exists(target)) from error
    try:
        made.rename(target)
    except BaseException:
        target.rmdir()
        raise


def exists(target: Path) -> str:
    """The line on a target that exists."""
    return f"{str(target)!r} exists and stays as it is; choose another name or another --output"


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Cookiecutter leaves its rendered hooks, with all answers, among the temporary files."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextlib.contextmanager
def ended_as_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, so that it can put things back."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
