"""Clients of the log's servers: of one, of a cluster, or of the one that sentinels name.

They send nothing twice of their own accord: a request that was queued twice would be carried out
twice. What a node of a cluster redirects was not carried out, and goes where it belongs.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import redis
from redis import cluster, connection, sentinel
from redis.backoff import NoBackoff
from redis.exceptions import AskError, ClusterDownError, RedisClusterException, TryAgainError
from redis.retry import Retry

from factfold_cli.log_url import CLUSTER, SENTINEL, LogUrl

_REPLY_SECONDS = 10.0
_CONNECT_SECONDS = 3.0
_HOW: dict[str, Any] = {
    "protocol": 2,
    "socket_connect_timeout": _CONNECT_SECONDS,
    "socket_timeout": _REPLY_SECONDS,
}


class NotAlone(Exception):
    """The server is one of several: what it is, and how it is named."""


_NOT_ALONE = {
    "cluster": "a node of a cluster: name it as redis+cluster://",
    "sentinel": "a sentinel: name it as redis+sentinel://, and the server behind the last /",
}


# What a log that is away is told by.
AWAY = (redis.ConnectionError, redis.TimeoutError, ClusterDownError, RedisClusterException)
# A slot that is on its way is waited for.
_REDIRECTIONS, _PAUSE_SECONDS = 20, 0.1
_OTHER_MASTERS = 20

# One of redis-py's clients, which take the same commands.
Log = Any
# Not typed by redis-py.
_parse_url: Any = connection.parse_url
_Sentinel: Any = sentinel.Sentinel
_Node: Any = cluster.ClusterNode
_Cluster: Any = cluster.RedisCluster


@contextmanager
def connected(url: LogUrl) -> Iterator[Log]:
    """A client whose server has answered.

    Raises redis.RedisError; ConnectionError also where there is no server behind the URL. Raises
    TypeError and ValueError for options that redis-py does not know, and NotAlone.
    """
    opens = {CLUSTER: _cluster, SENTINEL: _watched}
    with opens.get(url.kind, _single)(url) as client:
        yield client


@contextmanager
def _single(url: LogUrl) -> Iterator[Log]:
    with redis.Redis.from_url(url.text, **_HOW, retry=_never()) as client:
        _keep_entries_as_they_are(client)
        client.ping()
        with suppress(redis.ResponseError):  # this user may not ask
            # A node would tell of its own partitions alone, as if there were no others.
            if what := _NOT_ALONE.get(client.info("server").get("redis_mode", "")):
                raise NotAlone(what)
        yield client


@contextmanager
def _watched(url: LogUrl) -> Iterator[Log]:
    of_servers = _options(url.server(url.addresses[0]))
    of_sentinels = _options(url.sentinel(url.addresses[0]))
    sentinels = _Sentinel(
        url.addresses, sentinel_kwargs={**_HOW, **of_sentinels, "retry": _never()}, **_HOW
    )
    with sentinels, sentinels.master_for(url.name, **of_servers, retry=_never()) as client:
        _keep_entries_as_they_are(client)
        try:
            client.ping()
        except sentinel.MasterNotFoundError:
            raise redis.ConnectionError(_why_there_is_none(sentinels, url)) from None
        except redis.ResponseError as error:
            if "unknown command" not in str(error):
                raise
            raise redis.ResponseError("that it is no sentinel: name it as redis://") from None
        yield client


def _why_there_is_none(sentinels: Any, url: LogUrl) -> str:
    """Of the first sentinel that answers, or of the last that does not."""
    why = ""
    for watcher in sentinels.sentinels:
        try:
            known = watcher.sentinel_masters()
        except redis.RedisError as error:
            why = f"a sentinel does not answer: {error}"
            continue
        if url.name in known:
            return f"the sentinels take {url.name} for down"
        return f"the sentinels know no {url.name}, but {', '.join(sorted(known)) or 'nothing'}"
    return why


@contextmanager
def _cluster(url: LogUrl) -> Iterator[Log]:
    first, *others = url.addresses
    try:
        # Not all slots need be covered: one may want to see why.
        client = _Cluster(
            url=url.server(first),
            startup_nodes=[_Node(*each) for each in others],
            require_full_coverage=False,
            # It asks a master by chance for COMMAND, which may be one that is gone.
            retry=Retry(NoBackoff(), _OTHER_MASTERS),
            **_HOW,
        )
    except RedisClusterException as error:
        raise _plain(error) from None
    except IndexError:  # how redis-py says that its list of masters is empty
        raise redis.ConnectionError("no node of the cluster has slots") from None
    client.set_retry(_never())
    with client:
        make = client.nodes_manager.create_redis_node

        def made(*where: Any, **how: Any) -> Any:
            return _keep_entries_as_they_are(make(*where, **how))

        # Nodes come later, too. By setattr: mypy refuses that a method is assigned to.
        setattr(client.nodes_manager, "create_redis_node", made)  # noqa: B010
        for node in client.get_nodes():
            _keep_entries_as_they_are(client.get_redis_connection(node))
        try:
            yield client
        except RedisClusterException as error:
            raise _plain(error) from None


def _plain(error: RedisClusterException) -> redis.RedisError:
    """These are no RedisErrors, and name what they come from in a roundabout way."""
    if isinstance(error.__cause__, redis.RedisError):
        return error.__cause__
    if "Cluster mode is not enabled" in f"{error} {error.__cause__}":
        return redis.ResponseError("that it is no node of a cluster: name it as redis://")
    return redis.RedisError(str(error))


def _options(url: str) -> dict[str, Any]:
    """What redis-py makes of a URL, without the address."""
    found = dict(_parse_url(url))
    found.pop("host", None)
    found.pop("port", None)
    if found.pop("connection_class", None) is connection.SSLConnection:
        found["ssl"] = True
    return found


def _never() -> Retry:
    return Retry(NoBackoff(), 0)


def _keep_entries_as_they_are(client: Any) -> Any:
    """redis-py's dict of an entry's fields keeps the last of two equal names; readers the first."""
    for name in ("XREAD", "XRANGE", "XREVRANGE"):
        client.set_response_callback(name, lambda reply, **_: reply)
    return client


def sharded(log: Log) -> bool:
    """Whether partitions may lie on different servers."""
    return isinstance(log, cluster.RedisCluster)


def server(log: Log, key: str) -> redis.Redis:
    """A client of the server that has `key`, as far as is known."""
    if not sharded(log):
        return cast(redis.Redis, log)
    node = log.get_node_from_key(key)
    if node is None:
        raise ClusterDownError(f"no node of the cluster serves the slot of {key}")
    found: redis.Redis = log.get_redis_connection(node)
    return found


def together(log: Log, key: str, fill: Callable[[Any], None], **how: Any) -> list[Any]:
    """The replies to what `fill` puts into one transaction, on the server that has `key`.

    Whatever keys it has are of that one's slot. `how` is for `execute`.
    """
    for left in range(_REDIRECTIONS, -1, -1):
        with server(log, key).pipeline(transaction=True) as step:
            fill(step)
            try:
                found: list[Any] = step.execute(**how)
                return found
            except (AskError, TryAgainError, ClusterDownError):  # MOVED is an ASK
                # Refused as a whole.
                if not left or not sharded(log):
                    raise
        time.sleep(_PAUSE_SECONDS)
        log.nodes_manager.initialize()
    raise AssertionError
