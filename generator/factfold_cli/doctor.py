"""`factfold doctor`: what is installed, and how the repository here and the log stand."""

import click

from factfold_cli import log as logs
from factfold_cli.errors import Refused
from factfold_cli.findings import any_wrong, show
from factfold_cli.installed import installed
from factfold_cli.log_checks import log
from factfold_cli.manifest import root_here
from factfold_cli.repository_checks import repository


@click.command("doctor")
@logs.option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(context: click.Context, url: str | None, as_json: bool) -> None:
    """Look for what is missing or wrong, and say what mends it.

    It looks at what is installed; inside the repository of a service at that; and at the Redis of
    the log: how it is configured, what the streams take, and in how many days its memory is full.
    Nothing is changed. The exit code is 1 if something has to be mended.

    Piped, a line has state (ok, missing, warning, wrong), part, name, what was found and what
    mends it, with tabs between them. What is missing is needed for some things only.

    \b
    Example:
      factfold doctor
    """
    findings = installed()
    group = context.find_root().command
    commands = group.list_commands(context) if isinstance(group, click.Group) else []
    try:
        root = root_here()
    except Refused:
        pass
    else:
        findings += repository(root, commands)
    findings += log(url)
    show(findings, as_json)
    if any_wrong(findings):
        context.exit(1)
