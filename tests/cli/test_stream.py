"""`factfold stream recreate`: after a loss, and when nothing was lost."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from factfold.v1.fact_pb2 import DeadLetter
from factfold_cli import redis_server

from .letters import EPOCH, Owner, script
from .piped import piped
from .running import FACTFOLD
from .screens import plain, watched

GROUPS = ["billing.charge", "shipments.create_shipment_for_order"]
PARTITIONS = 4


@pytest.fixture(scope="module")
def shared() -> Iterator[redis_server.RedisServer]:
    with redis_server.start() as server:
        yield server


@pytest.fixture
def log(shared: redis_server.RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(shared.url, protocol=2) as log:
        log.flushall()
        yield log


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(shared: redis_server.RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`factfold stream recreate …`, piped, in a folder that is no repository."""
    monkeypatch.setenv("FACTFOLD_REDIS_URL", shared.url)
    return lambda *arguments, at=tmp_path: piped("stream", "recreate", *arguments, at=at)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service named orders, of three partitions."""
    folder = tmp_path_factory.mktemp("made")
    command = [*FACTFOLD, "new", "orders", "--language", "python", "--no-input"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (contract,) = (folder / "orders" / "protos").rglob("*.proto")
    contract.write_text(contract.read_text().replace("partitions: 4", "partitions: 3"))
    return folder / "orders"


@pytest.fixture(scope="module")
def reader(repository: Path) -> Path:
    """A service that has copied the contract of orders."""
    command = [*FACTFOLD, "new", "shipments", "--language", "python", "--no-input"]
    command += ["--subscribe", "orders"]
    subprocess.run(command, cwd=repository.parent, check=True, capture_output=True)
    return repository.parent / "shipments"


@pytest.fixture
def used(shared: redis_server.RedisServer, log: redis.Redis) -> Iterator[list[Owner]]:
    """orders with three facts, two groups and a dead letter; beside it orders-2 and orders.x."""
    for stream in ("orders-2", "orders.x"):
        Owner(shared.url, GROUPS[0], stream=stream).close()
        log.hset(f"{{{stream}}}:members:{GROUPS[0]}", "_", "1")
    owners = [
        Owner(shared.url, group, partition=partition)
        for partition in range(PARTITIONS)
        for group in GROUPS
    ]
    n = owners[0].fact("o-1", "T", b"")
    owners[0].put_aside(n, state=DeadLetter.DEAD)
    owners[0].fact("o-1", "T", b"")
    owners[2].fact("o-2", "T", b"")
    log.hset("{orders}:members:billing.charge", "_", "1")
    log.hset("{orders/1}:cursors:billing.orders", "_", "1")
    yield owners
    for owner in owners:
        owner.close()


def keys(log: redis.Redis, pattern: str = "*") -> dict[str, Any]:
    """Everything that is there, byte for byte."""
    return {key.decode(): log.dump(key) for key in log.keys(pattern)}


def heads(log: redis.Redis) -> list[dict[bytes, bytes]]:
    return [log.hgetall(f"{{orders/{number}}}:head") for number in range(PARTITIONS)]


def begun_anew(log: redis.Redis, count: int = PARTITIONS) -> str:
    """The epoch, once all that is there of orders is new and empty."""
    names = ("log", "head", "producers", "versions")
    assert set(keys(log, "{orders/*")) == {
        f"{{orders/{number}}}:{name}" for number in range(count) for name in names
    }
    assert keys(log, "{orders}*") == {}
    epoch = log.hget("{orders/0}:head", "epoch")
    for number in range(count):
        assert log.xlen(f"{{orders/{number}}}:log") == 0
        assert log.hgetall(f"{{orders/{number}}}:head") == {
            b"_": b"1",
            b"format": b"1",
            b"partitions": b"%d" % count,
            b"epoch": epoch,
            b"n": b"0",
            b"ms": b"0",
            b"trimmed": b"0",
        }
        for name in ("producers", "versions"):
            assert log.hgetall(f"{{orders/{number}}}:{name}") == {b"_": b"1"}
    assert isinstance(epoch, bytes)
    assert len(bytes.fromhex(epoch.decode())) == 8
    assert epoch.decode() != EPOCH
    return epoch.decode()


def test_a_whole_log_is_kept_unless_its_facts_are_counted(
    run: Run, log: redis.Redis, used: list[Owner]
) -> None:
    before = keys(log)
    for arguments, line in (
        (
            ["--yes"],
            "the log of orders is whole: to lose its 3 facts for good, give --destroy-facts 3",
        ),
        (
            ["--yes", "--destroy-facts", "2"],
            "orders has 3 facts, not 2: is it the right log?",
        ),
        (
            ["--destroy-facts", "3"],
            f"3 facts, 1 dead letter, 2 groups: {', '.join(GROUPS)} would be lost: "
            "give --yes if that is meant",
        ),
        (
            ["--yes", "--partitions", "8"],
            "orders has 4 partitions, not 8: to lose its 3 facts for good and begin with 8, "
            "give --destroy-facts 3",
        ),
    ):
        done = run("orders", *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"factfold: {line}\n")
        assert keys(log) == before
    others = {name: raw for name, raw in before.items() if not name.startswith("{orders/")}
    done = run("orders", "--yes", "--destroy-facts", "3")
    epoch = begun_anew(log)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"removed 3 facts, 1 dead letter, 2 groups: {', '.join(GROUPS)}",
        f"orders begins anew: 4 partitions, epoch {epoch}",
        "restart every running service that writes or reads orders",
    ]
    del others["{orders}:members:billing.charge"]
    after = keys(log)
    assert {name: after[name] for name in others} == others


def test_a_person_is_told_what_is_lost_and_decides(
    shared: redis_server.RedisServer, log: redis.Redis, used: list[Owner]
) -> None:
    before = keys(log)
    command = ["stream", "recreate", "orders", "--destroy-facts", "3"]
    url = {"FACTFOLD_REDIS_URL": shared.url}
    code, screen = watched(*command, types="\n", **url)
    assert code == 1
    lost = f"3 facts, 1 dead letter, 2 groups: {', '.join(GROUPS)}"
    assert f"Lost are {lost}. Begin orders anew? [y/N]: " in " ".join(plain(screen))
    assert "factfold: nothing was changed" in screen
    assert keys(log) == before
    code, screen = watched(*command, types="y\n", **url)
    assert code == 0
    assert f"removed {lost}\n" in screen
    begun_anew(log)


def test_an_owner_of_before_changes_nothing_any_more(
    run: Run, log: redis.Redis, used: list[Owner]
) -> None:
    assert run("orders", "--yes", "--destroy-facts", "3").returncode == 0
    epoch = begun_anew(log)
    owner = used[0]
    keys_of = [f"{{orders/0}}:{name}:{owner.group}" for name in ("group", "outbox", "dead")]
    commit = [*keys_of, f"{{orders/0}}:dead-keys:{owner.group}"]
    assert script(log, "settle", keys_of[:2], owner.token, 1, 1)[0] == b"FENCED"
    assert script(log, "commit", commit, owner.token, "0-0", "1-1", "", "", 0)[0] == b"FENCED"
    asked = script(log, "ask", [f"{{orders/0}}:redrive:{owner.group}"], "redrive:1")
    assert asked == [b"NONE"]
    with pytest.raises(AssertionError, match=epoch):
        owner.fact("o-1", "T", b"")
    begun_anew(log)


@pytest.mark.parametrize(
    "lost",
    [
        ["{orders/1}:head"],
        ["{orders/1}:log"],
        ["{orders/0}:log"],
        [f"{{orders/{number}}}:head" for number in range(1, PARTITIONS)],
        [f"{{orders/{number}}}:{name}" for number in (0, 1, 3) for name in ("head", "log")],
    ],
)
def test_what_is_left_of_a_damaged_log_goes(
    run: Run, log: redis.Redis, used: list[Owner], lost: list[str]
) -> None:
    log.delete(*lost)
    facts = sum(log.xlen(f"{{orders/{number}}}:log") for number in range(PARTITIONS))
    done = run("orders", "--yes", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "stream": "orders",
        "partitions": 4,
        "epoch": begun_anew(log),
        "removed": {"facts": facts, "dead_letters": 1, "groups": GROUPS},
    }


def test_an_empty_log_needs_no_number(run: Run, log: redis.Redis) -> None:
    for number in range(PARTITIONS):
        names = [f"{{orders/{number}}}:{name}" for name in ("log", "head", "producers", "versions")]
        script(log, "create", names, PARTITIONS, EPOCH)
    done = run("orders", "--yes")
    assert done.stdout.splitlines()[0] == "nothing was left of orders"
    begun_anew(log)


def test_the_number_of_partitions_comes_from_a_head_an_option_or_a_contract(
    run: Run, log: redis.Redis, repository: Path, used: list[Owner]
) -> None:
    log.flushall()
    for name, at in (("orders", {}), ("shipments", {"at": repository})):
        done = run(name, "--yes", **at)
        assert (done.returncode, done.stderr) == (
            2,
            f"factfold: nothing is left of {name} here; streams here: none; to begin it anew, "
            "give --partitions, or run this inside the repository of its service\n",
        )
    assert keys(log) == {}
    assert run("orders", "--yes", at=repository / "src").returncode == 0
    begun_anew(log, 3)
    log.flushall()
    assert run("orders", "--yes", "--partitions", "2", at=repository).returncode == 0
    begun_anew(log, 2)
    # Nobody else's word; there is nothing to lose.
    assert run("orders", "--yes").returncode == 0
    begun_anew(log, 2)
    assert run("orders", at=repository).stderr == (
        "factfold: orders is empty; give --yes to begin it anew with 3 partitions instead of 2\n"
    )
    assert run("orders", "--yes", at=repository).returncode == 0
    begun_anew(log, 3)


def test_facts_are_kept_until_somebody_means_the_other_number_of_partitions(
    run: Run, log: redis.Redis, repository: Path, used: list[Owner]
) -> None:
    before = keys(log)
    refused = (
        "factfold: orders has 4 partitions, not 3: to lose its 3 facts for good and begin with 3, "
        "give --destroy-facts 3\n"
    )
    for arguments in (["--yes"], ["--yes", "--partitions", "3"], ["--partitions", "3"], []):
        done = run("orders", *arguments, at=repository)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", refused)
    # Also of a damaged one, which could begin anew as it was.
    log.delete("{orders/3}:log")
    assert run("orders", "--yes", at=repository).stderr == refused
    del before["{orders/3}:log"]
    assert keys(log) == before
    done = run("orders", "--yes", "--destroy-facts", "3", at=repository)
    assert (done.returncode, done.stderr) == (0, "")
    epoch = begun_anew(log, 3)
    assert done.stdout.splitlines()[1] == f"orders begins anew: 3 partitions, epoch {epoch}"


def test_an_operator_means_another_number_than_the_contract(
    run: Run, log: redis.Redis, repository: Path, used: list[Owner]
) -> None:
    more = ["--yes", "--destroy-facts", "3", "--partitions", "4"]
    assert run("orders", *more, at=repository).returncode == 0
    begun_anew(log, 4)


def test_the_copy_of_a_contract_does_not_outvote_the_log(
    run: Run, log: redis.Redis, reader: Path, used: list[Owner]
) -> None:
    before = keys(log)
    done = run("orders", "--yes", "--destroy-facts", "3", at=reader)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        "factfold: orders has 4 partitions, but 3 in the copy of its contract here: give "
        "--partitions, or run this inside the repository of its service\n",
    )
    assert keys(log) == before
    log.flushall()
    done = run("orders", at=reader)
    assert (done.returncode, done.stderr) == (
        2,
        "factfold: nothing is left of orders here; streams here: none; give --yes to begin it "
        "anew\n",
    )
    assert run("orders", "--yes", at=reader).returncode == 0
    begun_anew(log, 3)


def test_a_stream_that_is_not_there_is_not_taken_for_a_lost_one(
    run: Run, log: redis.Redis, repository: Path, used: list[Owner]
) -> None:
    before = keys(log)
    here = "nothing is left of nope here; streams here: orders, orders-2, orders.x"
    for arguments, then in (
        (["--yes"], "to begin it anew, give --partitions, or run this inside the repository of "
         "its service"),
        (["--partitions", "4"], "give --yes to begin it anew"),
    ):  # fmt: skip
        done = run("nope", *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"factfold: {here}; {then}\n")
    assert keys(log) == before
    done = run("nope", "--partitions", "1", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "nothing was left of nope"
    assert lines[1].startswith("nope begins anew: 1 partition, epoch ")


def test_a_flushed_redis_is_no_obstacle_where_the_contract_is(
    run: Run, log: redis.Redis, repository: Path
) -> None:
    # Running readers write this again by themselves.
    log.hset("{orders}:members:billing.charge", "_", "1")
    done = run("orders", at=repository)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        "factfold: nothing is left of orders; give --yes to begin it anew\n",
    )
    done = run("orders", "--yes", at=repository)
    assert (done.returncode, done.stderr) == (0, "")
    epoch = begun_anew(log, 3)
    assert done.stdout.splitlines() == [
        "nothing was left of orders",
        f"orders begins anew: 3 partitions, epoch {epoch}",
        "restart every running service that writes or reads orders",
    ]
    assert run("orders", at=repository).stderr == (
        "factfold: orders is empty; give --yes to begin it anew\n"
    )


def test_a_person_is_asked_about_a_stream_that_is_not_there(
    shared: redis_server.RedisServer, log: redis.Redis, used: list[Owner]
) -> None:
    command = ["stream", "recreate", "nope", "--partitions", "2"]
    before = keys(log)
    code, screen = watched(*command, types="n\n", FACTFOLD_REDIS_URL=shared.url)
    assert code == 1
    assert (
        "Nothing is left of nope here; streams here: orders, orders-2, orders.x. "
        "Begin nope anew? [y/N]: "
    ) in " ".join(plain(screen))
    assert keys(log) == before
    command = ["stream", "recreate", "orders", "--partitions", "2", "--destroy-facts", "3"]
    code, screen = watched(*command, types="y\n", FACTFOLD_REDIS_URL=shared.url)
    assert code == 0
    assert ". Begin orders anew with 2 partitions instead of 4? [y/N]: " in " ".join(plain(screen))
    begun_anew(log, 2)


def test_heads_that_disagree_leave_the_number_to_the_operator(
    run: Run, log: redis.Redis, used: list[Owner]
) -> None:
    log.hset("{orders/3}:head", "partitions", 8)
    done = run("orders", "--yes")
    assert (done.returncode, done.stderr) == (
        2,
        "factfold: nothing says how many partitions orders has: give --partitions, or run this "
        "inside the repository of its service\n",
    )
    assert run("orders", "--yes", "--partitions", "3").returncode == 0
    begun_anew(log, 3)


def test_keys_of_another_type_do_not_stop_it(run: Run, log: redis.Redis, used: list[Owner]) -> None:
    for name in ("log", "head", f"dead:{GROUPS[0]}", "anything"):
        log.set(f"{{orders/0}}:{name}", "x")
    assert run("orders", "--yes").returncode == 0
    begun_anew(log)


def test_an_interrupted_run_is_finished_by_the_next(
    run: Run, log: redis.Redis, used: list[Owner]
) -> None:
    # The first partition was begun anew, the heads of the others are gone.
    log.delete(*keys(log, "{orders/0}*"), *(f"{{orders/{n}}}:head" for n in range(1, PARTITIONS)))
    names = [f"{{orders/0}}:{name}" for name in ("log", "head", "producers", "versions")]
    script(log, "create", names, PARTITIONS, "f" * 16)
    assert run("orders", "--yes").returncode == 0
    assert begun_anew(log) != "f" * 16


def test_a_name_that_no_stream_can_have_is_refused(
    run: Run, log: redis.Redis, used: list[Owner]
) -> None:
    before = keys(log)
    for name in ("*", "orders*", "Orders", "o" * 65, "{orders", "order?"):
        done = run(name, "--yes", "--partitions", "4")
        assert (done.returncode, done.stderr) == (
            2,
            f"factfold: {name!r} is no stream: a name has 1 to 64 characters of a-z, 0-9, '-' "
            "and '.'\n",
        )
    assert keys(log) == before
