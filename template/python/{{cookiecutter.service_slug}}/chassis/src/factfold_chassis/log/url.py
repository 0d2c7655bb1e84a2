"""Where the log is, as a URL says it: one server, a cluster, or what sentinels know."""

import re
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool

SINGLE, CLUSTER, SENTINEL = "", "cluster", "sentinel"
_PORTS = {SINGLE: 6379, CLUSTER: 6379, SENTINEL: 26379}
_PATHS = {SINGLE: r"/?|/\d+", CLUSTER: "/?|/0", SENTINEL: r"/[\w.-]+(/\d+)?"}
_SCHEMES = {
    f"{scheme}{kind}"
    for scheme in ("redis", "rediss")
    for kind in ("", f"+{CLUSTER}", f"+{SENTINEL}")
}
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+))(?::(\d+))?")
_SENTINELS_OWN = "sentinel_"  # prefix of the options that are for sentinels
_LOGIN = "username", "password"


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class LogUrl:
    """A URL, taken apart.

    Attributes:
        kind: SINGLE, CLUSTER or SENTINEL.
        text: the URL.
        addresses: of the server, of nodes of the cluster, or of sentinels; none of a socket.
        name: that sentinels know the server by.
    """

    kind: str
    text: str
    addresses: tuple[Address, ...]
    name: str
    _scheme: str
    _login: str
    _db: str
    _options: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> "LogUrl":
        """Raises ValueError if no log can be there."""
        parts = urlsplit(text)
        scheme, _, kind = parts.scheme.partition("+")
        login, at, hosts = parts.netloc.rpartition("@")
        options = tuple(
            (name, value)
            for name, _, value in (pair.partition("=") for pair in parts.query.split("&") if pair)
        )
        if parts.scheme == "unix":
            if re.fullmatch(r"/[^@]+", parts.path) is None:
                raise ValueError(text)
            made = cls(SINGLE, text, (), "", "unix", "", "", options)
            _check(made)
            return made
        # A raw "/" in a password would otherwise end up in the path, and so in a log line.
        if parts.scheme not in _SCHEMES or re.fullmatch(_PATHS[kind], parts.path) is None:
            raise ValueError(text)
        addresses = tuple(_address(host, _PORTS[kind]) for host in hosts.split(","))
        if kind == SINGLE and len(addresses) > 1:
            raise ValueError(text)
        name, _, db = parts.path.strip("/").partition("/")
        if kind != SENTINEL:
            name, db = "", name
        own = {_SENTINELS_OWN + name for name in _LOGIN} if kind == SENTINEL else set()
        wrong = {name for name, _ in options if name.startswith(_SENTINELS_OWN)} - own
        if wrong or (kind == CLUSTER and "db" in dict(options)):
            raise ValueError(text)
        made = cls(kind, text, addresses, name, scheme, login + at, db, options)
        # Those of TLS are looked at where it is known what is wrong with them (redis_tls).
        _check(replace(made, _options=tuple(o for o in options if not o[0].startswith("ssl_"))))
        return made

    def server(self, address: Address) -> str:
        """The URL of one server of the log."""
        options = [(n, v) for n, v in self._options if not n.startswith(_SENTINELS_OWN)]
        return self._url(self._login, address, self._db, options)

    def sentinel(self, address: Address) -> str:
        """The URL of one sentinel: its login is its own, how it is reached as the servers are."""
        own = dict(self._options)
        user, password = (own.get(_SENTINELS_OWN + name, "") for name in _LOGIN)
        login = f"{user}:{password}@" if user or password else ""
        options = [(n, v) for n, v in self._options if n.startswith("ssl_")]
        return self._url(login, address, "", options)

    def _url(self, login: str, address: Address, db: str, options: list[tuple[str, str]]) -> str:
        query = "&".join(f"{name}={value}" for name, value in options)
        return f"{self._scheme}://{login}{address}/{db}" + (f"?{query}" if query else "")


def _check(url: LogUrl) -> None:
    """Raises ValueError if redis-py does not know what an option is, or takes no such value."""
    try:
        at = url.server(url.addresses[0]) if url.addresses else url.text
        pool: Any = ConnectionPool.from_url(at)
        pool.make_connection()
    except (TypeError, ValueError):
        raise ValueError(url.text) from None


def _address(text: str, port: int) -> Address:
    found = _HOST.fullmatch(text)
    if found is None or int(found[3] or port) not in range(1, 65536):
        raise ValueError(text)
    return Address(found[1] or found[2], int(found[3] or port))
