"""`factfold sync`: makes a repository match its contract."""

import json
import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from factfold_cli.errors import Failed
from factfold_cli.languages import of
from factfold_cli.manifest import read, root_here
from factfold_cli.placing import alone
from factfold_cli.printable import printable
from factfold_cli.refresh import refreshed
from factfold_cli.scaffold import carry_out, scaffold


@click.command("sync", short_help="Write what the contract has and the code has not.")
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if something would.")
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="First copy the newer contract of the service there, which this one subscribes to.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(check: bool, source: Path | None, as_json: bool) -> None:
    """Write what the contract has and the code has not.

    For each RPC without a handler and each new event without a fold it writes a file to start
    from, and a test that fails until that file is filled in. What is there is left as it is. What
    the contract no longer has is said. Run it inside the repository of a service.

    \b
    Examples:
      factfold sync
      factfold sync --check
      factfold sync --from ../orders
    """
    root = root_here()
    report: dict[str, Any] = {"changes": [], "check": check}
    with nullcontext() if check else alone(root):
        if source is None:
            synced = scaffold(root, check=check)
        else:
            with refreshed(root, source) as newer:
                report["changes"] = newer.changes
                synced = carry_out(root, newer.manifest, newer.files, newer.protos, check=check)
    make = of(read(root)["language"]).make_stubs(root)
    following = [make] if synced.written and not check else []
    report |= {"files": synced.written, "next": following, "notes": synced.notes}
    click.echo(json.dumps(report, indent=2, ensure_ascii=False) if as_json else _said(report))
    if check and synced.written:
        again = shlex.join(["factfold", "sync", *(["--from", str(source)] if source else [])])
        raise Failed(f"the repository does not match its contract; run: {again}")


def _said(report: dict[str, Any]) -> str:
    blocks = {
        "Their contract:": report["changes"],
        "Would write:" if report["check"] else "Wrote:": report["files"],
        "Left to you:": report["notes"],
        "Next:": report["next"],
    }
    said = [
        "\n".join([title, *(f"  {printable(row)}" for row in rows)])
        for title, rows in blocks.items()
        if rows
    ]
    return "\n\n".join(said) or "Nothing to write."
