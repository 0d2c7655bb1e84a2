"""Trimming: what the policy removes and what it leaves, and what those are told who come after."""

import asyncio
import shutil
from typing import Any

import pytest
from test_core import Shop, eventually, place, running
from test_snapshot import caught_up

from factfold_chassis import Append, reaction
from factfold_chassis.errors import FailedPrecondition
from factfold_chassis.facts import partition_of
from factfold_chassis.log.redis import Redis
from factfold_chassis.log.streams import Keys
from factfold_chassis.log.trim import Policy, Trimmer

AT = partition_of("k", 4)
KEYS = Keys("orders", AT)
NOBODY = "0011223344556677"


class Trimmed:
    """A shop with snapshots, and the log of the partition that the key `k` lies in."""

    def __init__(self, url: str, client: Any, shop: Any, bank: Any, folder: Any):
        self.url, self.client, self.shop, self.folder = url, client, shop, folder
        self.service = Shop(shop, bank)
        self.alarms: list[str] = []

    def core(self, **more: Any) -> Any:
        return self.service.core(self.url, snapshot_dir=str(self.folder), **more)

    async def fill(self, core: Any, first: int, last: int) -> None:
        """Versions of the order k, and two snapshots: so the view may go back to `last`."""
        for n in range(first, last):
            await place(core, self.shop.OrderPlaced(id="k", name=str(n)), n, f"r{n}")
        await self.keep(core)

    async def keep(self, core: Any) -> None:
        await caught_up(core, self.client)
        for _ in range(2):
            await core.owner.save()

    async def trim(self, core: Any, **policy: Any) -> dict[int, int]:
        """Held back, by partition."""
        trimmer = Trimmer(Redis(self.url), Policy(**policy), self.alarms.append)
        await trimmer.trim(core.epochs)
        return {at: facts for (_, at), facts in trimmer.held_back.items() if facts}

    async def log(self) -> list[int]:
        """The n of the facts that are left; the head agrees."""
        ids = [entry[0] for entry in await self.client.xrange(KEYS["log"])]
        n, trimmed = map(int, await self.client.hmget(KEYS["head"], "n", "trimmed"))
        assert n - trimmed == len(ids)
        return [int(each.split(b"-")[1]) for each in ids]

    async def cursor(self, reader: str, n: int, instance: str = NOBODY) -> None:
        entries = await self.client.xrange(KEYS["log"])
        ids = {int(each.split(b"-")[1]): each.decode() for each, _ in entries}
        value = f"{ids.get(n, '0-0')} 1795490001000"
        key = KEYS[f"cursors:{reader}"]
        await self.client.hset(key, mapping={"_": "1", instance: value})


@pytest.fixture
def trimmed(server: Any, client: Any, shop: Any, bank: Any, tmp_path: Any) -> Trimmed:
    return Trimmed(server.url, client, shop, bank, tmp_path / "snapshots")


async def test_a_policy_leaves_what_it_says_and_the_anchor(trimmed: Trimmed) -> None:
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 0, 10)
        assert await trimmed.trim(core) == {}
        assert len(await trimmed.log()) == 10
        assert await trimmed.trim(core, facts=4) == {}
        assert await trimmed.log() == [7, 8, 9, 10]
        assert await trimmed.trim(core, age=3600) == {}
        assert await trimmed.log() == [7, 8, 9, 10]
        await asyncio.sleep(0.02)
        assert await trimmed.trim(core, age=0.001) == {}
        assert await trimmed.log() == [10]
        # It goes on, and so does who starts with what was kept.
        await place(core, trimmed.shop.OrderPlaced(id="k", name="on"), 10)
    async with running(trimmed.core()) as core:
        assert core.query().rows(trimmed.service.orders).get("k").name == "on"
    assert trimmed.alarms == []


async def test_the_age_goes_by_the_time_of_each_fact(trimmed: Trimmed) -> None:
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 0, 5)
        await asyncio.sleep(1.2)
        await trimmed.fill(core, 5, 8)
        await trimmed.trim(core, age=1)
        assert await trimmed.log() == [6, 7, 8]


