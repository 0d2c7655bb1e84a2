"""The log as the command line reaches it, and the scripts that every language shares."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import click
import redis
from redis.exceptions import NoPermissionError

from factfold_cli import clients, redis_tls
from factfold_cli.clients import Log
from factfold_cli.errors import Failed, Refused
from factfold_cli.given import URL, URL_FILE, given_url
from factfold_cli.log_url import LogUrl
from factfold_cli.output import address_of
from factfold_cli.printable import printable
from factfold_cli.templates import LUA

# The default of the services' own settings.
DEFAULT_URL = "redis://127.0.0.1:6379/0"
_RULE = (
    "the log's URL must be redis://[user:password@]host:port/db, "
    "redis+cluster://host:port,host:port or redis+sentinel://host:port,host:port/name, special "
    "characters of the password percent-encoded, with no option that redis-py does not know"
)

option = click.option(
    "--redis",
    "url",
    metavar="URL",
    help=f"The log; by default {URL}, else what the file of {URL_FILE} says, else {DEFAULT_URL}.",
)


@contextmanager
def opened(
    url: str | None, otherwise: str = f"name another one with --redis or {URL}"
) -> Iterator[Log]:
    """The log at `url`, else the one that services would use.

    `otherwise` is what a user can do instead of starting it. Raises Refused for a URL that is
    none, and Failed, also for what goes wrong in the context.
    """
    url = url or given_url() or DEFAULT_URL
    check(url)
    if problem := redis_tls.problem(url):
        raise Refused(f"the log's URL: {problem}")
    try:
        with _client(url) as client:
            yield client
    except redis.AuthenticationError as error:
        raise Failed(f"{address_of(url)} refuses this user: {reason(error)}") from None
    except (redis.ConnectionError, redis.TimeoutError) as error:
        if why := redis_tls.reason(error, url, "the log's URL"):
            raise Failed(f"no log at {address_of(url)}: {why}") from None
        raise Failed(
            f"no log at {address_of(url)}: {reason(error)}; start it, or {otherwise}"
        ) from None
    except NoPermissionError as error:
        raise Failed(
            f"{address_of(url)} answers {reason(error)}; log in as one who may: factfold acl "
            "writes such users"
        ) from None
    except redis.RedisError as error:
        raise Failed(f"{address_of(url)} answers {reason(error)}") from None


@contextmanager
def _client(url: str) -> Iterator[Log]:
    """Raises Refused for options in the URL that redis-py does not know."""
    with ExitStack() as stack:
        try:
            client = stack.enter_context(clients.connected(LogUrl.parse(url)))
        except (TypeError, ValueError):
            raise Refused(_RULE) from None
        except clients.NotAlone as error:
            raise Refused(f"{address_of(url)} is {error}") from None
        yield client


def script(log: Log, name: str) -> Any:
    """One of the shared scripts, to be called with `keys` and `args`; its head says which."""
    return log.register_script((LUA / f"{name}.lua").read_text(encoding="utf-8"))


def keys(log: Log, pattern: str) -> list[str]:
    """The names of all keys that match, in order."""
    found = {key.decode(errors="replace") for key in log.scan_iter(match=pattern, count=1000)}
    return sorted(found)


def now(log: Log) -> float:
    """The server's time, in seconds."""
    seconds, microseconds = clients.server(log, "").time()
    return seconds + microseconds / 1e6


def pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Names and values that come in turn."""
    return zip(flat[::2], flat[1::2], strict=False)


def check(url: str) -> None:
    """Raises Refused. A mistyped URL must not reach an error of redis-py's, which may show the
    password.
    """
    try:
        LogUrl.parse(url)
    except ValueError:
        raise Refused(_RULE) from None


def reason(error: Exception) -> str:
    """What a server or its client says, in one clause, fit to be shown."""
    return printable(" ".join(str(error).split()).rstrip(".")) or type(error).__name__
