"""`factfold acl`: a user of the log for each service and for whoever operates it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from factfold_cli import log as logs
from factfold_cli import rights
from factfold_cli.acl_files import ALL, Folder, User, write
from factfold_cli.acl_needs import needs
from factfold_cli.discovery import discover
from factfold_cli.errors import Refused
from factfold_cli.given import READ_URL_FILE, URL, URL_FILE
from factfold_cli.output import Output
from factfold_cli.printable import printable

_OPERATORS = "operators"
_READS = "-reads"


@click.command("acl")
@click.argument(
    "folders",
    nargs=-1,
    metavar="[DIR]...",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option(
    "--output",
    "to",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("acl"),
    metavar="DIR",
    show_default=True,
    help="Where the files are written.",
)
@click.option(
    "--server",
    type=click.Choice(["6.2", "7"]),
    default="7",
    show_default=True,
    help="6.2, or 7: Redis from 7 on, and Valkey. On 6.2 a service that subscribes has two users.",
)
@click.option(
    "--trims",
    multiple=True,
    metavar="SERVICE",
    help="A service that removes the oldest facts of its own streams; can be repeated. Give it in "
    "each run.",
)
@click.option(
    "--redis",
    "url",
    metavar="URL",
    help="The log in the URLs that are written, without user; by default that of the URLs that "
    f"are there, else of {URL} or the file of {URL_FILE}, else {logs.DEFAULT_URL}.",
)
@click.option("--dry-run", is_flag=True, help="Show the rules, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    folders: tuple[Path, ...],
    to: Path,
    server: str,
    trims: tuple[str, ...],
    url: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write the users of the log: one for each service in and below DIR (here by default), and
    those of operators.

    SERVICE.acl has what the service's contract, subscriptions and code need and nothing else;
    operators.acl the users of the command line; users.acl all of them, for Redis' `aclfile`.
    USER.url has the log's URL with the user's password, for FACTFOLD_REDIS_URL_FILE: nobody else
    can read it, and git ignores it. Run again, it keeps all passwords.

    \b
    Examples:
      factfold acl ~/services --output acl
      factfold acl --server 6.2 --trims orders
    """
    if url is not None:
        logs.check(url)
    services = discover(folders or (Path(),))
    _check_names([each.name for each in services], trims)
    apart = server == "6.2"
    roles = {
        each.name: rights.service(needs(each, names=apart), apart=apart, trims=each.name in trims)
        for each in services
    }
    folder = Folder(to, url, selectors=not apart)
    users = folder.users([*roles.items(), (_OPERATORS, rights.operators())])
    files = folder.files(users)
    if not dry_run:
        write(files)
    report = {
        "server": server,
        "dry_run": dry_run,
        "aclfile": str(to / ALL),
        "users": [_described(user) for user in users],
        "others": folder.strangers(users),
        "files": [{"path": str(each.path), "state": each.state} for each in files],
    }
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _say(report)


def _check_names(names: Sequence[str], trims: Sequence[str]) -> None:
    """Raises Refused if two users would have one name, or one file."""
    taken = {each.name for each in rights.operators()} | {_OPERATORS, ALL.removesuffix(".acl")}
    taken |= {f"{name}{_READS}" for name in names}
    for name in names:
        if name in taken:
            raise Refused(
                f"no user can be named {name}, as a service is: factfold has one of that name"
            )
    for name in trims:
        if name not in names:
            raise Refused(f"--trims {name}: there is no such service; here are {', '.join(names)}")


def _described(user: User) -> dict[str, Any]:
    return {
        "user": user.role.name,
        "for": user.role.what,
        "acl": str(user.acl.path),
        "url": str(user.url.path) if user.url is not None else None,
        "setting": _setting(user),
        "rules": user.shown,
    }


def _setting(user: User) -> str | None:
    if user.url is None:
        return None
    return READ_URL_FILE if user.role.name.endswith(_READS) else URL_FILE


def _say(report: dict[str, Any]) -> None:
    output = Output()
    if report["dry_run"]:
        for user in report["users"]:
            output.say(user["rules"])
    for user in report["users"]:
        if user["url"]:
            output.say(f"{user['user']}, {user['for']}: {user['setting']}={user['url']}")
        elif user["user"] != rights.NOBODY:
            output.say(f"{user['user']}, {user['for']}: its password is kept elsewhere")
    if report["others"]:
        names = ", ".join(map(printable, report["others"]))
        output.say(f"in {report['aclfile']} too: {names}; remove what is of no use any more")
    changed = [each["path"] for each in report["files"] if each["state"] != "same"]
    wrote = "would write" if report["dry_run"] else "wrote"
    output.say(f"{wrote} {', '.join(changed)}" if changed else "all files are as they should be")
    if not report["dry_run"]:
        output.say(
            f"next: each Redis gets aclfile {report['aclfile']}, then ACL LOAD as {rights.ADMIN}"
        )
