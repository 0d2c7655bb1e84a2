"""A connection that breaks is one kind of error, whatever notices it first."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from factfold_chassis.log.link import LinkLost
from factfold_chassis.log.redis import Redis
from factfold_chassis.testing import redis_server as servers


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_sending_on_a_broken_connection_is_a_lost_link(
    make_loop: Callable[[], asyncio.AbstractEventLoop], server: servers.RedisServer
) -> None:
    async def send() -> None:
        async with Redis(server.url).link() as link:
            assert await link.call("PING") == b"PONG"
            link._transport.abort()
            for _ in range(2):
                with pytest.raises(LinkLost):
                    await link.send(("PING",))

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(send())
