"""`factfold contract …`: freezes the contract, and keeps to what was frozen."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from factfold_cli.breaking import Problem, broken
from factfold_cli.errors import Failed, Refused
from factfold_cli.golden import differences
from factfold_cli.manifest import read, root_here
from factfold_cli.own_contract import OwnContract, present
from factfold_cli.placing import alone
from factfold_cli.printable import printable
from factfold_cli.released import Released, freeze, released


@click.group("contract")
def command() -> None:
    """Freeze the contract of a service, and keep to what was frozen.

    \b
    Example:
      factfold contract check
    """


@command.command("release", short_help="Freeze the present contract as the next version.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def release(as_json: bool) -> None:
    """Freeze the present contract as the next version, in released/.

    Kept are its descriptors, and golden facts of each event: entries as they are in the log, with
    what they must decode to for ever. It is refused while `factfold contract check` finds anything.
    Run it before facts of a new event or field are in a log that is kept, and commit the files.

    \b
    Example:
      factfold contract release
    """
    root = root_here()
    with alone(root):
        _release(root, as_json)


def _release(root: Path, as_json: bool) -> None:
    manifest = read(root)
    versions, contract = released(root, manifest), present(root, manifest)
    _releasable(contract)
    if problems := _problems(versions, contract):
        _show(problems, versions, as_json)
        raise Refused(
            f"{_count(problems)} with what was released; nothing is released until mended"
        )
    last = versions[-1].version if versions else 0
    if versions and contract.same_as(versions[-1].contract):
        files: list[str] = []
        said = [f"Nothing has changed since version {last} was released"]
    else:
        last += 1
        files = freeze(root, manifest, contract, last)
        said = [f"Released version {last}:", *(f"  {path}" for path in files)]
        said += ["", "Next:", "  git add .factfold released && git commit"]
    document = {"version": last, "files": files}
    click.echo(json.dumps(document, indent=2) if as_json else "\n".join(said))


@command.command("check", short_help="Compare the contract with every released version.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(as_json: bool) -> None:
    """Compare the present contract with every released version.

    Events, with all that they contain, may only grow: buf's rules of the category FILE. Calls,
    their requests and responses stay readable, in JSON too: the category WIRE_JSON, which lets a
    field go whose number and name are reserved, and an RPC whose callers then get UNIMPLEMENTED.
    Streams, keys and the golden facts stay as they are. Needs neither git nor a network.

    \b
    Example:
      factfold contract check
    """
    root = root_here()
    manifest = read(root)
    versions = released(root, manifest)
    if not versions:
        said = "Nothing is released yet: `factfold contract release` freezes the contract"
        click.echo(json.dumps(_document([], {}), indent=2) if as_json else said)
        return
    problems = _problems(versions, present(root, manifest))
    _show(problems, versions, as_json)
    if problems:
        raise Failed(f"{_count(problems)} with what was released; mend the contract")
    if not as_json:
        click.echo(f"The contract keeps to {_versions([each.version for each in versions])}")


def _releasable(contract: OwnContract) -> None:
    """Raises Refused for an event that no service could append."""
    for event in contract.events.values():
        if len(event.keys) != 1:
            raise Refused(
                f"protos/{event.path}: the event {event.name} needs one string field with"
                f" [(factfold.v1.key) = true], it has {len(event.keys)}"
            )


def _problems(versions: list[Released], contract: OwnContract) -> dict[Problem, list[int]]:
    """What the contract breaks, and of which versions."""
    found: dict[Problem, list[int]] = {}
    for version in versions:
        same = contract.same_as(version.contract)
        problems = [] if same else broken(version.contract, contract)
        # A fact that cannot be read because of one of these would say the same again.
        problems = problems or _unreadable(version, contract)
        for problem in problems:
            found.setdefault(problem, []).append(version.version)
    return found


def _unreadable(version: Released, contract: OwnContract) -> list[Problem]:
    """Golden facts that the contract reads in another way."""
    return [
        Problem(
            version.contract.events[fact["entry"]["type"]].path,
            None,
            difference,
            "change the contract back",
        )
        for fact in version.facts
        for difference in differences(contract, fact)
    ]


def _show(problems: Mapping[Problem, list[int]], versions: list[Released], as_json: bool) -> None:
    if as_json:
        document = _document([each.version for each in versions], problems)
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    for problem, broken_versions in problems.items():
        place = f"protos/{problem.path}" + (f":{problem.line}" if problem.line else "")
        since = _versions(broken_versions)
        click.echo(printable(f"{place}: {problem.what} (released in {since}); {problem.instead}"))


def _document(versions: list[int], problems: Mapping[Problem, list[int]]) -> dict[str, Any]:
    return {
        "versions": versions,
        "problems": [
            {
                "file": f"protos/{problem.path}",
                "line": problem.line,
                "problem": problem.what,
                "released": numbers,
                "instead": problem.instead,
            }
            for problem, numbers in problems.items()
        ],
    }


def _versions(numbers: list[int]) -> str:
    many = [str(number) for number in numbers]
    if len(many) == 1:
        return f"version {many[0]}"
    return f"versions {', '.join(many[:-1])} and {many[-1]}"


def _count(problems: Mapping[Problem, list[int]]) -> str:
    return "1 conflict" if len(problems) == 1 else f"{len(problems)} conflicts"
