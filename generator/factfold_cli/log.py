"""The log as the command line reaches it: one Redis, and the scripts that every language shares."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import click
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from factfold_cli.errors import Failed, Refused
from factfold_cli.given import URL, URL_FILE, given_url
from factfold_cli.output import address_of, printable
from factfold_cli.templates import LUA

# The default of the services' own settings.
_DEFAULT_URL = "redis://127.0.0.1:6379/0"
_RULE = (
    "the log's URL must be redis://[user:password@]host:port/db, special characters of the "
    "password percent-encoded"
)
_REPLY_SECONDS = 10.0
_CONNECT_SECONDS = 3.0
STREAM_NAME = r"[a-z0-9.-]{1,64}"

option = click.option(
    "--redis",
    "url",
    metavar="URL",
    help=f"The log; by default {URL}, else what the file of {URL_FILE} says, else {_DEFAULT_URL}.",
)


@contextmanager
def opened(
    url: str | None, otherwise: str = f"name another one with --redis or {URL}"
) -> Iterator[redis.Redis]:
    """The log at `url`, else the one that services would use.

    `otherwise` is what a user can do instead of starting it. Raises Refused for a URL that is
    none, and Failed, also for what goes wrong in the context.
    """
    url = url or given_url() or _DEFAULT_URL
    _check(url)
    try:
        with _client(url) as client:
            yield client
    except redis.AuthenticationError as error:
        raise Failed(f"{address_of(url)} refuses this user: {_reason(error)}") from None
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise Failed(
            f"no log at {address_of(url)}: {_reason(error)}; start it, or {otherwise}"
        ) from None
    except redis.RedisError as error:
        raise Failed(f"{address_of(url)} answers {_reason(error)}") from None


def _client(url: str) -> redis.Redis:
    """Raises Refused for options in the URL that redis-py does not know."""
    try:
        # Nothing is sent twice: a request that was queued twice would be carried out twice.
        client = redis.Redis.from_url(
            url,
            protocol=2,
            socket_connect_timeout=_CONNECT_SECONDS,
            socket_timeout=_REPLY_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        client.ping()
    except (TypeError, ValueError):
        raise Refused(_RULE) from None
    return client


def script(log: redis.Redis, name: str) -> Any:
    """One of the shared scripts, to be called with `keys` and `args`; its head says which."""
    return log.register_script((LUA / f"{name}.lua").read_text(encoding="utf-8"))


def keys(log: redis.Redis, pattern: str) -> list[str]:
    """The names of all keys that match, in order."""
    found = {key.decode(errors="replace") for key in log.scan_iter(match=pattern, count=1000)}
    return sorted(found)


def pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Names and values that come in turn."""
    return zip(flat[::2], flat[1::2], strict=False)


def _check(url: str) -> None:
    """A mistyped URL must not reach an error of redis-py's, which may show the password."""
    try:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            valid = bool(re.fullmatch(r"/[^@]+", parts.path))
        else:
            valid = parts.scheme in ("redis", "rediss") and bool(parts.hostname)
            valid = valid and bool(re.fullmatch(r"/?|/\d+", parts.path)) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise Refused(_RULE)


def _reason(error: Exception) -> str:
    return printable(" ".join(str(error).split()).rstrip(".")) or type(error).__name__
