"""What a service can be told from outside: `FACTFOLD_*` variables, each with a default.

Tracing and metrics are configured by the standard `OTEL_*` variables instead.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from factfold_chassis.errors import SettingsError

PREFIX = "FACTFOLD_"
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _setting(default: Any, doc: str, *, choices: tuple[str, ...] = (), secret: bool = False) -> Any:
    metadata = {"doc": doc, "choices": choices, "secret": secret}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Times are in seconds. Variable names are the field names in capitals after `FACTFOLD_`.

    A field whose metadata says `secret` is also read from the file that `FACTFOLD_<NAME>_FILE`
    names, and never shown.
    """

    redis_url: str = _setting(
        "redis://127.0.0.1:6379/0",
        "The log: redis://, rediss:// or unix://, with user and password if it asks for them.",
        secret=True,
    )
    listen: str = _setting(
        "127.0.0.1:50051", "Address of the gRPC server, host:port; port 0 takes a free one."
    )
    log_format: str = _setting(
        "auto",
        "json, text, or auto: text on a terminal, else json.",
        choices=("auto", "json", "text"),
    )
    log_level: str = _setting(
        "INFO", "The least level that is logged.", choices=("DEBUG", "INFO", "WARNING", "ERROR")
    )
    drain_timeout: float = _setting(
        10.0, "Time from SIGTERM to the end of the process, at most; calls under way may finish."
    )
    default_deadline: float = _setting(10.0, "Deadline of unary calls that bring none.")
    append_timeout: float = _setting(2.0, "Time an append may wait for the log.")
    read_timeout: float = _setting(
        2.0, "Time a call with factfold-at-least may wait for the view, at most."
    )
    expect_log: bool = _setting(
        False, "Never create this service's own stream: refuse to serve when it is missing."
    )
    max_fact_bytes: int = _setting(1_048_576, "Size of one fact, at most.")
    append_queue: int = _setting(
        10_000, "Facts that may wait to be appended; beyond that, appends fail at once."
    )

    @property
    def redis_address(self) -> str:
        """The log's URL without user, password and options: fit for a log line."""
        parts = urlsplit(self.redis_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that must never be logged."""
        parts = urlsplit(self.redis_url)
        passwords = [parts.password or "", *parse_qs(parts.query).get("password", [])]
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
        for name in sorted(environment):
            text = environment[name]
            if not name.startswith(PREFIX) or ((name in known or name in files) and not text):
                continue
            if name in files:
                variable = files[name]
                if environment.get(variable):
                    raise SettingsError(f"{variable} and {name} are both set: unset one of them")
                name, text = variable, _read(name, text)
            if name not in known:
                raise SettingsError(_unknown(name, [*known, *files]))
            values[known[name].name] = _convert(name, text, known[name])
        return cls(**values)


def _unknown(name: str, known: list[str]) -> str:
    nearest = get_close_matches(name, known, n=1, cutoff=0)[0]
    return f"{name} is not a setting: unset it, or did you mean {nearest}?"


def _read(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise SettingsError(f"{name} names a file that cannot be read: {reason}") from None


def _convert(name: str, text: str, item: Field[Any]) -> Any:
    default, choices = item.default, item.metadata["choices"]
    if isinstance(default, bool):
        choices = _TRUE + _FALSE
    if choices:
        if text.lower() not in map(str.lower, choices):
            shown = "true or false" if isinstance(default, bool) else f"one of {', '.join(choices)}"
            raise SettingsError(f"{name} is {text!r}: it must be {shown}")
        found = next(choice for choice in choices if choice.lower() == text.lower())
        return found in _TRUE if isinstance(default, bool) else found
    if isinstance(default, int | float):
        number = float("nan")
        with contextlib.suppress(ValueError):
            number = type(default)(text)
        if not 0 < number < float("inf"):
            what = "a whole number" if isinstance(default, int) else "a number of seconds"
            raise SettingsError(f"{name} is {text!r}: it must be {what} above 0")
        return number
    return _redis_url(name, text) if item.name == "redis_url" else _listen(name, text)


def _redis_url(name: str, text: str) -> str:
    try:
        parts = urlsplit(text)
        _ = parts.port
        if parts.scheme in ("redis", "rediss"):
            # A raw "/" in a password would otherwise end up in the path, and so in a log line.
            valid = bool(parts.hostname) and re.fullmatch(r"/?|/\d+", parts.path) is not None
        else:
            valid = parts.scheme == "unix" and parts.path != "" and "@" not in parts.path
    except ValueError:
        valid = False
    if not valid:
        raise SettingsError(
            f"{name} is not a Redis URL: write redis://[user:password@]host:port/db "
            "and percent-encode special characters of the password"
        )
    return text


def _listen(name: str, text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise SettingsError(f"{name} is {text!r}: it must be host:port, such as 127.0.0.1:50051")
    return text
