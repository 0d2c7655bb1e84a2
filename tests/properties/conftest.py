"""A real server for each kind, and how many examples are tried."""

from collections.abc import Iterator

import pytest
import redis
from faults import servers
from hypothesis import HealthCheck, settings

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile(
    "normal",
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=QUIET,
)
settings.register_profile("long", settings.get_profile("normal"), max_examples=5_000)


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("long" if config.getoption("--long") else "normal")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" not in metafunc.fixturenames:
        return
    asked = metafunc.config.getoption("--server")
    # The oldest, unless told otherwise: it has the fewest commands.
    found = servers.kinds("redis-6.2" if asked == "default" else asked)
    if asked == "default" and isinstance(found[0], str):
        found = servers.kinds(asked)
    names = [kind if isinstance(kind, str) else kind.name for kind in found]
    metafunc.parametrize("kind", found, ids=names, scope="session")


@pytest.fixture(scope="session")
def client(kind: servers.Kind | str) -> Iterator[redis.Redis]:
    if isinstance(kind, str):
        pytest.skip(f"no {kind} is on this machine")
    with (
        kind.start("--appendonly", "no") as server,
        redis.Redis.from_url(server.url, protocol=2) as client,
    ):
        yield client