async def test_more_than_one_call_removes(trimmed: Trimmed, monkeypatch: Any) -> None:
    monkeypatch.setattr("factfold_chassis.log.trim.AT_ONCE", 3)
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 0, 12)
        await trimmed.trim(core, facts=1)
        assert await trimmed.log() == [12]


async def test_the_smallest_cursor_of_all_instances_counts(
    trimmed: Trimmed, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 0, 10)
        await trimmed.cursor("billing.orders", 9)
        await trimmed.cursor("billing.orders", 4, "8899aabbccddeeff")
        assert await trimmed.trim(core, facts=2) == {AT: 5}
        assert await trimmed.log() == [4, 5, 6, 7, 8, 9, 10]
        (said,) = [line for line in caplog.messages if "keeps more" in line]
        assert said.startswith(
            "stream orders keeps more than FACTFOLD_KEEP_FACTS asks for: "
            "billing.orders/8899aabbccddeeff needs facts from "
        )
        assert said.endswith("factfold trim orders --drop billing.orders/8899aabbccddeeff")


async def test_a_view_without_a_snapshot_holds_back_everything(
    trimmed: Trimmed, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 0, 10)
        await trimmed.cursor("billing.orders", 0)
        assert await trimmed.trim(core, facts=2) == {AT: 8}
        assert " needs facts from the first fact on; let it catch up" in caplog.text
        assert len(await trimmed.log()) == 10
        await trimmed.client.hdel(KEYS["cursors:billing.orders"], NOBODY)
        # Nobody is there any more; the service may come back.
        assert await trimmed.trim(core, facts=2) == {AT: 8}
        assert len(await trimmed.log()) == 10
        await trimmed.client.delete(KEYS["cursors:billing.orders"])
        assert await trimmed.trim(core, facts=2) == {}
        assert await trimmed.log() == [9, 10]


async def test_the_own_view_without_snapshots_holds_back_everything(trimmed: Trimmed) -> None:
    async with running(trimmed.service.core(trimmed.url)) as core:
        for n in range(5):
            await place(core, trimmed.shop.OrderPlaced(id="k"), n)
        await trimmed.keep(core)
        assert await trimmed.trim(core, facts=1) == {AT: 4}


async def test_a_view_to_which_nothing_comes_does_not_hold_back_what_came_last(
    trimmed: Trimmed,
) -> None:
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 0, 5)
        files = sorted(trimmed.folder.glob("*.snapshot"))
        await trimmed.keep(core)
        assert sorted(trimmed.folder.glob("*.snapshot")) == files
        assert await trimmed.trim(core, facts=1) == {}
        assert await trimmed.log() == [5]


async def test_facts_that_a_group_has_not_committed_stay(trimmed: Trimmed) -> None:
    answering = asyncio.Event()

    @reaction(trimmed.shop.OrderPlaced)
    async def wait(event: Any, call: Any) -> Any:
        if int(event.name) >= 5:
            await answering.wait()

    trimmed.service.reactions.append(wait)
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 0, 5)
        group = KEYS["group:shop.wait"]

        async def committed(n: int) -> None:
            async with asyncio.timeout(10):
                while not (await trimmed.client.hget(group, "position")).endswith(b"-%d" % n):
                    await asyncio.sleep(0.01)

        await committed(5)
        await trimmed.fill(core, 5, 10)
        assert await trimmed.trim(core, facts=1) == {AT: 5}
        assert await trimmed.log() == [5, 6, 7, 8, 9, 10]
        answering.set()
        await committed(10)
        assert await trimmed.trim(core, facts=1) == {}
        assert await trimmed.log() == [10]


async def test_who_holds_back_is_said_once(
    trimmed: Trimmed, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 0, 10)
        await trimmed.cursor("billing.orders", 4)
        trimmer = Trimmer(Redis(trimmed.url), Policy(facts=2), trimmed.alarms.append)

        def said() -> int:
            return len([line for line in caplog.messages if "keeps more" in line])

        await trimmer.trim(core.epochs)
        await trimmer.trim(core.epochs)
        assert said() == 1
        await trimmed.cursor("billing.orders", 9)
        await trimmer.trim(core.epochs)
        assert trimmer.held_back["orders", AT] == 0
        await trimmed.cursor("billing.orders", 0)
        await trimmed.fill(core, 10, 12)
        await trimmer.trim(core.epochs)
        assert said() == 2


