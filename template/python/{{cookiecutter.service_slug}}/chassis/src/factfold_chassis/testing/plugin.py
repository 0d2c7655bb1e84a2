"""Fixtures of the testing kit: `pytest_plugins = ["factfold_chassis.testing.plugin"]`.

A repository that uses `running` has a fixture `app` that returns its Service.
"""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
import redis

from factfold_chassis.errors import WiringError
from factfold_chassis.service import Service
from factfold_chassis.testing import redis_server as servers
from factfold_chassis.testing.redis_server import RedisServer, ServerError
from factfold_chassis.testing.running import Running, run
from factfold_chassis.testing.spans import SpanRecorder


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis for these tests alone, never the one at FACTFOLD_REDIS_URL."""
    problem = ""
    try:
        server = servers.start()
    except ServerError as error:
        problem = str(error)
    if problem:  # said here, where pytest has no other exception to show beside it
        pytest.fail(problem, pytrace=False)
    with server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of `redis_server`, with nothing in it."""
    with redis.Redis.from_url(redis_server.url) as connection:
        connection.flushall()
    return redis_server.url


@pytest.fixture
def spans() -> SpanRecorder:
    """The spans of `running`."""
    return SpanRecorder()


@pytest_asyncio.fixture
async def running(app: Service, redis_url: str, spans: SpanRecorder) -> AsyncIterator[Running]:
    """The service, ready, against an empty log. One that cannot start ends all tests at once."""
    try:
        app.wire()
    except WiringError as error:
        pytest.exit(str(error), returncode=1)
    async with run(app, redis_url, spans) as service:
        yield service
