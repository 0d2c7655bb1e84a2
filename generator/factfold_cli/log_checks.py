"""How the log's servers are configured, whether they hold all facts, how long memory lasts."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import redis

from factfold_cli import log as logs
from factfold_cli.clients import AWAY, Log, sharded
from factfold_cli.errors import Failed, Refused
from factfold_cli.findings import MISSING, OK, WARNING, WRONG, Finding
from factfold_cli.given import URL, given_url
from factfold_cli.log_audit import faults
from factfold_cli.log_growth import Growth, growth
from factfold_cli.log_servers import Server, followers, servers, topology
from factfold_cli.output import address_of
from factfold_cli.server_checks import finding, information, memory, server, size
from factfold_cli.survey import number, streams


def log(url: str | None) -> list[Finding]:
    """`url`, else what the environment names, else the default of the services' own settings."""
    try:
        given = url or given_url()
        with logs.opened(given) as client:
            return list(_of(client, given))
    except (Failed, Refused) as error:
        if isinstance(error, Failed) and not (url or given_url()):
            mend = f"factfold up runs one; set {URL} to the one that it prints"
            return [finding("server", MISSING, error.format_message(), mend)]
        return [finding("server", WRONG, error.format_message())]


def _of(client: Log, given: str | None) -> Iterator[Finding]:
    where = address_of(given) if given else address_of(logs.DEFAULT_URL)
    yield from topology(client)
    known: list[tuple[Server, dict[str, Any]]] = []
    for each in servers(client, where):
        try:
            info, denied = information(each.client)
        except AWAY as error:
            if not each.name:
                raise
            mend = "start it again, or have a replica take its place"
            gone = finding("server", WRONG, f"it does not answer: {logs.reason(error)}", mend)
            yield each.named(gone)
            continue
        yield from map(each.named, server(each.client, each.where, info, denied))
        if not denied:
            yield from map(each.named, followers(info, each, client))
            known.append((each, info))
    names = []
    try:
        names = streams(client)
    except redis.ResponseError as error:
        yield finding("streams", WARNING, f"this user may not look for any: {logs.reason(error)}")
    except AWAY as error:
        if not sharded(client):
            raise
        yield finding("streams", WARNING, f"not looked at: {logs.reason(error)}")
    for name in names:
        try:
            yield _stream(growth(client, name))
        except redis.ResponseError as error:
            yield finding(f"stream {name}", WARNING, f"not looked at: {logs.reason(error)}")
        yield from _audit(client, name)
    for each, info in known:
        if each.master:
            its = []
            for name in names:
                with suppress(redis.ResponseError):  # said already
                    its.append(growth(client, name, each.has))
            yield each.named(memory(info, its))


def _stream(its: Growth) -> Finding:
    name = f"stream {its.stream}"
    facts = f"{its.facts:,} facts" if its.facts != 1 else "1 fact"
    found = f"{facts} in {number(its.partitions, 'partition')}, {size(its.bytes)}"
    if its.per_day:
        found += f"; {its.per_day:,.0f} facts, {size(its.bytes_per_day)} a day"
    return finding(
        name,
        OK,
        found,
        facts=its.facts,
        bytes=its.bytes,
        facts_per_day=round(its.per_day) if its.per_day is not None else None,
    )


def _audit(client: Log, name: str) -> Iterator[Finding]:
    """What rights cannot keep a service from doing to its own log is noticed here."""
    try:
        for fault in faults(client, name):
            yield finding(f"log {fault.log}", fault.state, fault.found, fault.mend)
    except redis.ResponseError as error:
        yield finding(f"log {name}", WARNING, f"not audited: {logs.reason(error)}")