async def test_a_log_that_is_not_whole_is_not_trimmed(trimmed: Trimmed) -> None:
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 0, 10)
        (first, _), *_ = await trimmed.client.xrange(KEYS["log"], count=1)
        await trimmed.client.xdel(KEYS["log"], first)
        trimmer = Trimmer(Redis(trimmed.url), Policy(facts=2), trimmed.alarms.append)
        await trimmer.trim(core.epochs)
        await trimmer.trim(core.epochs)
        assert await trimmed.client.xlen(KEYS["log"]) == 9
        assert trimmed.alarms == [
            f"stream orders, partition {AT}, is not trimmed: it has 9 entries, and its head "
            "counts 10"
        ]


async def test_a_replaced_log_is_not_trimmed(trimmed: Trimmed) -> None:
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 0, 10)
        trimmer = Trimmer(Redis(trimmed.url), Policy(facts=2), trimmed.alarms.append)
        await trimmer.trim({"orders": ["f" * 16] * 4})
        await trimmer.trim({"other": ["f" * 16] * 4})
        assert len(await trimmed.log()) == 10


async def test_what_goes_wrong_is_said(trimmed: Trimmed, caplog: pytest.LogCaptureFixture) -> None:
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 0, 10)
        user = ("ACL", "SETUSER", "few", "on", ">few", "~*", "+@all", "-xtrim")
        await trimmed.client.execute_command(*user)
        url = trimmed.url.replace("//", "//few:few@")
        trimmer = Trimmer(Redis(url), Policy(facts=2), trimmed.alarms.append)
        await trimmer.trim(core.epochs)
        await trimmer.trim(core.epochs)
        assert len([line for line in caplog.messages if "was not trimmed" in line]) == 1
        assert len(await trimmed.log()) == 10
        await Trimmer(Redis("redis://127.0.0.1:1"), Policy(facts=2), print).trim(core.epochs)
        assert caplog.messages[-1].startswith("stream orders was not trimmed: ")


async def test_the_first_process_trims_behind_each_round_of_snapshots(
    trimmed: Trimmed,
) -> None:
    policy = {"keep_facts": 3, "snapshot_interval": 0.05}
    async with running(trimmed.core(**policy)) as core:
        await trimmed.fill(core, 0, 10)
        async with asyncio.timeout(10):
            while await trimmed.log() != [8, 9, 10]:
                await asyncio.sleep(0.02)
    async with running(trimmed.core(first=False, **policy)) as core:
        for n in range(10, 14):
            await place(core, trimmed.shop.OrderPlaced(id="k", name=str(n)), n)
        await asyncio.sleep(0.3)
        assert len(await trimmed.log()) == 7


# Who comes after.


async def test_a_view_that_needs_what_was_trimmed_is_told_and_begins_with_a_snapshot(
    trimmed: Trimmed, tmp_path: Any
) -> None:
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 0, 10)
        await trimmed.trim(core, facts=4)
    async with running(trimmed.service.core(trimmed.url), ready=False) as core:
        await eventually(lambda: "cannot be complete" in core.status)
        assert core.status == (
            f"view shop cannot be complete: stream orders, partition {AT}: facts 1 to 6 were "
            "trimmed on purpose, and only a backup of the log has them; for a view, copy the "
            "*.snapshot files of an instance that has read them into FACTFOLD_SNAPSHOT_DIR and "
            "restart"
        )
    other = tmp_path / "other"
    other.mkdir()
    for file in trimmed.folder.glob("*.snapshot"):
        shutil.copy(file, other)
    core = trimmed.service.core(trimmed.url, snapshot_dir=str(other))
    async with running(core):
        assert core.query().rows(trimmed.service.orders).get("k").name == "9"


