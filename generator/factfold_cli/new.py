"""`factfold new`: asks, renders beside the target, subscribes, and moves the result into place."""

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from factfold_cli import manifest as manifests
from factfold_cli.errors import Failed, Refused
from factfold_cli.hooks import hook
from factfold_cli.names import ANSWERS, problem, slug
from factfold_cli.render import beside, exists, move, render, variables
from factfold_cli.subscription import subscribe
from factfold_cli.templates import languages, questions, title


@click.command("new")
@click.argument("name", required=False)
@click.option("--language", type=click.Choice(languages()), help="The language of the service.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where to make the service's folder; here by default.",
)
@click.option("--aggregate", help="What its facts are about, such as Order.")
@click.option("--organisation", help="The root of its proto package, such as com.example.")
@click.option("--description", help="What it is for, in one line.")
@click.option(
    "--subscribe",
    "sources",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    metavar="DIRECTORY",
    help="The repository of a service whose facts this one answers. May be repeated.",
)
@click.option("--no-input", is_flag=True, help="Ask nothing, use the defaults.")
@click.option("--dry-run", is_flag=True, help="Show what would be made, make nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    name: str | None,
    language: str | None,
    output: Path,
    aggregate: str | None,
    organisation: str | None,
    description: str | None,
    sources: tuple[Path, ...],
    no_input: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the repository of a new service.

    Asks for what is not given, and writes nothing outside the new folder.

    \b
    Examples:
      factfold new orders --language python
      factfold new shipments --language python --subscribe ../orders --no-input
    """
    given = {
        "service_name": name,
        "organisation": organisation,
        "aggregate": aggregate,
        "description": description,
    }
    if no_input and name is None:
        raise Refused("the service has no name; give one, as in: factfold new orders")
    language = language or _language(no_input)
    answers = _answers(language, given, output, no_input)
    with beside(output) as work:
        made = render(language, answers, work)
        target = output / made.name
        for source in sources:
            subscribe(made, source, home=target)
        report = _report(made, target, dry_run)
        tree = _tree(made)
        if not dry_run:
            move(made, target)
    if as_json:
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    elif dry_run:
        click.echo("\n".join(tree))
    else:
        click.echo(_said(report))


def _language(no_input: bool) -> str:
    offered = languages()
    if no_input or len(offered) == 1:
        return offered[0]
    choice = click.Choice(offered)
    with _answer_to("language"):
        chosen: str = click.prompt("Language", type=choice, default=offered[0], err=True)
    return chosen


def _answers(
    language: str, given: Mapping[str, str | None], output: Path, no_input: bool
) -> dict[str, str]:
    """The answers that are given or asked for, each checked before the next question."""
    answers: dict[str, str] = {}
    for variable in ANSWERS:
        answer = given[variable]
        if answer is None and no_input:
            continue
        if answer is None:
            answer = _asked(language, answers, variable, output)
        elif wrong := _wrong(language, answers | {variable: answer}, variable, output):
            raise Refused(wrong)
        answers[variable] = answer
    return answers


def _asked(language: str, answers: Mapping[str, str], variable: str, output: Path) -> str:
    derived = variables(language, answers)

    def checked(answer: str) -> str:
        if wrong := _wrong(language, {**answers, variable: answer}, variable, output):
            raise click.UsageError(wrong)
        return answer

    default = None if variable == "service_name" else derived[variable]
    with _answer_to(variable):
        asked: str = click.prompt(
            questions(language)[variable], default=default, value_proc=checked, err=True
        )
    return asked


@contextmanager
def _answer_to(question: str) -> Iterator[None]:
    """Raises Refused if a program gives no more answers."""
    try:
        yield
    except click.Abort as abort:
        if sys.stdin.isatty():
            raise
        # The question waits at the end of its line.
        click.echo(err=True)
        raise Refused(f"the input ends before the {question}; or use --no-input") from abort


def _wrong(language: str, answers: Mapping[str, str], latest: str, output: Path) -> str | None:
    found = problem(language, answers, latest)
    if found or latest != "service_name":
        return found
    target = output / slug(language, answers["service_name"])
    return exists(target) if os.path.lexists(target) else None


def _report(made: Path, target: Path, dry_run: bool) -> dict[str, Any]:
    manifest = manifests.written(made)
    return {
        "answers": manifest["answers"],
        "dry_run": dry_run,
        "files": manifest["files"],
        "folder": str(target),
        "language": manifest["language"],
        "next": [f"cd {shlex.quote(str(target))}", _tests(made), "factfold up"],
        "subscriptions": manifest["subscriptions"],
    }


def _tests(made: Path) -> str:
    """What tests the service, one line. Raises Failed if its README does not say so."""
    language = manifests.written(made)["language"]
    found: list[str] = hook(language, "post_gen_project").commands(made)
    if len(found) < 2:
        raise Failed(
            f"the template of {title(language)} has no README.md with two sh blocks: the first one"
            " runs the service, the second one tests it"
        )
    return found[1]


def _said(report: Mapping[str, Any]) -> str:
    what = f"a {title(report['language'])} service about {report['answers']['aggregate']} facts"
    rows = [f"Made {report['folder']}, {what}: {len(report['files'])} files.", "", "Next:"]
    return "\n".join(rows + [f"  {line}" for line in report["next"]])


def _tree(folder: Path, indent: str = "") -> list[str]:
    """The folder's name and below it everything in it, one a line."""
    rows = [f"{indent}{folder.name}/"]
    for path in sorted(folder.iterdir()):
        rows += _tree(path, indent + "  ") if path.is_dir() else [f"{indent}  {path.name}"]
    return rows
