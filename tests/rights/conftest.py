"""Servers with the users that `factfold acl` has written."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from cli.running import FACTFOLD, plain_environment
from faults.servers import Kind, kinds
from system import conftest as system

folder, orders, shipments = system.folder, system.orders, system.shipments
# 6.2 has no selectors; with one server of each kind all rules are tried.
SERVERS = ("redis-6.2", "redis-7.0")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        found = kinds(",".join(SERVERS))
        names = [each if isinstance(each, str) else each.name for each in found]
        metafunc.parametrize("kind", found, ids=names, scope="session")


@dataclass(frozen=True)
class Held:
    """A server that lets in nobody but the users in `users`, a folder of `factfold acl`."""

    port: int
    users: Path
    selectors: bool

    def url(self, name: str) -> str:
        """Of a user on this server."""
        login = self.file(name).read_text().partition("//")[2].partition("@")[0]
        return f"redis://{login}@127.0.0.1:{self.port}/0"

    def file(self, name: str) -> Path:
        return self.users / f"{name}.url"

    def client(self, name: str) -> redis.Redis:
        return redis.Redis.from_url(self.url(name), protocol=2)

    def settings(self, service: str) -> dict[str, str]:
        """What a service is told of the log."""
        users = {"FACTFOLD_REDIS_URL": service, "FACTFOLD_REDIS_READ_URL": f"{service}-reads"}
        return {name: self.url(user) for name, user in users.items() if self.file(user).exists()}

    def denied(self) -> list[str]:
        """What the server has refused so far: user, why, what."""
        with self.client("factfold-admin") as admin:
            entries: list[list[bytes]] = admin.execute_command("ACL LOG")
        its = [dict(each) if not isinstance(each, dict) else each for each in entries]
        return [f"{each['username']}: {each['reason']} {each['object']}" for each in its]


class Tried:
    """What was tried under one kind of server: role → class → how it ended → how often."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.ends: dict[str, dict[str, dict[str, int]]] = {}

    def count(self, role: str, what: str, **ends: int) -> None:
        """`refused` by the server, or an `alarm` of the audit."""
        counts = self.ends.setdefault(what, {}).setdefault(role, {})
        for end, times in ends.items():
            counts[end] = counts.get(end, 0) + times


TRIED = pytest.StashKey[dict[str, Tried]]()


@pytest.fixture
def tried(kind: Kind | str, request: pytest.FixtureRequest) -> Tried:
    name = kind if isinstance(kind, str) else kind.name
    every = request.config.stash.setdefault(TRIED, {})
    return every.setdefault(name, Tried(name))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    tables = [_markdown(each) for each in config.stash.get(TRIED, {}).values() if each.ends]
    if not tables:
        return
    terminalreporter.section("rights")
    terminalreporter.write("\n".join(tables))
    if (path := config.getoption("--rights")) is not None:
        Path(path).write_text("\n".join(tables), encoding="utf-8")


def _markdown(tried: Tried) -> str:
    """Classes of commands as rows, roles as columns."""
    roles = list(dict.fromkeys(role for counts in tried.ends.values() for role in counts))
    rows = [[tried.kind, *roles], ["---"] * (len(roles) + 1)]
    for what, counts in tried.ends.items():
        cells = (counts.get(role, {}) for role in roles)
        rows.append([what, *(", ".join(f"{n} {end}" for end, n in each.items()) for each in cells)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def acl(folder: Path, *words: str) -> None:
    """`factfold acl …` in a folder with services."""
    done = subprocess.run(
        [*FACTFOLD, "acl", *words], cwd=folder, env=plain_environment(), capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture
def held(
    request: pytest.FixtureRequest,
    kind: Kind | str,
    folder: Path,
    shipments: object,
    tmp_path: Path,
) -> Iterator[Held]:
    """`@pytest.mark.parametrize("held", [OPTIONS], indirect=True)`: with more options of acl."""
    if isinstance(kind, str):
        pytest.skip(f"no {kind} is on this machine")
    selectors = kind.name != "redis-6.2"
    words = request.param if hasattr(request, "param") else ()
    version = "7" if selectors else "6.2"
    acl(folder, "--output", str(tmp_path / "acl"), "--server", version, *words)
    options = ["--aclfile", str(tmp_path / "acl/users.acl")]
    if selectors:
        # So that it is the rules that refuse these commands.
        options += ["--enable-debug-command", "yes", "--enable-module-command", "yes"]
    with kind.start(*options) as server:
        yield Held(server.port, tmp_path / "acl", selectors)
