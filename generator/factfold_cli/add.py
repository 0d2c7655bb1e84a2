"""`factfold add …`: adds to a generated repository."""

import json
from pathlib import Path

import click

from factfold_cli.manifest import root_here
from factfold_cli.subscription import subscribe


@click.group("add")
def command() -> None:
    """Add something to the repository of a service.

    \b
    Example:
      factfold add subscription ../orders
    """


@command.command("subscription", short_help="Copy a service's contract; fold and answer its facts.")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def subscription(directory: Path, as_json: bool) -> None:
    """Copy the contract of the service in DIRECTORY, and start to fold and answer its facts.

    Run it inside the repository of the service that subscribes.

    \b
    Example:
      factfold add subscription ../orders
    """
    root = root_here()
    written = subscribe(root, directory, home=root)
    if as_json:
        click.echo(json.dumps({"files": written}, indent=2))
        return
    click.echo("\n".join(["Wrote:", *(f"  {path}" for path in written)]))
    click.echo("\nNext:\n  .venv/bin/python hatch_build.py")