async def test_facts_that_nobody_trimmed_are_missing_also_behind_a_trim(
    trimmed: Trimmed,
) -> None:
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 0, 10)
        await trimmed.trim(core, facts=4)
    await trimmed.client.xtrim(KEYS["log"], maxlen=3, approximate=False)
    async with running(trimmed.service.core(trimmed.url), ready=False) as core:
        await eventually(lambda: "facts 1 to 7 were removed before they were read" in core.status)


async def test_a_reaction_that_comes_after_a_trim_is_told(trimmed: Trimmed) -> None:
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 0, 10)
        await trimmed.trim(core, facts=4)

    answered: list[str] = []

    @reaction(trimmed.shop.OrderPlaced)
    async def late(event: Any, call: Any) -> Any:
        answered.append(event.name)

    trimmed.service.reactions.append(late)
    async with running(trimmed.core(), ready=False) as core:
        await eventually(lambda: "has stopped" in core.status)
        assert core.status == (
            f"reaction late has stopped: stream orders, partition {AT}: facts 1 to 6 were trimmed "
            "on purpose, and only a backup of the log has them; it goes on once that is mended "
            "and the service restarted"
        )
    assert answered == []


async def test_a_reaction_goes_on_behind_the_anchor_that_a_trim_left(trimmed: Trimmed) -> None:
    @reaction(trimmed.shop.OrderPlaced)
    async def copy(event: Any, call: Any) -> Any:
        if call.fact.cause is None:
            return Append(trimmed.shop.OrderPlaced(id=call.new_id(), name=event.name), 0)
        return None

    trimmed.service.reactions.append(copy)
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 0, 10)
        await eventually(lambda: len(core.query().rows(trimmed.service.orders)) == 11)
        await eventually(lambda: not any(lag for r in core._reactions for *_, lag in r.lag()))
        await trimmed.keep(core)
        await trimmed.trim(core, facts=1)
        assert len(await trimmed.log()) == 1
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 10, 15)
        await eventually(lambda: len(core.query().rows(trimmed.service.orders)) == 16)
        names = [row.name for _, row in core.query().rows(trimmed.service.orders).items()]
        assert sorted(names, key=int) == sorted([*map(str, range(15)), "14"], key=int)


async def test_a_watch_from_before_a_trim_is_told_to_list_again(trimmed: Trimmed) -> None:
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 0, 10)
        watching = core.watch().changes()
        token = [(await anext(watching)).position for _ in range(8)]
        await trimmed.trim(core, facts=4)
    async with running(trimmed.core()) as core:  # which remembers no facts
        for after in ("", token[3]):
            with pytest.raises(FailedPrecondition) as error:
                await anext(core.watch().changes(after))
            assert error.value.message.endswith(
                ": facts up to 6 were trimmed; list again and watch from the position that comes "
                "with it"
            )
        for after, name in ((token[5], "6"), (token[6], "7")):
            change = await anext(core.watch().changes(after))
            assert change.event.name == name


@pytest.mark.parametrize("keeps", ["snapshot", "memory"])
async def test_a_command_whose_answer_was_trimmed_says_so(trimmed: Trimmed, keeps: str) -> None:
    event = trimmed.shop.OrderPlaced(id="k", name="3")
    async with running(trimmed.core()) as core:
        await trimmed.fill(core, 0, 10)
        first = await place(core, event, 3, "r3")
        assert first.repeated
        await trimmed.trim(core, facts=4)
        if keeps == "memory":
            await _was_carried_out(core, event, first.position)
    if keeps == "snapshot":
        async with running(trimmed.core()) as core:
            await _was_carried_out(core, event, first.position)
    assert len(await trimmed.log()) == 4


async def _was_carried_out(core: Any, event: Any, at: Any) -> None:
    with pytest.raises(FailedPrecondition) as error:
        await place(core, event, 3, "r3")
    assert error.value.message == (
        f"the command was carried out when it came first, at {at}, and its answer was trimmed "
        "with that fact: ask for the present state"
    )
    # One whose facts are there still gets its answer.
    assert (await place(core, event, 8, "r8")).repeated
