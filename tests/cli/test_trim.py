"""`factfold trim`: what it removes, what it refuses, and readers that are dropped or registered."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from factfold.v1.fact_pb2 import DeadLetter
from factfold_cli import redis_server
from factfold_cli.ages import iso
from factfold_cli.standings import AWAY_SECONDS

from .letters import EPOCH, Owner
from .piped import piped
from .screens import plain, watched
from .streams import Stream

READER, ONE, OTHER = "billing.orders", "0011223344556677", "8899aabbccddeeff"
GROUP = "shipments.ship"
OLD, OLD_SEEN = 1_795_490_001_000, "2026-11-24T03:13:21Z"


@pytest.fixture(scope="module")
def shared() -> Iterator[redis_server.RedisServer]:
    with redis_server.start() as server:
        yield server


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(shared: redis_server.RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`factfold trim …`, piped."""
    monkeypatch.setenv("FACTFOLD_REDIS_URL", shared.url)
    return lambda *arguments: piped("trim", *arguments, at=tmp_path)


class Orders(Stream):
    """The stream orders, with 20 facts in its partition 2 and 5 in partition 1."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.ids: dict[int, list[str]] = {}
        for partition, count in ((2, 20), (1, 5)):
            fact = ("k", "t.T", b"", b"")
            self.append(partition, [fact] * count)
            found = self.log.xrange(f"{{orders/{partition}}}:log")
            self.ids[partition] = [entry_id.decode() for entry_id, _ in found]

    def cursor(
        self, n: int, partition: int = 2, instance: str = ONE, seen: int = OLD, present: str = ""
    ) -> None:
        position = self.ids[partition][n - 1] if n else "0-0"
        fields = {"_": "1", instance: f"{position} {seen} {present}".rstrip()}
        self.log.hset(f"{{orders/{partition}}}:cursors:{READER}", mapping=fields)

    def left(self) -> list[int]:
        """Facts of each partition; the heads agree."""
        found = []
        for partition in range(4):
            length = self.log.xlen(f"{{orders/{partition}}}:log")
            n, trimmed = self.log.hmget(f"{{orders/{partition}}}:head", ["n", "trimmed"])
            assert length == int(n or 0) - int(trimmed or 0)
            found.append(length)
        return found

    def everything(self) -> dict[str, Any]:
        return {key.decode(): self.log.dump(key) for key in self.log.keys("*")}


@pytest.fixture
def orders(shared: redis_server.RedisServer) -> Orders:
    with redis.Redis.from_url(shared.url) as log:
        log.flushall()
    return Orders(shared.url)


def fails(done: subprocess.CompletedProcess[str], line: str, code: int = 1) -> None:
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"factfold: {line}\n")


# Facts.


def test_facts_before_a_position_go(orders: Orders, run: Run) -> None:
    orders.cursor(12)
    orders.cursor(4, partition=1)
    done = run("orders", "--before", "orders/2:11")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "orders/2: 10 facts removed, 10 left\n"
    assert orders.left() == [0, 5, 10, 0]
    # Again, and before what is gone already.
    for before in ("orders/2:11", f"orders/2@{EPOCH}:{orders.ids[2][4]}"):
        assert run("orders", "--before", before).stdout == "orders/2: 0 facts removed, 10 left\n"
    done = run("orders", "--before", f"orders/2@{EPOCH}:{orders.ids[2][11]},orders/1:2", "--json")
    assert json.loads(done.stdout) == {
        "stream": "orders",
        "dry_run": False,
        "partitions": [
            {"partition": 1, "removed": 1, "facts": 4, "trimmed": 1, "held_back_by": None},
            {"partition": 2, "removed": 1, "facts": 9, "trimmed": 11, "held_back_by": None},
        ],
    }
    assert orders.left() == [0, 4, 9, 0]


def test_facts_before_a_time_go(orders: Orders, run: Run) -> None:
    assert run("orders", "--before", "1h").returncode == 0
    assert orders.left() == [0, 5, 20, 0]
    time.sleep(1.1)
    position, _ = orders.add("k", "t.T", b"")
    done = run("orders", "--before", "1s", "--dry-run")
    assert done.returncode == 0
    before = sum(orders.left())
    assert done.stdout.count("would be removed") == 4
    assert sum(orders.left()) == before
    assert run("orders", "--before", "1s").returncode == 0
    assert sum(orders.left()) == 1
    assert orders.log.xlen(f"{{{position.partition('@')[0]}}}:log") == 1
    assert run("orders", "--before", "2100-01-01").returncode == 0
    assert orders.left() == [0, 0, 0, 0]


def test_more_than_one_call_removes(orders: Orders, run: Run) -> None:
    for _ in range(5):
        orders.append(3, [("k", "t.T", b"", b"")] * 500)
    assert (
        "orders/3: 2499 facts removed, 1 left\n"
        in run("orders", "--before", "orders/3:2500").stdout
    )
    assert orders.left()[3] == 1


def test_who_holds_back_is_named_and_nothing_is_changed(orders: Orders, run: Run) -> None:
    orders.cursor(12)
    orders.cursor(7, instance=OTHER, seen=int((time.time() - 7300) * 1000))
    orders.cursor(5, partition=1)
    before = orders.everything()
    fails(
        run("orders", "--before", "orders/2:13,orders/1:3"),
        f"nothing was trimmed: {READER}/{OTHER}, seen 2 h ago, needs facts from 7 on of "
        "orders/2; start it so that it catches up, give it snapshots (FACTFOLD_SNAPSHOT_DIR), or, "
        f"if it will not come back, drop it: factfold trim orders --drop {READER}/{OTHER}; "
        "--as-far-as-allowed removes what may go",
    )
    assert orders.everything() == before
    done = run("orders", "--before", "orders/2:13,orders/1:3", "--as-far-as-allowed", "--dry-run")
    assert done.stdout == (
        "orders/1: 2 facts would be removed, 3 left\n"
        f"orders/2: 6 facts would be removed, 14 left; {READER}/{OTHER} needs the rest\n"
    )
    assert orders.everything() == before
    done = run("orders", "--before", "orders/2:13,orders/1:3", "--as-far-as-allowed")
    assert (done.returncode, orders.left()) == (0, [0, 3, 14, 0])
    assert done.stdout == (
        "orders/1: 2 facts removed, 3 left\n"
        f"orders/2: 6 facts removed, 14 left; {READER}/{OTHER} needs the rest\n"
    )


def test_a_reader_without_a_snapshot_an_instance_or_a_commit_holds_back_all(
    orders: Orders, run: Run, shared: redis_server.RedisServer
) -> None:
    orders.cursor(0)
    done = run("orders", "--before", "orders/2:3")
    assert f"{READER}/{ONE}, seen " in done.stderr
    assert "needs all that is left of orders/2;" in done.stderr
    orders.log.hdel(f"{{orders/2}}:cursors:{READER}", ONE)
    done = run("orders", "--before", "orders/2:3")
    assert (
        f"nothing was trimmed: {READER}, of which no instance is here, may need all that is left "
        "of orders/2; start it"
    ) in done.stderr
    orders.log.delete(f"{{orders/2}}:cursors:{READER}")
    owner = Owner(shared.url, GROUP)
    done = run("orders", "--before", "end")
    assert (
        f"nothing was trimmed: {GROUP} needs all that is left of orders/2; start it so that it "
        f"catches up, or, if it will not come back, drop it: factfold trim orders --drop {GROUP};"
    ) in done.stderr
    assert orders.left() == [0, 5, 20, 0]
    owner.close()


def test_several_partitions_are_held_back(orders: Orders, run: Run) -> None:
    orders.cursor(12)
    orders.cursor(2, partition=1)
    done = run("orders", "--before", "end")
    assert "needs facts from 12 on of orders/2 (and 1 other partition is held back);" in done.stderr


def test_a_log_that_is_not_whole_is_not_trimmed(orders: Orders, run: Run) -> None:
    orders.log.xdel("{orders/2}:log", orders.ids[2][3])
    before = orders.everything()
    fails(
        run("orders", "--before", "end"),
        "orders/2 has 19 entries, and its head counts 20: facts were removed or added by hand, and "
        "it is not trimmed before that is mended; see `factfold doctor`",
    )
    assert orders.everything() == before


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (
            ["orders", "--before", "orders/2:21"], 1,
            "orders/2 ends at fact 20: there is no orders/2:21",
        ),
        (
            ["orders", "--before", "orders/2@ffffffffffffffff:1-2"], 1,
            f"orders/2:2 is of another log: the epoch of orders/2 is {EPOCH} now, not "
            "ffffffffffffffff",
        ),
        (
            ["orders", "--before", "orders/9:1"], 2,
            "orders has 4 partitions: there is no orders/9:1",
        ),
        (["orders", "--before", "sales/1:1"], 2, "none of the positions is of orders"),
        (["sales"], 1, "there is no stream 'sales' here; streams here: orders"),
        (
            ["Sales"], 2,
            "'Sales' is no stream: a name has 1 to 64 characters of a-z, 0-9, '-' and '.'",
        ),
        (
            ["orders", "--before", "beginning"], 2,
            "Invalid value for '--before': 'beginning' is no place to trim to; give end, a "
            "position such as orders/2:17, an age such as 30d, or a time such as "
            "2026-01-31T12:00:00Z; see factfold trim --help",
        ),
        (
            ["orders", "--before", "end", "--drop", "a.b"], 2,
            "give --before or --drop, not both; see factfold trim --help",
        ),
        (
            ["orders", "--as-far-as-allowed"], 2,
            "--as-far-as-allowed goes with --before; see factfold trim --help",
        ),
        (
            ["orders", "--drop", "a"], 2,
            "Invalid value for '--drop': 'a' is no reader; give SERVICE.VIEW, SERVICE.REACTION or "
            "SERVICE.VIEW/INSTANCE; see factfold trim --help",
        ),
        (
            ["orders", "--register", "a.b/00"], 2,
            "Invalid value for '--register': 'a.b/00' is no reader; give SERVICE.VIEW; see "
            "factfold trim --help",
        ),
        (["orders", "--drop", "a.b"], 1, "orders has no reader 'a.b': it has no readers"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line(
    orders: Orders, run: Run, arguments: list[str], code: int, line: str
) -> None:
    before = orders.everything()
    fails(run(*arguments), line, code)
    assert orders.everything() == before


def test_who_may_not_is_told_who_may(
    orders: Orders, run: Run, shared: redis_server.RedisServer
) -> None:
    looks = [
        "+ping",
        "+info",
        "+scan",
        "+type",
        "+hget",
        "+hmget",
        "+hgetall",
        "+exists",
        "+xrange",
    ]
    orders.log.execute_command("ACL", "SETUSER", "looks", "on", ">s3cret", "~*", *looks)
    url = shared.url.replace("redis://", "redis://looks:s3cret@")
    done = run("orders", "--before", "end", "--redis", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"factfold: {shared.url} answers this user has no permissions")
    assert done.stderr.endswith("; log in as one who may: factfold acl writes such users\n")
    assert orders.left() == [0, 5, 20, 0]


# How it stands.


def test_the_state_is_shown(orders: Orders, run: Run, shared: redis_server.RedisServer) -> None:
    seen = int((time.time() - 200) * 1000)
    orders.cursor(12, seen=seen, present=orders.ids[2][17])
    orders.cursor(0, instance=OTHER, partition=1)
    owner = Owner(shared.url, GROUP, partition=1)
    run("orders", "--before", "orders/2:6")
    before = orders.everything()
    done = run("orders")
    assert done.stdout.splitlines() == [
        "partition\torders/0\t0\t0\t0\t",
        f"partition\torders/1\t5\t0\t0\t{READER}/{OTHER}",
        f"partition\torders/2\t15\t5\t6\t{READER}/{ONE}",
        "partition\torders/3\t0\t0\t0\t",
        f"reader\t{READER}/{OTHER}\torders/1\t0-0\t5\t{OLD_SEEN}\tholds back",
        f"reader\t{GROUP}\torders/1\t0-0\t5\t\tholds back",
        f"reader\t{READER}/{ONE}\torders/2\t{orders.ids[2][11]}\t2\t{iso(seen / 1000)}\tholds back",
    ]
    found = json.loads(run("orders", "--json").stdout)
    assert found["partitions"][2] == {
        "partition": 2,
        "facts": 15,
        "trimmed": 5,
        "may_go": 6,
        "held_back_by": f"{READER}/{ONE}",
        "readers": [
            {
                "kind": "view",
                "reader": READER,
                "instance": ONE,
                "position": orders.ids[2][11],
                "behind": 2,
                "seen_at": iso(seen / 1000),
                "holds_back": True,
            }
        ],
    }
    assert found["partitions"][1]["readers"][1]["kind"] == "reaction"
    code, screen = watched("trim", "orders", FACTFOLD_REDIS_URL=shared.url)
    assert code == 0
    lines = [line.split() for line in plain(screen)]
    assert ["orders/2", "15", "5", "6", f"{READER}/{ONE}"] in lines
    rows = [" ".join(line) for line in lines]
    assert f"{GROUP} orders/1 the first fact 5 holds back" in rows
    assert f"{READER}/{ONE} orders/2 {orders.ids[2][11]} 2 3 min ago holds back" in rows
    assert orders.everything() == before
    owner.close()


def test_who_is_away_for_lag_is_not_alive_for_trim(orders: Orders, run: Run) -> None:
    orders.cursor(3, seen=int((time.time() - AWAY_SECONDS - 5) * 1000))
    assert run("orders", "--drop", READER, "--yes").returncode == 0


def test_the_table_fits_on_80_columns(orders: Orders, shared: redis_server.RedisServer) -> None:
    orders.cursor(0)
    Owner(shared.url, "shipments.create_shipment_for_order", partition=2).close()
    _, screen = watched("trim", "orders", columns=80, FACTFOLD_REDIS_URL=shared.url)
    lines = plain(screen)
    assert "…" not in screen
    assert max(map(len, lines)) <= 80
    (head,) = [line for line in lines if line.startswith("reader")]
    assert head.split() == ["reader", "partition", "needs", "from", "behind", "seen"]


def test_a_person_sees_how_far_it_is(orders: Orders, shared: redis_server.RedisServer) -> None:
    code, screen = watched("trim", "orders", "--before", "end", FACTFOLD_REDIS_URL=shared.url)
    assert code == 0
    assert "orders/2: 20 facts removed, 0 left" in plain(screen)
    assert "trimming orders" in screen


# Readers.


def test_a_reader_that_is_away_is_registered_and_finds_all(orders: Orders, run: Run) -> None:
    run("orders", "--before", "orders/2:6")
    done = run("orders", "--register", READER, "--dry-run")
    assert done.stdout.startswith(f"{READER} would be registered: ")
    assert run("orders").stdout.count("reader") == 0
    done = run("orders", "--register", READER)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"{READER} is registered: all facts of orders that are there are kept for it\n"
        "facts 1 to 5 of orders/2 went before that, and it will not find them\n"
    )
    assert run("orders", "--before", "end").returncode == 1
    assert orders.left() == [0, 5, 15, 0]
    done = run("orders", "--register", READER)
    assert done.stdout == f"{READER} is known already: what it needs is kept\n"
    done = run("orders", "--register", "billing.later", "--json")
    assert json.loads(done.stdout) == {
        "stream": "orders",
        "registered": "billing.later",
        "dry_run": False,
        "partitions": [0, 1, 2, 3],
        "trimmed": {"2": 5},
    }


def test_a_reader_that_will_not_come_back_is_dropped(orders: Orders, run: Run) -> None:
    orders.cursor(3)
    orders.cursor(9, instance=OTHER)
    orders.cursor(2, partition=1)
    before = orders.everything()
    fails(
        run("orders", "--drop", f"{READER}/{ONE}"),
        f"facts that {READER}/{ONE} has not read could be trimmed: give --yes if that is meant",
        2,
    )
    done = run("orders", "--drop", f"{READER}/{ONE}", "--dry-run")
    assert done.stdout == (
        f"{READER}/{ONE} would be dropped: its place in 2 partitions of orders\n"
    )
    assert orders.everything() == before
    done = run("orders", "--drop", f"{READER}/{ONE}", "--yes")
    assert done.stdout == f"{READER}/{ONE} dropped: its place in 2 partitions of orders\n"
    # Of partition 1 nobody is left, so all of it is kept; in partition 2 it goes on.
    assert run("orders", "--before", "orders/2:9").returncode == 0
    assert run("orders", "--before", "orders/1:2").returncode == 1
    done = run("orders", "--drop", READER, "--yes", "--json")
    assert json.loads(done.stdout) == {
        "stream": "orders",
        "dropped": READER,
        "dry_run": False,
        "partitions": [1, 2],
        "dead_letters": 0,
        "alive": None,
    }
    assert run("orders", "--before", "end").returncode == 0
    assert orders.left() == [0, 0, 0, 0]


def test_the_last_instance_is_not_the_reader(orders: Orders, run: Run) -> None:
    orders.cursor(3)
    done = run("orders", "--drop", f"{READER}/{ONE}", "--yes")
    assert done.stdout.splitlines()[1] == (
        f"{READER} has no instance left, and may come back and need all facts; if it will not: "
        f"factfold trim orders --drop {READER}"
    )
    assert run("orders", "--before", "end").returncode == 1


def test_one_that_is_alive_is_dropped_only_if_told_twice(
    orders: Orders, run: Run, shared: redis_server.RedisServer
) -> None:
    orders.cursor(3, seen=int((time.time() - 70) * 1000))
    before = orders.everything()
    for yes in ([], ["--yes"]):
        fails(
            run("orders", "--drop", READER, *yes),
            f"{READER}/{ONE} was seen 1 min ago: it would begin to need facts that may be "
            "gone; end it first, or give --yes twice",
        )
    drop = ("trim", "orders", "--drop", READER)
    code, screen = watched(*drop, types="y\nn\n", FACTFOLD_REDIS_URL=shared.url)
    assert code == 1
    said = " ".join(plain(screen))
    assert f"{READER}/{ONE} was seen 1 min ago, and may need facts again" in said.replace(
        "Billing", "billing"
    )
    assert "factfold: nothing was dropped" in screen
    assert orders.everything() == before
    assert run("orders", "--drop", READER, "--yes", "--yes").returncode == 0
    assert "reader" not in run("orders").stdout


def test_a_group_is_dropped_with_its_dead_letters(
    orders: Orders, run: Run, shared: redis_server.RedisServer
) -> None:
    owner = Owner(shared.url, GROUP, partition=3)
    n = owner.fact("o-1", "T", b"")
    owner.put_aside(n, state=DeadLetter.DEAD)
    owner.runs(None)
    try:
        fails(
            run("orders", "--drop", GROUP, "--yes"),
            f"instance-1 runs {GROUP}: it would begin to need facts that may be gone; end it "
            "first, or give --yes twice",
        )
    finally:
        owner.close()
    fails(
        run("orders", "--drop", GROUP),
        f"1 dead letter would be lost, and facts that {GROUP} has not read could be trimmed: give "
        "--yes if that is meant",
        2,
    )
    done = run("orders", "--drop", GROUP, "--yes")
    assert done.stdout == f"{GROUP} dropped: its place in 1 partition of orders and 1 dead letter\n"
    assert [key for key in orders.everything() if GROUP in key] == []
    # Who owned it comes too late.
    late = redis.Redis.from_url(shared.url, protocol=2)
    owner.log = late
    with pytest.raises(AssertionError):
        owner.beat()
    late.close()
    assert run("orders", "--before", "end").returncode == 0
