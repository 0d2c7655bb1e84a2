"""What a service can be told from outside: `FACTFOLD_*` variables, each with a default.

Tracing and metrics are configured by the standard `OTEL_*` variables instead.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from factfold_chassis.errors import SettingsError
from factfold_chassis.log import redis_tls
from factfold_chassis.log.url import LogUrl

PREFIX = "FACTFOLD_"


def _setting(
    default: Any, doc: str, rule: str, parse: Callable[[str], Any], *, secret: bool = False
) -> Any:
    """`parse` raises ValueError for a text that breaks the `rule`, which ends "it must be …"."""
    metadata = {"doc": doc, "rule": rule, "parse": parse, "secret": secret}
    return field(default=default, repr=not secret, metadata=metadata)


def _choice(default: Any, doc: str, *choices: Any) -> Any:
    names = [str(choice).lower() for choice in choices]
    rule = f"one of {', '.join(names)}"
    return _setting(default, doc, rule, lambda text: choices[names.index(text.lower())])


def _number(default: float, doc: str) -> Any:
    kind, what = type(default), "whole number" if isinstance(default, int) else "number of seconds"

    def parse(text: str) -> float:
        if not 0 < kind(text) < float("inf"):
            raise ValueError
        return kind(text)

    return _setting(default, doc, f"a {what} above 0", parse)


def _count(text: str) -> int:
    if int(text) < 0:
        raise ValueError
    return int(text)


def _redis_url(text: str) -> str:
    LogUrl.parse(text)
    return text


def _listen(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError
    return text


def _processes(text: str) -> int:
    if text.lower() == "auto":
        # Not all of the machine's, where it says so.
        found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return found or 1
    if int(text) <= 0:
        raise ValueError
    return int(text)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Times are in seconds. Variable names are the field names in capitals after `FACTFOLD_`.

    A secret is also read from the file that `FACTFOLD_<NAME>_FILE` names, and never shown.
    """

    redis_url: str = _setting(
        "redis://127.0.0.1:6379/0",
        "The log: redis://, rediss:// or unix://, with user and password if it asks for them. "
        "redis+cluster://host:port,host:port: nodes of a Redis Cluster, some are enough. "
        "redis+sentinel://host:port,host:port/name: sentinels, and what they call the log's "
        "server. Both also with rediss, which is TLS: ?ssl_ca_certs=FILE names the authority that "
        "has signed the server's certificate, &ssl_certfile=FILE&ssl_keyfile=FILE this service's "
        "own one.",
        "redis://[user:password@]host:port/db, redis+cluster://host:port,host:port or "
        "redis+sentinel://host:port,host:port/name, special characters of the password "
        "percent-encoded, with no option that redis-py does not know",
        _redis_url,
        secret=True,
    )
    redis_read_url: str = _setting(
        "",
        "The same log as a user who reads other services' streams and writes nothing: for Redis "
        "6.2, whose users cannot hold both rights apart. Empty: FACTFOLD_REDIS_URL reads them too.",
        "a URL as that of FACTFOLD_REDIS_URL",
        _redis_url,
        secret=True,
    )
    listen: str = _setting(
        "127.0.0.1:50051",
        "Address of the gRPC server, host:port; port 0 takes a free one.",
        "host:port, such as 127.0.0.1:50051",
        _listen,
    )
    processes: int = _setting(
        1,
        "Processes that share the address, each with its own views; auto: one for each core that "
        "this one may use.",
        "a whole number above 0, or auto",
        _processes,
    )
    tls_cert_file: str = _setting(
        "",
        "Mutual TLS: the service's certificate in PEM, shown to callers and to the services that "
        "it calls. All three FACTFOLD_TLS_… or none; new files are used without a restart.",
        "a file",
        str,
    )
    tls_key_file: str = _setting(
        "", "Mutual TLS: the certificate's private key in PEM, without a password.", "a file", str
    )
    tls_ca_file: str = _setting(
        "",
        "Mutual TLS: certificates in PEM of the authorities that must have signed the certificates "
        "of callers and of the services that it calls.",
        "a file",
        str,
    )
    health_listen: str = _setting(
        "",
        "Address of one more server, host:port, that answers gRPC health checks alone and without "
        "TLS, which probes of Kubernetes do not speak; empty: there is none.",
        "host:port, such as 0.0.0.0:50052",
        _listen,
    )
    log_format: str = _choice(
        "auto", "json, text, or auto: text on a terminal, else json.", "auto", "json", "text"
    )
    log_level: str = _choice(
        "INFO", "The least level that is logged.", "DEBUG", "INFO", "WARNING", "ERROR"
    )
    drain_timeout: float = _number(
        10.0,
        "Time from SIGTERM to the end of the process, at most; calls under way may finish. "
        "A process that hangs is ended by force a second later, with a stack trace.",
    )
    default_deadline: float = _number(10.0, "Deadline of unary calls that bring none.")
    append_timeout: float = _number(2.0, "Time an append may wait for the log.")
    wait_replicas: int = _setting(
        0,
        "Replicas of Redis that must have confirmed a fact before its append is answered, and "
        "before a reaction goes on from what it has appended. It makes a failover lose less; it "
        "cannot make it lose nothing.",
        "a whole number, 0 or above",
        _count,
    )
    read_timeout: float = _number(
        2.0, "Time a call with factfold-at-least may wait for the view, at most."
    )
    expect_log: bool = _choice(
        False,
        "Never create this service's own stream: refuse to serve when it is missing.",
        True,
        False,
    )
    max_fact_bytes: int = _number(1_048_576, "Size of one fact, at most.")
    append_queue: int = _number(
        10_000, "Facts that may wait to be appended; beyond that, appends fail at once."
    )
    reaction_attempts: int = _number(
        20, "Times a reaction tries a fact before it gives up on it; 20 take about five minutes."
    )
    lease: float = _number(
        5.0,
        "Time after which a silent instance's reactions are taken over; the same for all of them.",
    )
    snapshot_dir: str = _setting(
        "",
        "Folder for snapshots of the views, so that a restart need not read the whole log; "
        "empty: none are kept.",
        "a folder",
        str,
    )
    snapshot_interval: float = _number(300.0, "Time between two snapshots of a view.")
    keep_age: float = _number(
        0.0,
        "Age that a fact of this service's own streams must have to be removed from the log, once "
        "all readers have it and have kept it; empty: none is removed because of its age.",
    )
    keep_facts: int = _number(
        0,
        "Facts that a partition of this service's own streams is left with, if all readers have "
        "the older ones and have kept them; empty: none is removed because of their number. With "
        "both, a fact goes as soon as one of them lets it.",
    )

    @property
    def redis_address(self) -> str:
        """The log's URL without user, password and options: fit for a log line."""
        parts = urlsplit(self.redis_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that must never be logged."""
        passwords: list[str] = []
        for parts in map(urlsplit, (self.redis_url, self.redis_read_url)):
            options = parse_qs(parts.query)
            passwords += [parts.password or "", *options.get("password", [])]
            passwords += options.get("sentinel_password", []) + options.get("ssl_password", [])
        return tuple({form for text in passwords for form in (text, unquote(text)) if form})

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """An empty variable counts as absent.

        Raises:
            SettingsError: an unknown `FACTFOLD_*` variable, or a value that cannot be used.
        """
        known = {PREFIX + item.name.upper(): item for item in fields(cls)}
        files = {f"{name}_FILE": name for name, item in known.items() if item.metadata["secret"]}
        values: dict[str, Any] = {}
        for variable in sorted(name for name in environment if name.startswith(PREFIX)):
            name, text = files.get(variable, variable), environment[variable]
            if name not in known:
                nearest = get_close_matches(variable, [*known, *files], n=1, cutoff=0)[0]
                raise SettingsError(
                    f"{variable} is not a setting: unset it, or did you mean {nearest}?"
                )
            if not text:
                continue
            item = known[name]
            if item.name in values:
                raise SettingsError(f"{name} and {variable} are both set: unset one of them")
            try:
                if variable in files:
                    text = Path(text).read_text(encoding="utf-8").strip()
                values[item.name] = item.metadata["parse"](text)
            except OSError as error:
                raise SettingsError(
                    f"{variable} names a file that cannot be read: {error.strerror}"
                ) from None
            except ValueError:
                shown = "cannot be used" if item.metadata["secret"] else f"is {text!r}"
                rule = item.metadata["rule"]
                raise SettingsError(f"{variable} {shown}: it must be {rule}") from None
        settings = cls(**values)
        for name in ("redis_url", "redis_read_url"):
            if problem := redis_tls.problem(getattr(settings, name)):
                raise SettingsError(f"{PREFIX}{name.upper()}: {problem}")
        return settings
