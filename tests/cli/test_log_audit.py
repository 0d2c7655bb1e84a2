"""`factfold doctor` on logs that were damaged for real, with the commands that damage them."""

import shlex
import time
from collections.abc import Iterator

import pytest

from factfold_cli import redis_server
from factfold_cli.log_checks import log

from .streams import Stream
from .test_dead_letters import PLACED

WHO = "only the user of its service, an operator and an admin can do that"
RESTORE = "restore them from a backup or a replica"
RECREATE = "restore it from a backup, or factfold stream recreate orders"
HOUR = 3_600_000


@pytest.fixture
def orders() -> Iterator[Stream]:
    """Ten facts in partition 0 of two."""
    with redis_server.start() as server:
        stream = Stream(server.url, count=2)
        stream.append(0, [(f"o-{at}", PLACED, b"", b"") for at in range(10)])
        yield stream
        stream.log.close()


def faults(orders: Stream) -> list[tuple[str, str, str, str]]:
    """What doctor finds at the log: where, state, what was found, what mends it."""
    port = orders.log.connection_pool.connection_kwargs["port"]
    found = log(f"redis://127.0.0.1:{port}/0")
    return [
        (each.name.removeprefix("log "), each.state, each.found, each.mend)
        for each in found
        if each.name.startswith("log ")
    ]


def last(orders: Stream) -> tuple[int, int]:
    ms, n = orders.log.hmget(orders.keys(0)[1], "ms", "n")
    return int(ms), int(n)


def test_a_log_that_is_whole_and_one_that_was_trimmed_on_purpose(orders: Stream) -> None:
    assert faults(orders) == []
    key, head, *_ = orders.keys(0)
    orders.log.xtrim(key, maxlen=4, approximate=False)
    orders.log.hset(head, "trimmed", 6)
    assert faults(orders) == []
    orders.append(0, [("o-11", PLACED, b"", b"")])
    assert faults(orders) == []


def test_facts_that_were_removed(orders: Stream) -> None:
    key = orders.keys(0)[0]
    orders.log.xtrim(key, maxlen=7, approximate=False)
    found = "3 facts (1 to 3) of 10 were removed, and not by factfold trim; " + WHO
    assert faults(orders) == [("orders/0", "wrong", found, RESTORE)]
    ids = [entry_id for entry_id, _ in orders.log.xrange(key)]
    orders.log.xdel(key, ids[2])
    found = "4 facts of 10 were removed, and not by factfold trim; " + WHO
    assert faults(orders) == [("orders/0", "wrong", found, RESTORE)]


