"""How one Redis of the log is configured, and how long its memory lasts."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import redis

from factfold_cli.clients import Log
from factfold_cli.findings import OK, WARNING, WRONG, Finding
from factfold_cli.log import reason
from factfold_cli.log_growth import Growth
from factfold_cli.survey import number

_OLDEST = {"redis": (6, 2), "valkey": (7, 2)}
_FEW_DAYS = 7
_FULL = 0.8


def finding(name: str, state: str, found: str, mend: str = "", **values: Any) -> Finding:
    return Finding("log", name, state, found, mend, values)


def information(client: Log) -> tuple[dict[str, Any], str]:
    """What INFO says, or why it says nothing."""
    try:
        return dict(client.info()), ""
    except redis.ResponseError as error:
        return {}, f"this user may not ask it for INFO ({reason(error)})"


def server(client: Log, where: str, info: dict[str, Any], denied: str) -> Iterator[Finding]:
    """`where`: its address; `info`, `denied`: what `information` has given."""
    if denied:
        yield finding("server", WARNING, f"{where} answers; {denied}: nothing is known of it")
    else:
        yield _server(where, info)
        yield from _policy(where, info)
        yield from _durable(client, where, info)


def _server(where: str, info: dict[str, Any]) -> Finding:
    name = str(info.get("server_name", "redis"))
    version = str(info.get("valkey_version" if name == "valkey" else "redis_version", ""))
    found = f"{where} answers: {name.capitalize()} {version}"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    oldest = _OLDEST.get(name, _OLDEST["redis"])
    if numbers >= oldest:
        return finding("server", OK, found)
    least = ".".join(map(str, oldest))
    return finding(
        "server", WRONG, f"{found}; {least} is the oldest that serves", f"run {least} or newer"
    )


def _policy(where: str, info: dict[str, Any]) -> Iterator[Finding]:
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        yield finding("eviction", OK, "maxmemory-policy noeviction: facts are never evicted")
    else:
        found = f"maxmemory-policy {policy}: when memory is full, Redis removes facts"
        yield finding("eviction", WRONG, found, _set(where, info, "maxmemory-policy", "noeviction"))
    if evicted := int(info.get("evicted_keys", 0)):
        yield finding(
            "evicted keys",
            WRONG,
            f"{number(evicted, 'key')} evicted since the server started: a log may be gone",
            "compare the streams below with a backup",
            evicted=evicted,
        )


def _durable(client: Log, where: str, info: dict[str, Any]) -> Iterator[Finding]:
    if not int(info.get("aof_enabled", 0)):
        found = "there is no append-only file: a restart loses facts"
        yield finding("append-only", WRONG, found, _set(where, info, "appendonly", "yes"))
        return
    if info.get("aof_last_write_status", "ok") != "ok":
        found = "the last write of the append-only file failed"
        yield finding("append-only", WRONG, found, "look at the server's disk and its log")
    else:
        yield finding("append-only", OK, "there is an append-only file")
    try:
        fsync = str(dict(client.config_get("appendfsync")).get("appendfsync", "unknown"))
    except redis.ResponseError as error:
        found = f"not known: this user may not ask for CONFIG ({reason(error)})"
        yield finding("appendfsync", OK, found)
        return
    said = {
        "always": "a fact is on disk before its append is answered",
        "everysec": "a crash of the machine loses a second at most",
    }
    if fsync in said:
        yield finding("appendfsync", OK, f"{fsync}: {said[fsync]}")
    else:
        found = f"{fsync}: a crash of the machine loses what the system had not written yet"
        yield finding("appendfsync", WARNING, found, _set(where, info, "appendfsync", "everysec"))


def _set(where: str, info: dict[str, Any], name: str, value: str) -> str:
    """Where a password is needed, redis-cli asks for it, or takes it from REDISCLI_AUTH."""
    client = f"redis-cli {_named(where)}"
    kept = f" && {client} CONFIG REWRITE" if info.get("config_file") else ""
    return f"{client} CONFIG SET {name} {value}{kept}"


def _named(where: str) -> str:
    parts = urlsplit(where)
    return f"-s {shlex.quote(parts.path)}" if parts.scheme == "unix" else f"-u {shlex.quote(where)}"


def memory(info: dict[str, Any], its: Sequence[Growth]) -> Finding:
    """`its`: the streams, as far as they are on that server."""
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    of = "maxmemory"
    if not limit:
        limit, of = int(info.get("total_system_memory", 0)), "the machine's, without a maxmemory"
    if not limit:
        return finding("memory", WARNING, f"{size(used)} used; there is no maxmemory", used=used)
    found = f"{size(used)} of {size(limit)} used ({of})"
    values: dict[str, Any] = {"used": used, "limit": limit, "days": None}
    rates = [each.bytes_per_day for each in its if each.bytes_per_day is not None]
    daily = sum(rates)
    if not rates:
        found += "; not enough history to say when it is full"
    elif daily:
        days = max(0.0, (limit - used) / daily)
        values["days"] = round(days, 1)
        found += (
            f"; full in about {_days(days)}, at {size(daily)} a day: the facts of the log's last "
            "day, by the times in their ids, times what a fact of their stream takes on average"
        )
    soon = values["days"] is not None and values["days"] < _FEW_DAYS
    if soon or used > _FULL * limit:
        mend = "give Redis more memory, or let old facts go: factfold trim"
        return finding("memory", WARNING, found, mend, **values)
    return finding("memory", OK, found, **values)


def _days(days: float) -> str:
    if days > 3650:
        return "more than ten years"
    return number(round(days), "day") if days >= 1 else "less than a day"


def size(amount: float | None) -> str:
    """Bytes in a unit that people read."""
    amount = amount or 0
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
