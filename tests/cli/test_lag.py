"""`factfold lag`: readers of a real log, as their keys tell of them."""

import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from factfold.v1.fact_pb2 import DeadLetter
from factfold_cli import lag, redis_server, standings

from .letters import EPOCH, Owner
from .piped import piped
from .running import FACTFOLD, plain_environment
from .screens import plain, watched
from .streams import Stream

GROUP = "billing.charge"
VIEW = "shipments.orders"
ONE, OTHER = "0123456789abcdef", "fedcba9876543210"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def shared() -> Iterator[redis_server.RedisServer]:
    with redis_server.start() as server:
        yield server


@pytest.fixture
def log(shared: redis_server.RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(shared.url, protocol=2) as client:
        client.flushall()
        yield client


@pytest.fixture
def run(
    log: redis.Redis,
    shared: redis_server.RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """`factfold lag …`, piped, that looks twice within a moment."""
    monkeypatch.setenv("FACTFOLD_REDIS_URL", shared.url)
    for module in (lag, standings):
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.5)
    return lambda *words: piped("lag", *words, at=tmp_path)


def filled(url: str, facts: int, name: str = "orders", count: int = 2) -> Stream:
    """A stream with so many facts in each partition."""
    stream = Stream(url, name, count)
    for partition in range(count):
        for _ in range(facts):
            stream.append(partition, [("k", "T", b"", b"")])
    return stream


class Cursor:
    """An instance of a view, which writes where it is as the chassis does."""

    def __init__(self, log: redis.Redis, stream: str = "orders", instance: str = ONE) -> None:
        self._log, self._stream, self._instance = log, stream, instance

    def at(self, partition: int, n: int, ago: float = 0.0, present: bool = True) -> None:
        place = f"{{{self._stream}/{partition}}}"
        ids = [id.decode() for id, _ in self._log.xrange(f"{place}:log", count=n or 1)]
        where = ids[n - 1] if n else "0-0"
        written = f"0-0 {int((time.time() - ago) * 1000)}" + f" {where}" * present
        self._log.hset(f"{place}:cursors:{VIEW}", mapping={"_": "1", self._instance: written})


def lines(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    assert (done.stderr, done.returncode) == ("", 0)
    return [line.split("\t") for line in done.stdout.splitlines()]


def documents(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["readers"])


# What is behind.


def test_a_view_is_as_far_behind_as_its_last_instance_that_is_there(
    run: Run, log: redis.Redis, shared: redis_server.RedisServer
) -> None:
    filled(shared.url, 10)
    for at in range(2):
        Cursor(log).at(at, 9)
        Cursor(log, instance=OTHER).at(at, 4, ago=80)
        Cursor(log, instance="aaaaaaaaaaaaaaaa").at(at, 0, ago=100)
    time.sleep(0.3)
    (found,) = documents(run("--json"))
    assert 0.3 < found.pop("seconds") < 60
    assert found.pop("seen_at").endswith("Z")
    assert found == {
        "kind": "view",
        "reader": VIEW,
        "stream": "orders",
        "facts": 12,
        "facts_per_second": 0.0,
        "instances": 2,
        "instances_away": 1,
        "who": OTHER,
        "state": None,
        "dead_letters": None,
    }


def test_the_age_is_that_of_the_first_fact_that_is_missing(
    run: Run, log: redis.Redis, shared: redis_server.RedisServer
) -> None:
    stream = filled(shared.url, 3, count=1)
    time.sleep(2.0)
    stream.append(0, [("k", "T", b"", b"")])
    Cursor(log).at(0, 3)
    (found,) = documents(run("--json"))
    assert (found["facts"], found["seconds"] < 1.9) == (1, True)
    Cursor(log).at(0, 2)
    (found,) = documents(run("--json"))
    assert (found["facts"], found["seconds"] > 2.0) == (2, True)
    Cursor(log).at(0, 4)
    (found,) = documents(run("--json"))
    assert (found["facts"], found["seconds"]) == (0, 0.0)


def test_a_view_that_is_away_stands_where_it_was_last(
    run: Run, log: redis.Redis, shared: redis_server.RedisServer
) -> None:
    filled(shared.url, 10, count=1)
    Cursor(log).at(0, 7, ago=200)
    Cursor(log, instance=OTHER).at(0, 2, ago=4000)
    ((kind, name, _, _, _, _, instances, away, who, _, state, letters),) = lines(run())
    assert (kind, name, instances, away, who) == ("view", VIEW, "0", "2", ONE)
    assert (state, letters) == ("away", "")
    assert documents(run("--json"))[0]["facts"] == 3


def test_a_cursor_without_its_third_part_says_that_somebody_reads(
    run: Run, log: redis.Redis, shared: redis_server.RedisServer
) -> None:
    filled(shared.url, 10, count=1)
    Cursor(log).at(0, 7, present=False)
    (found,) = documents(run("--json", "--fail-above", "0"))
    assert (found["facts"], found["seconds"], found["instances"]) == (None, None, 1)


def test_a_reader_that_nobody_is_yet_is_away(
    run: Run, log: redis.Redis, shared: redis_server.RedisServer
) -> None:
    filled(shared.url, 1, count=2)
    # What is no cursor is passed over.
    log.hset("{orders/0}:cursors:billing.orders", mapping={"_": "1", ONE: "x", OTHER: ""})
    for at in range(2):
        log.hset(f"{{orders/{at}}}:cursors:shop.orders", "_", "1")
    away = ["orders", "", "", "", "0", "0", "", "", "away", ""]
    assert sorted(lines(run())) == [
        ["view", "billing.orders", *away],
        ["view", "shop.orders", *away],
    ]
    assert run("--reader", "shop", "--fail-above", "0").returncode == 0
    Cursor(log).at(0, 1)
    (found,) = documents(run("--reader", VIEW, "--json"))
    assert (found["facts"], found["instances"], found["instances_away"]) == (0, 1, 0)


@pytest.fixture
def owners(log: redis.Redis, shared: redis_server.RedisServer) -> Iterator[list[Owner]]:
    """Who own both partitions of orders, with ten facts each."""
    filled(shared.url, 10)
    its = [Owner(shared.url, GROUP, partition=at, count=2) for at in range(2)]
    for owner in its:
        owner.position = b"0-0"
    yield its
    for owner in its:
        owner.close()


def committed(owner: Owner, n: int) -> None:
    ((entry_id, fields),) = owner.entries(n)
    known = dict(zip(fields[::2], fields[1::2], strict=True))
    owner.commit(n, entry_id, known, DeadLetter(entry_id=entry_id, fields=fields, state=3))


def test_a_reaction_is_behind_what_it_has_not_committed(
    run: Run, log: redis.Redis, owners: list[Owner]
) -> None:
    committed(owners[0], 4)
    committed(owners[0], 8)
    for owner in owners:
        owner.runs(None)
    (found,) = documents(run("--json"))
    assert (found["kind"], found["reader"], found["facts"]) == ("reaction", GROUP, 12)
    assert (found["dead_letters"], found["state"], found["instances"]) == (2, None, 1)
    first, second = documents(run("--json", "--partitions"))
    assert (first["partition"], first["facts"], first["who"]) == (1, 10, "instance-1")
    assert (second["partition"], second["facts"], second["dead_letters"]) == (0, 2, 2)


def test_a_reaction_whose_owner_does_not_beat_is_away(
    run: Run, log: redis.Redis, owners: list[Owner]
) -> None:
    log.hset("{orders}:members:billing.charge", mapping={"_": "1", "billing-1": "5"})
    (found,) = documents(run("--json"))
    assert (found["state"], found["instances"], found["seen_at"]) == ("away", 0, None)


def test_members_beat_too_where_they_own_nothing(
    run: Run, log: redis.Redis, owners: list[Owner]
) -> None:
    beating = threading.Event()

    def beat() -> None:
        while not beating.wait(0.05):
            log.hincrby("{orders}:members:billing.charge", "billing-1", 1)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        (found,) = documents(run("--json"))
    finally:
        beating.set()
        thread.join()
    assert (found["state"], found["instances"]) == (None, 1)
    assert found["seen_at"] is not None


def test_how_fast_a_reader_goes(
    run: Run,
    log: redis.Redis,
    shared: redis_server.RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filled(shared.url, 200, count=1)
    # It had idled until just before.
    Cursor(log).at(0, 0, ago=25)
    looked = lag.look

    def moved(*words: Any) -> Any:
        found = looked(*words)
        Cursor(log).at(0, 100)
        return found

    monkeypatch.setattr(lag, "look", moved)
    (found,) = documents(run("--json"))
    assert found["facts"] == 100
    # 100 facts in half a second, and the two by which a cursor may be late.
    assert 30 < found["facts_per_second"] <= 100 / 2.4


# What has no log.


def test_a_stream_whose_log_is_gone_comes_first(
    run: Run, log: redis.Redis, shared: redis_server.RedisServer, owners: list[Owner]
) -> None:
    filled(shared.url, 100, "moves", 1)
    Cursor(log, "moves").at(0, 5)
    log.delete("{orders/0}:head", "{orders/0}:log")
    found = documents(run("--json"))
    assert [(each["reader"], each["state"]) for each in found] == [
        (GROUP, "log gone"),
        (VIEW, None),
    ]
    assert found[0]["facts"] is None
    failed = run("--fail-above", "1000")
    assert failed.returncode == 1
    assert failed.stderr == (
        "factfold: more than 1000 facts behind, or without a log: billing.charge of orders: "
        "log gone\n"
    )


def test_a_group_of_another_epoch_is_told(run: Run, log: redis.Redis, owners: list[Owner]) -> None:
    log.hset("{orders/1}:head", "epoch", EPOCH[::-1])
    (found,) = documents(run("--json"))
    assert found["state"] == "log replaced"


# Which.


def test_the_worst_comes_first(
    run: Run, log: redis.Redis, shared: redis_server.RedisServer, owners: list[Owner]
) -> None:
    filled(shared.url, 100, "moves", 1)
    Cursor(log, "moves").at(0, 5)
    for at in range(2):
        Cursor(log).at(at, 9)
    assert [line[1:4] for line in lines(run())] == [
        [VIEW, "moves", "95"],
        [GROUP, "orders", "20"],
        [VIEW, "orders", "2"],
    ]
    assert [line[1:3] for line in lines(run("moves"))] == [[VIEW, "moves"]]
    assert [line[1:3] for line in lines(run("--reader", "billing"))] == [[GROUP, "orders"]]
    assert [line[1:3] for line in lines(run("--reader", VIEW, "orders"))] == [[VIEW, "orders"]]
    assert [line[2] for line in lines(run("--partitions", "--reader", VIEW, "orders"))] == [
        "orders/0",
        "orders/1",
    ]


def test_what_is_not_there_is_said(
    run: Run, log: redis.Redis, shared: redis_server.RedisServer, owners: list[Owner]
) -> None:
    for words, said, code in (
        (("moves",), "there is no stream 'moves' here; streams here: orders", 1),
        (("--reader", "x"), f"there is no reader 'x' here; readers here: {GROUP}", 1),
        (("Orders",), "'Orders' is no stream: a name has 1 to 64 characters of a-z, 0-9, '-' and "
         "'.'", 2),
        (("--json", "--watch"), "--json is for one look: leave --watch out; see factfold lag "
         "--help", 2),
        (("--redis", "redis://127.0.0.1:1/0"), "no log at redis://127.0.0.1:1/0: Error 111 "
         "connecting to 127.0.0.1:1. Connection refused; start it, or name another one with "
         "--redis or FACTFOLD_REDIS_URL", 1),
    ):  # fmt: skip
        done = run(*words)
        assert (done.stderr, done.returncode, done.stdout) == (f"factfold: {said}\n", code, "")


def test_a_monitor_is_told_by_the_exit_code(
    run: Run, log: redis.Redis, shared: redis_server.RedisServer, owners: list[Owner]
) -> None:
    assert run("--fail-above", "20").returncode == 0
    done = run("--fail-above", "19", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["readers"][0]["facts"] == 20
    assert done.stderr == (
        "factfold: more than 19 facts behind, or without a log: billing.charge of orders: 20 facts "
        "behind\n"
    )


# A person who watches.


def test_a_person_watches_a_table(
    log: redis.Redis, shared: redis_server.RedisServer, owners: list[Owner]
) -> None:
    for owner in owners:
        owner.runs(None)
    leader, follower = pty.openpty()
    url = {"FACTFOLD_REDIS_URL": shared.url, "COLUMNS": "120", "TERM": "xterm"}
    process = subprocess.Popen(
        [*FACTFOLD, "lag"], stdin=follower, stdout=follower, stderr=follower,
        env=plain_environment() | url,
    )  # fmt: skip
    os.close(follower)
    try:
        shows(leader, rf"{GROUP} +orders +20 +\d+ s +0 +1\b")
        committed(owners[0], 10)
        shows(leader, rf"{GROUP} +orders +10 +\d+ s +[1-9]\d* +1 +1\b")
        for owner in owners:
            owner.close()
        shows(leader, rf"{GROUP} +orders +10 +\d+ s +\d+ +0 +1 +away")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        process.kill()
        os.close(leader)


def test_the_table_fits_on_80_columns(log: redis.Redis, shared: redis_server.RedisServer) -> None:
    filled(shared.url, 3)
    owner = Owner(shared.url, "shipments.create_shipment_for_order", partition=0, count=2)
    filled(shared.url, 1, "shipments", 1)
    Cursor(log, "shipments").at(0, 0)
    owner.close()
    for words in ((), ("--partitions",)):
        code, screen = watched(
            "lag", "--no-watch", *words, columns=80, FACTFOLD_REDIS_URL=shared.url
        )
        assert (code, "…" in screen) == (0, False)
        head, *rows = plain(screen)
        assert max(map(len, [head, *rows])) <= 80
        assert "letters" not in head
        where, who = ("partition", "who") if words else ("stream", "instances")
        assert head.split() == ["reader", where, "behind", "oldest", "per", "s", who, "state"]
    owner = Owner(shared.url, GROUP, partition=1, count=2)
    committed(owner, 1)
    owner.close()
    _, screen = watched("lag", "--no-watch", columns=80, FACTFOLD_REDIS_URL=shared.url)
    assert "letters" in plain(screen)[0]


def shows(leader: int, row: str) -> None:
    """Waits until the table has such a row."""
    screen, deadline = b"", time.monotonic() + 30
    while time.monotonic() < deadline:
        screen += os.read(leader, 65536)
        lines = plain(screen.decode(errors="replace").replace("\r", "\n"))
        if any(re.search(row, line) for line in lines):
            return
    pytest.fail(f"no row {row!r} on\n" + "\n".join(lines))