def test_a_log_that_was_emptied_by_an_append(orders: Stream) -> None:
    """What a right to append cannot be parted from."""
    key = orders.keys(0)[0]
    ms, n = last(orders)
    orders.log.execute_command("XADD", key, "MAXLEN", 0, f"{ms}-{n + 1}", "a", "b")
    assert faults(orders) == [
        (
            "orders/0", "wrong",
            f"{ms}-{n + 1} stands behind its last fact, and no appender wrote it: "
            f"nothing can be appended; {WHO}",
            f"XDEL {key} {ms}-{n + 1}, then XSETID {key} {ms}-{n}, then restart its service",
        ),
        (
            "orders/0", "wrong",
            f"10 facts (1 to 10) of 10 were removed, and not by factfold trim; {WHO}", RESTORE,
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("entry_id", "why"),
    [
        ("18446744073709551615-18446744073709551615", "it was ended: "),
        (f"{2**53 - 1}-18446744073709551615", "it was ended: "),
        (None, ""),
    ],
)
def test_a_log_that_was_ended_is_mended_by_what_is_said(
    orders: Stream, entry_id: str | None, why: str
) -> None:
    key = orders.keys(0)[0]
    ahead = entry_id is None
    entry_id = entry_id or f"{int(time.time() * 1000) + 26 * HOUR}-11"
    orders.log.execute_command("XADD", key, entry_id, "a", "b")
    ((where, state, found, mend),) = faults(orders)
    assert (where, state) == ("orders/0", "wrong")
    said = f"{why}{entry_id} stands behind its last fact, and no appender wrote it"
    said += "; it is 26 hours ahead of Redis' clock" * ahead
    assert found == f"{said}: nothing can be appended; {WHO}"
    with pytest.raises(AssertionError, match="FOREIGN"):
        orders.append(0, [("o-11", PLACED, b"", b"")])
    # As an admin does it, word for word. Without the second step the log stays ended.
    removed, set_back, rest = mend.split(", then ")
    assert rest == "restart its service"
    orders.log.execute_command(*shlex.split(removed))
    assert len(faults(orders)) == 1
    orders.log.execute_command(*shlex.split(set_back))
    assert faults(orders) == []
    orders.append(0, [("o-11", PLACED, b"", b"")])
    assert faults(orders) == []


def test_an_entry_that_somebody_wrote_between_facts(orders: Stream) -> None:
    key = orders.keys(0)[0]
    time.sleep(0.01)
    orders.log.execute_command("XADD", key, "*", "a", "b")
    time.sleep(0.01)
    orders.append(0, [("o-11", PLACED, b"", b"")])
    assert faults(orders) == [
        (
            "orders/0", "wrong", f"1 entry more than were appended; {WHO}",
            "the services that read it name them; remove them with XDEL, then restart those",
        )
    ]  # fmt: skip


def test_a_log_that_was_set_back(orders: Stream) -> None:
    key = orders.keys(0)[0]
    dump = orders.log.dump(key)
    before = last(orders)
    time.sleep(0.01)
    orders.append(0, [("o-11", PLACED, b"", b"")])
    orders.log.restore(key, 0, dump, replace=True)
    ms, n = last(orders)
    assert faults(orders)[0] == (
        "orders/0", "wrong",
        f"its log ends at {before[0]}-{before[1]}, and fact {ms}-{n} was appended",
        "somebody has set it back or replaced it: restore it from a backup or a replica",
    )  # fmt: skip


def test_a_head_or_a_log_that_is_gone(orders: Stream) -> None:
    key, head, *_ = orders.keys(0)
    kept = orders.log.dump(head)
    orders.log.delete(head)
    assert faults(orders) == [
        ("orders/0", "wrong", f"its head is gone; {WHO}", RECREATE)
    ]  # fmt: skip
    orders.log.xgroup_create(head, "g", "0", mkstream=True)
    found = "its head is no hash: somebody else has written there"
    assert faults(orders) == [("orders/0", "wrong", found, RECREATE)]
    orders.log.restore(head, 0, kept, replace=True)
    orders.log.set(key, "no stream")
    found = f"its log is no stream, and its head is there; {WHO}"
    assert faults(orders) == [("orders/0", "wrong", found, RECREATE)]
    orders.log.delete(key)
    found = f"its log is gone, and its head is there; {WHO}"
    assert faults(orders) == [("orders/0", "wrong", found, RECREATE)]


def test_partitions_of_which_one_was_recreated_or_is_gone(orders: Stream) -> None:
    orders.log.hset(orders.keys(1)[1], "epoch", "f" * 16)
    found = f"its partitions are of different epochs or counts; {WHO}"
    assert faults(orders) == [("orders", "wrong", found, RECREATE)]
    orders.log.delete(*orders.keys(1))
    found = f"orders/1 is gone; {WHO}"
    assert faults(orders) == [("orders", "wrong", found, RECREATE)]


def test_a_clock_that_was_ahead(orders: Stream) -> None:
    key, head, *_ = orders.keys(0)
    ms = int(time.time() * 1000) + 3 * HOUR
    fields = {"type": PLACED, "key": "o", "meta": "", "data": ""}
    orders.log.xadd(key, fields, id=f"{ms}-11")
    orders.log.hset(head, mapping={"n": 11, "ms": ms})
    assert faults(orders) == [
        (
            "orders/0", "warning", "its facts are 3 hours ahead of Redis' clock",
            "set the clock right; until then times in ids are wrong, and nothing else is",
        )
    ]  # fmt: skip
