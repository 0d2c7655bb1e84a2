"""A master that falls, and sentinels that promote one of its replicas, under load."""

import pytest

from .row import Row
from .shards import Traffic

pytestmark = pytest.mark.topology("sentinels")

# As docs/scaling.md says. Else one that others have replaced may go on for ten seconds and more.
NOT_ALONE = ("--min-replicas-to-write", "1")
# A process remembers all that it is told in the seconds of a failover.
PAUSE = 0.25


@pytest.mark.at_least(10)
async def test_master_is_killed(row: Row) -> None:
    """SIGKILL the master, sentinels promote a replica, under load"""
    traffic = await Traffic.begin(row, *NOT_ALONE)
    async with traffic.load(pause=PAUSE) as load:
        while row.more:
            before = traffic.server.master()
            await traffic.during(load, traffic.server.fail_over)
            row.injected()
            await traffic.during(load, lambda b=before: traffic.server.start_again(b))
    await traffic.accounted_for()


@pytest.mark.at_least(10)
async def test_failed_over_by_order(row: Row) -> None:
    """sentinels are told to promote a replica, under load"""
    traffic = await Traffic.begin(row, *NOT_ALONE)
    async with traffic.load(pause=PAUSE) as load:
        while row.more:
            await traffic.during(load, traffic.server.fail_over_gently)
            row.injected()
            # Until then the old master takes what it is given, and loses it.
            await traffic.during(load, traffic.server.settle)
    await traffic.accounted_for()
