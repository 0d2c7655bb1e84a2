"""`factfold add …`: adds to a generated repository."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from factfold_cli.add_contract import add_event, add_rpc
from factfold_cli.add_parts import add_reaction, add_view
from factfold_cli.additions import Added, Adding, add
from factfold_cli.errors import Refused
from factfold_cli.languages import of
from factfold_cli.manifest import read, root_here
from factfold_cli.placing import alone
from factfold_cli.printable import printable
from factfold_cli.subscription import subscribe

F = TypeVar("F", bound=Callable[..., Any])


def _output(function: F) -> F:
    """The options of every command that edits and writes."""
    dry_run = click.option(
        "--dry-run", is_flag=True, help="Show what would change, change nothing."
    )
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    return dry_run(as_json(function))


def _fields(*names: str, help: str) -> Callable[[F], F]:
    """An option that may be given several times, each time with a field."""
    return click.option(*names, multiple=True, metavar="NAME:TYPE", help=help)


@click.group("add")
def command() -> None:
    """Add something to the repository of a service.

    What is added to the contract stands where a person would put it, and nothing else of it
    changes. Then what is missing is written, as `factfold sync` does.

    \b
    Examples:
      factfold add rpc CancelOrder --field id:string --returns version:uint64
      factfold add subscription ../orders
    """


@command.command("rpc", short_help="Add an RPC, its messages, its handler and a test.")
@click.argument("name")
@click.option("--command", "commands", is_flag=True, help="It appends facts.")
@click.option(
    "--query", "queries", is_flag=True, help="It reads views: Get…, List…, Find…, Count…."
)
@click.option("--watch", "watches", is_flag=True, help="It streams changes: Watch….")
@_fields("--field", "fields", help="A field of the request, such as 'ids:repeated string'.")
@_fields("--returns", help="A field of the response.")
@click.option("--service", help="The service of the contract, if it has several.")
@_output
def rpc(
    name: str,
    commands: bool,
    queries: bool,
    watches: bool,
    fields: tuple[str, ...],
    returns: tuple[str, ...],
    service: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Add the RPC NAME to the contract, and a handler with a test that fails until it is written.

    Without --command, --query and --watch its name says what it is.

    \b
    Examples:
      factfold add rpc CancelOrder --field id:string --returns version:uint64
      factfold add rpc FindOrders --field name:string --returns 'items:repeated Order'
    """
    asked = {"command": commands, "query": queries, "watch": watches}
    kinds = [kind for kind, given in asked.items() if given]
    if len(kinds) > 1:
        raise Refused(f"{name!r} cannot be a {' and a '.join(kinds)}; choose one")

    def addition(adding: Adding) -> None:
        kind = kinds[0] if kinds else None
        add_rpc(adding, name, kind=kind, fields=fields, returns=returns, service=service)

    _carry_out(addition, dry_run, as_json)


@command.command("event", short_help="Add an event, its fold and a test.")
@click.argument("name")
@_fields("--field", "fields", help="A field, such as at:Timestamp.")
@click.option("--key", metavar="FIELD", help="The string that decides on order; as other events'.")
@_output
def event(
    name: str, fields: tuple[str, ...], key: str | None, dry_run: bool, as_json: bool
) -> None:
    """Add the event NAME to the contract, and a fold with a test that fails until it is written.

    \b
    Example:
      factfold add event OrderCancelled --field reason:string
    """
    _carry_out(lambda adding: add_event(adding, name, fields=fields, key=key), dry_run, as_json)


@command.command("view", short_help="Add a table of derived state, and folds into it.")
@click.argument("name")
@click.option("--row", metavar="MESSAGE", help="What its rows are; made if the contract has none.")
@click.option(
    "--from",
    "events",
    multiple=True,
    metavar="EVENT",
    help="An event, also of a subscription, to be folded into it. May be repeated.",
)
@_output
def view(name: str, row: str | None, events: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Add the view NAME: a table, and a fold with a test for each event.

    The folds take over each field that the row has too; a new row has those of the events.

    \b
    Example:
      factfold add view order_names --from OrderCreated --from OrderRenamed
    """
    _carry_out(lambda adding: add_view(adding, name, row=row, events=events), dry_run, as_json)


@command.command("reaction", short_help="Add an answer to an event, and a test.")
@click.argument("name")
@click.option("--on", required=True, metavar="EVENT", help="What it answers.")
@click.option("--appends", metavar="EVENT", help="What it appends, an event of this service.")
@_output
def reaction(name: str, on: str, appends: str | None, dry_run: bool, as_json: bool) -> None:
    """Add the reaction NAME, with a test that fails until it is written.

    EVENT is the name of a message, of this service or of one that it subscribes to; with its
    package in front if several have it.

    \b
    Examples:
      factfold add reaction thank_customer --on OrderCreated
      factfold add reaction ship_order --on OrderCreated --appends ShipmentCreated
    """
    _carry_out(lambda adding: add_reaction(adding, name, on=on, appends=appends), dry_run, as_json)


@command.command("subscription", short_help="Copy a service's contract; fold and answer its facts.")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_output
def subscription(directory: Path, dry_run: bool, as_json: bool) -> None:
    """Copy the contract of the service in DIRECTORY, and start to fold and answer its facts.

    Run it inside the repository of the service that subscribes.

    \b
    Example:
      factfold add subscription ../orders
    """
    root = root_here()
    with alone(root):
        written = subscribe(root, directory, home=root, dry_run=dry_run)
        make = of(read(root)["language"]).make_stubs(root)
    if as_json:
        report = {"dry_run": dry_run, "files": written, "next": [make]}
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    wrote = "Would write:" if dry_run else "Wrote:"
    click.echo("\n".join([wrote, *(f"  {path}" for path in written)]))
    click.echo(f"\nNext:\n  {make}")


def _carry_out(addition: Callable[[Adding], None], dry_run: bool, as_json: bool) -> None:
    added = add(root_here(), addition, dry_run=dry_run)
    report = {
        "changed": added.changed,
        "dry_run": dry_run,
        "files": added.written,
        "next": added.following,
        "notes": added.notes,
    }
    if as_json:
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    click.echo("\n\n".join(_blocks(added, dry_run)))


def _shown(line: str) -> str:
    """A line of a file, with its tabs, and nothing that a terminal would obey."""
    return "\t".join(map(printable, line.split("\t")))


def _blocks(added: Added, dry_run: bool) -> list[str]:
    """What is printed, a block for each file that changed, then the new ones."""
    changed, wrote = ("Would change", "Would write") if dry_run else ("Changed", "Wrote")
    blocks = [
        "\n".join([f"{changed} {path}:", *(f"  {_shown(line)}".rstrip() for line in diff)])
        for path, diff in added.changed.items()
    ]
    if added.written:
        blocks.append("\n".join([f"{wrote}:", *(f"  {path}" for path in added.written)]))
    if added.notes:
        blocks.append("\n".join(["Note:", *(f"  {printable(note)}" for note in added.notes)]))
    blocks.append("\n".join(["Next:", *(f"  {step}" for step in added.following)]))
    return blocks
