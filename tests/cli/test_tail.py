"""`factfold tail`: facts of a real log as they come, and what becomes of a log meanwhile."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from factfold_cli import redis_server

from .letters import EPOCH
from .piped import piped
from .running import FACTFOLD, Command, plain_environment
from .screens import plain, watched
from .streams import Stream
from .test_dead_letters import CONTRACT, PLACED, text

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
CAUSE = uuid.UUID("01890a5d-ac96-774b-bcce-b302099a8057")
OTHER = "ffeeddccbbaa0099"


@pytest.fixture(scope="module")
def shared() -> Iterator[redis_server.RedisServer]:
    with redis_server.start() as server:
        yield server


@pytest.fixture
def server(shared: redis_server.RedisServer) -> redis_server.RedisServer:
    with redis.Redis.from_url(shared.url) as log:
        log.flushall()
    return shared


@pytest.fixture
def orders(server: redis_server.RedisServer) -> Stream:
    return Stream(server.url)


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contract")
    (folder / "protos").mkdir()
    (folder / "protos" / "orders.proto").write_text(CONTRACT)
    return folder


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(server: redis_server.RedisServer, contract: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`factfold tail …`, piped, with the contract of orders."""
    monkeypatch.setenv("FACTFOLD_REDIS_URL", server.url)
    return lambda *arguments: piped("tail", "--contract", contract, *arguments, at=contract)


@pytest.fixture
def follow(
    server: redis_server.RedisServer, contract: Path, factfold: Callable[..., Command]
) -> Callable[..., Command]:
    """The same in a process of its own, which has begun to read."""

    def start(*arguments: str) -> Command:
        words = ["tail", "orders", "--contract", str(contract), *arguments]
        command = factfold(*words, FACTFOLD_REDIS_URL=server.url)
        with redis.Redis.from_url(server.url) as log:
            deadline = time.monotonic() + 60
            while not any(each["cmd"].startswith("xread") for each in log.client_list()):
                assert time.monotonic() < deadline, command.lines
                time.sleep(0.02)
        return command

    return start


def placed(key: str, customer: str = "") -> bytes:
    return text(1, key) + (text(2, customer) if customer else b"")


def lines(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """The columns of each line, without its time."""
    assert (done.returncode, done.stderr) == (0, "")
    split = [line.split("\t") for line in done.stdout.splitlines()]
    assert all(re.fullmatch(TIME, each[0]) for each in split)
    return [each[1:] for each in split]


def test_a_line_has_position_type_key_and_event(run: Run, orders: Stream) -> None:
    orders.add("o-1", PLACED, placed("o-1", "Zoë"))
    orders.add("o-2", PLACED, placed("o-2"))
    orders.add("o-1", PLACED, placed("o-1", "x\ty\x1b[31m\n"))
    assert lines(run("orders", "--no-follow")) == [
        ["orders/2:1", "OrderPlaced", "o-1", '{"id":"o-1","customerName":"Zoë"}'],
        ["orders/0:1", "OrderPlaced", "o-2", '{"id":"o-2"}'],
        [
            *("orders/2:2", "OrderPlaced", "o-1"),
            r'{"id":"o-1","customerName":"x\ty\u001b[31m\n"}',
        ],
    ]


def test_a_json_document_has_all_of_a_fact(run: Run, orders: Stream) -> None:
    position, id = orders.add(
        "o-1",
        PLACED,
        placed("o-1"),
        time_unix_nano=1_700_000_000_123_456_789,
        trace_id=bytes(range(16)),
        span_id=bytes(range(8)),
        trace_flags=1,
        causation_id=CAUSE.bytes,
        request_id="r-1",
        version=3,
        extensions={"tenant": "zürich"},
    )
    done = run("orders", "--no-follow", "--format", "json")
    shown = json.loads(done.stdout)
    assert re.fullmatch(TIME, shown.pop("appended_at"))
    assert shown == {
        "position": position,
        "type": PLACED,
        "key": "o-1",
        "meta": {
            "id": id,
            "source": "/orders",
            "time": "2023-11-14T22:13:20.123456789Z",
            "trace_id": "000102030405060708090a0b0c0d0e0f",
            "span_id": "0001020304050607",
            "trace_flags": 1,
            "causation_id": str(CAUSE),
            "request_id": "r-1",
            "version": 3,
            "extensions": {"tenant": "zürich"},
        },
        "data": {"id": "o-1"},
        "data_hex": None,
        "not_decoded": None,
        "unknown_fields": [],
        "other_fields": {},
    }


def test_a_cloud_event_is_as_the_wire_format_maps_it(run: Run, orders: Stream) -> None:
    known = {
        "time_unix_nano": 1_700_000_000_500_000_000,
        "trace_id": bytes(range(16)),
        "span_id": bytes(range(8)),
        "trace_state": "vendor=x",
        "causation_id": CAUSE.bytes,
        "extensions": {"tenant": "zürich", "subject": "stolen", "No Name": "x"},
    }
    _, id = orders.add("o-1", PLACED, placed("o-1"), **known)
    orders.add("o-1", PLACED, placed("o-1") + text(9, "newer"))
    orders.add("o-1", "acme.Unknown", b"\xff")
    whole, newer, unknown = map(
        json.loads, run("orders", "--no-follow", "--format", "cloudevents").stdout.splitlines()
    )
    assert whole == {
        "specversion": "1.0",
        "id": id,
        "source": "/orders",
        "type": PLACED,
        "subject": "o-1",
        "partitionkey": "o-1",
        "time": "2023-11-14T22:13:20.5Z",
        "sequence": "1",
        "traceparent": "00-000102030405060708090a0b0c0d0e0f-0001020304050607-00",
        "tracestate": "vendor=x",
        "causationid": str(CAUSE),
        "tenant": "zürich",
        "datacontenttype": "application/json",
        "data": {"id": "o-1"},
    }
    # What JSON would lose goes as it is.
    assert newer["datacontenttype"] == unknown["datacontenttype"] == "application/protobuf"
    assert base64.b64decode(newer["data_base64"]) == placed("o-1") + text(9, "newer")
    assert base64.b64decode(unknown["data_base64"]) == b"\xff"


def test_what_cannot_be_read_is_shown_and_ends_nothing(
    run: Run, orders: Stream, contract: Path
) -> None:
    orders.add("o-1", PLACED, b"\xff" * 70)
    orders.add("o-1", "acme.Unknown", b"abc")
    orders.add("o-1", PLACED, placed("o-1"), raw_meta=b"\xff")
    orders.add("o-1", PLACED, placed("o-1"), id=b"short")
    orders.add("o-1", PLACED, placed("o-1") + text(9, "newer"))
    orders.add("o-1", PLACED, placed("o-1"))
    orders.log.xadd("{orders/2}:log", {"key": b"k\xff", "a\tb": b"\x00\x01"})
    rows = lines(run("orders", "--no-follow"))
    assert [row[0] for row in rows] == [f"orders/2:{n}" for n in (1, 2, 3, 4, 5, 6, 0)]
    assert [row[3] for row in rows] == [
        f"not decoded, these bytes are no {PLACED}: {'ff' * 64}… and 6 bytes more",
        f"not decoded, no contract in '{contract}' has 'acme.Unknown': 616263",
        "no fact: its meta does not parse; meta=ff, data=0a036f2d31",
        f"no fact: it has no id of 16 bytes; meta={rows[3][3].split('meta=')[1]}",
        '{"id":"o-1"}  and unknown fields: 9',
        '{"id":"o-1"}',
        r"no fact: no appender wrote this entry; a\tb=0001",
    ]
    done = run("orders", "--no-follow", "--format", "json")
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert shown[0]["data_hex"] == "ff" * 70
    assert shown[2]["meta"] == {"hex": "ff"}
    assert shown[4]["unknown_fields"] == [9]
    assert shown[4]["data_hex"] == (placed("o-1") + text(9, "newer")).hex()
    assert shown[6]["not_decoded"] == "no appender wrote this entry"
    assert shown[6]["other_fields"] == {"a\tb": "\x00\x01"}
    done = run("orders", "--no-follow", "--format", "cloudevents")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 4
    assert done.stderr.splitlines() == [
        "factfold: left out, as it is no CloudEvent: orders/2:3: its meta does not parse",
        "factfold: left out, as it is no CloudEvent: orders/2:4: it has no id of 16 bytes",
        "factfold: left out, as it is no CloudEvent: orders/2:0: no appender wrote this entry",
    ]


def test_a_type_that_no_contract_has_is_asked_about(run: Run, orders: Stream) -> None:
    orders.add("o-1", PLACED, placed("o-1"))
    for known in ("OrderPlaced", PLACED):
        assert run("orders", "--no-follow", "--type", known).stderr == ""
    done = run("orders", "--no-follow", "--type", "OrderPlacd")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        "factfold: no contract here has an event 'OrderPlacd'; is the name right?\n"
    )


def test_a_folder_of_services_decodes_facts_of_each_by_its_owner(
    orders: Stream,
    server: redis_server.RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A copied contract may be older, and stand before that of the owner."""
    monkeypatch.setenv("FACTFOLD_REDIS_URL", server.url)
    kept = {"contract": {"protos/orders.proto": ""}, "name": "orders"}
    older = CONTRACT.replace("customer_name", "former_name")
    assert older != CONTRACT
    services = tmp_path / "services"
    generated(services / "audit", older, [kept])
    generated(services / "orders", CONTRACT, [])
    orders.add("o-1", PLACED, placed("o-1", "Zoë"))
    runs: list[tuple[Path, list[str]]] = [(services, []), (tmp_path, ["--contract", "services"])]
    for at, words in runs:
        done = piped("tail", "orders", "--no-follow", *words, at=at)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.rstrip("\n").split("\t")[4] == '{"id":"o-1","customerName":"Zoë"}'


def generated(root: Path, contract: str, subscriptions: list[Any]) -> None:
    """A repository with nothing but a contract and a manifest."""
    (root / "protos").mkdir(parents=True)
    (root / "protos" / "orders.proto").write_text(contract)
    manifest = {
        "answers": {"service_slug": root.name},
        "files": {},
        "format": 1,
        "generator": "0",
        "language": "python",
        "subscriptions": subscriptions,
    }
    (root / ".factfold").mkdir()
    (root / ".factfold" / "manifest.json").write_text(json.dumps(manifest))


def test_without_a_contract_that_is_said_once(
    run: Run, orders: Stream, tmp_path: Path, server: redis_server.RedisServer
) -> None:
    for _ in range(2):
        orders.add("o-1", PLACED, placed("o-1"))
    done = piped("tail", "orders", "--no-follow", at=tmp_path)
    assert done.stderr == (
        "factfold: nothing is decoded: no contract: run this inside the service's repository, or "
        "name it with --contract\n"
    )
    assert [line.split("\t")[4] for line in done.stdout.splitlines()] == [
        "not decoded: 0a036f2d31"
    ] * 2


def test_of_two_fields_with_one_name_the_first_counts(run: Run, orders: Stream) -> None:
    orders.add("o-1", PLACED, placed("o-1"))
    ((_, fields),) = orders.log.xrange("{orders/2}:log")
    orders.log.hincrby("{orders/2}:head", "n", 1)
    ms = orders.log.time()[0] * 1000 + 60_000
    flat = [part for pair in fields.items() for part in pair]
    orders.log.execute_command("XADD", "{orders/2}:log", f"{ms}-2", *flat, "key", "other")
    assert [row[2] for row in lines(run("orders", "--no-follow"))] == ["o-1", "o-1"]


def test_keys_types_partitions_and_a_limit_choose(run: Run, orders: Stream) -> None:
    for number in range(1, 4):
        for key in ("o-1", "o-2", "o-3"):
            orders.add(key, PLACED if number < 3 else "acme.Other", placed(key))

    def chosen(*options: str) -> list[str]:
        done = run("orders", "--no-follow", *options)
        assert done.returncode == 0
        return [line.split("\t")[1] for line in done.stdout.splitlines()]

    every = chosen()
    assert len(every) == 9
    assert chosen("--key", "o-2") == ["orders/0:1", "orders/0:2", "orders/0:3"]
    assert chosen("--key", "o-2", "--key", "o-1", "--type", "Other") == ["orders/2:5", "orders/0:3"]
    assert len(chosen("--type", PLACED, "--type", "Other")) == 9
    assert len(chosen("--type", "OrderPlaced")) == 6
    assert chosen("--partition", "0") == ["orders/0:1", "orders/0:2", "orders/0:3"]
    assert chosen("--limit", "2") == every[:2]
    for options, line in (
        (
            ["--partition", "1", "--key", "o-2"],
            "the key 'o-2' is in partition 0 of orders, not in 1",
        ),
        (["--partition", "4"], "orders has no partition 4: they are 0 to 3"),
    ):
        done = run("orders", "--no-follow", *options)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"factfold: {line}\n")


def test_a_key_reads_its_partition_alone(run: Run, orders: Stream) -> None:
    orders.add("o-2", PLACED, placed("o-2"))
    # Whoever reads these gets an error.
    for partition in (1, 2, 3):
        orders.log.set(f"{{orders/{partition}}}:log", "no stream")
    assert lines(run("orders", "--no-follow", "--key", "o-2"))[0][0] == "orders/0:1"
    done = run("orders", "--no-follow")
    assert (done.returncode, done.stdout) == (1, "")
    assert "WRONGTYPE" in done.stderr


def test_reading_begins_where_it_is_told_to(run: Run, orders: Stream) -> None:
    positions = []
    for _ in range(4):
        positions.append(orders.add("o-1", PLACED, placed("o-1"))[0])
        time.sleep(0.005)
    zero = orders.add("o-2", PLACED, placed("o-2"))[0]

    def begun(start: str) -> list[str]:
        return [row[0] for row in lines(run("orders", "--no-follow", "--from", start))]

    assert begun("beginning") == ["orders/2:1", "orders/2:2", "orders/2:3", "orders/2:4",
                                  "orders/0:1"]  # fmt: skip
    assert begun("end") == []
    assert begun(positions[2]) == ["orders/2:4", "orders/0:1"]
    assert begun(f"{positions[2]},{zero},other/1@{EPOCH}:1-1") == ["orders/2:4"]
    assert begun("orders/2:3") == ["orders/2:4", "orders/0:1"]
    ms = int(positions[3].partition(":")[2].partition("-")[0])
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03d}Z"
    assert begun(at) == ["orders/2:4", "orders/0:1"]
    assert len(begun("1h")) == 5
    for start, code, line in (
        (
            "orders/2:9",
            1,
            "orders/2 ends at fact 4: there is no orders/2:9",
        ),
        (
            positions[2].replace(EPOCH, OTHER),
            1,
            f"orders/2:3 is of another log: the epoch of orders/2 is {EPOCH} now, not {OTHER}",
        ),
        ("other/2:9", 2, "none of the positions is of orders"),
        ("orders/7:9", 2, "orders has 4 partitions: there is no orders/7:9"),
        (
            "soon",
            2,
            "Invalid value for '--from': 'soon' is no place to begin; give beginning, end, a "
            "position such as orders/2:17, an age such as 15m, or a time such as "
            "2026-01-31T12:00:00Z; see factfold tail --help",
        ),
    ):
        done = run("orders", "--no-follow", "--from", start)
        assert (done.returncode, done.stdout, done.stderr) == (code, "", f"factfold: {line}\n")


def test_a_place_without_a_time_is_found_among_entries_of_others(run: Run, orders: Stream) -> None:
    for _ in range(30):
        orders.add("o-1", PLACED, placed("o-1"))
    orders.log.xtrim("{orders/2}:log", maxlen=29, approximate=False)
    # In the second half of the time, where half of all looks go.
    ms = int(orders.log.time()[0]) * 1000 + 100_000
    for number in (0, 1, 2):
        orders.log.xadd("{orders/2}:log", {"a": "b"}, id=f"{ms}-{number}")
    for n in range(2, 31):
        rows = lines(run("orders", "--no-follow", "--from", f"orders/2:{n}"))
        assert [row[0] for row in rows] == [
            *(f"orders/2:{later}" for later in range(n + 1, 31)),
            *("orders/2:0", "orders/2:1", "orders/2:2"),
        ]


def test_a_history_of_many_batches_comes_in_the_order_of_time(run: Run, orders: Stream) -> None:
    ends = [0] * 4
    for at in range(40):
        partition = at % 3  # partition 3 stays empty
        meta = b"\x0a\x10" + uuid.uuid4().bytes
        number = 60 if partition else 3
        _, n = orders.append(partition, [("k", PLACED, meta, placed("k"))] * number)
        ends[partition] = n
    rows = [line.split("\t") for line in run("orders", "--no-follow").stdout.splitlines()]
    assert len(rows) == sum(ends)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    for partition, end in enumerate(ends):
        its = [row[1] for row in rows if row[1].startswith(f"orders/{partition}:")]
        assert its == [f"orders/{partition}:{n}" for n in range(1, end + 1)]


def test_facts_come_as_they_are_appended_until_ctrl_c(
    follow: Callable[..., Command], orders: Stream
) -> None:
    orders.add("o-1", PLACED, placed("before"))
    command = follow()
    orders.add("o-1", PLACED, placed("o-1"))
    orders.add("o-2", PLACED, placed("o-2"))
    command.line('\torders/2:2\tOrderPlaced\to-1\t{"id":"o-1"}', seconds=10)
    command.line('\torders/0:1\tOrderPlaced\to-2\t{"id":"o-2"}', seconds=10)
    assert command.send(signal.SIGINT) == 0
    assert len(command.lines) == 2


def test_a_log_that_is_replaced_is_read_from_its_beginning(
    follow: Callable[..., Command], orders: Stream
) -> None:
    orders.add("o-1", PLACED, placed("o-1"))
    command = follow("--from", "beginning", "--key", "o-1")
    command.line("orders/2:1")
    orders.log.flushall()
    command.line("factfold: orders/2: its log is gone; waiting for another one", seconds=10)
    Stream(f"redis://127.0.0.1:{orders.log.connection_pool.connection_kwargs['port']}/0",
           epoch=OTHER).add("o-1", PLACED, placed("new"))  # fmt: skip
    command.line(
        f"factfold: orders/2: its log was replaced, the epoch is {OTHER}; from its beginning",
        seconds=10,
    )
    command.line('\torders/2:1\tOrderPlaced\to-1\t{"id":"new"}', seconds=10)
    assert command.send(signal.SIGINT) == 0
    assert len(command.lines) == 4


def test_a_log_that_is_rolled_back_is_read_from_where_it_is_the_same(
    follow: Callable[..., Command], orders: Stream
) -> None:
    names = orders.keys(2)
    orders.add("o-1", PLACED, placed("first"))
    before = {name: orders.log.dump(name) for name in names}
    orders.add("o-1", PLACED, placed("lost"))
    orders.add("o-1", PLACED, placed("lost too"))
    command = follow("--from", "beginning", "--key", "o-1")
    command.line("orders/2:3")
    with orders.log.pipeline(transaction=True) as step:
        for name, raw in before.items():
            step.restore(name, 0, raw, replace=True)
        step.execute()
    orders.add("o-1", PLACED, placed("another"))
    command.line('\torders/2:2\tOrderPlaced\to-1\t{"id":"another"}', seconds=10)
    assert command.send(signal.SIGINT) == 0
    assert command.lines[3] in (
        "factfold: orders/2: its log was rolled back: it ends at fact 1, and fact 3 was read; "
        "going on behind fact 1",
        "factfold: orders/2: its log was rolled back: it ends at fact 2, and fact 3 was read; "
        "going on behind fact 1",
    )
    assert len(command.lines) == 5


def test_facts_that_are_missing_are_counted(
    follow: Callable[..., Command], run: Run, orders: Stream
) -> None:
    for _ in range(5):
        orders.add("o-1", PLACED, placed("o-1"))
    orders.log.xtrim("{orders/2}:log", maxlen=2, approximate=False)
    done = run("orders", "--no-follow")
    assert done.stderr == "factfold: orders/2: facts 1 to 3 were removed before they were read\n"
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == [
        "orders/2:4",
        "orders/2:5",
    ]
    done = run("orders", "--no-follow", "--from", "orders/2:2")
    assert done.stderr == "factfold: orders/2: fact 3 was removed before it was read\n"
    command = follow()
    # Behind the reader's back: what it has read may go, what it has not may not.
    orders.log.xtrim("{orders/2}:log", maxlen=0, approximate=False)
    orders.add("o-1", PLACED, placed("o-1"))
    command.line("orders/2:6", seconds=10)
    with orders.log.pipeline(transaction=True) as step:
        step.hincrby("{orders/2}:head", "n", 1)
        step.execute()
    command.line("factfold: orders/2: fact 7 was removed before it was read", seconds=10)
    assert command.send(signal.SIGINT) == 0
    assert len(command.lines) == 2


def test_a_redis_that_is_killed_is_waited_for(
    contract: Path, factfold: Callable[..., Command]
) -> None:
    with redis_server.start(fsync="always") as server:
        orders = Stream(server.url)
        orders.add("o-1", PLACED, placed("o-1"))
        words = ["tail", "orders", "--from", "beginning", "--contract", str(contract)]
        command = factfold(*words, FACTFOLD_REDIS_URL=server.url)
        command.line("orders/2:1")
        server.kill()
        command.line("factfold: the log does not answer: ", seconds=10)
        time.sleep(0.5)
        server.start_again()
        orders.add("o-1", PLACED, placed("o-1"))
        command.line("factfold: the log answers again; going on where it was left", seconds=10)
        command.line("orders/2:2", seconds=10)
        assert command.send(signal.SIGINT) == 0
        assert len(command.lines) == 4
        assert command.lines[1].endswith("; trying until it does")


def test_who_has_seen_enough_ends_it_quietly(
    server: redis_server.RedisServer, contract: Path, orders: Stream
) -> None:
    for _ in range(3):
        orders.add("o-1", PLACED, placed("o-1"))
    for options in (["--no-follow"], ["--from", "beginning"]):
        process = subprocess.Popen(
            [*FACTFOLD, "tail", "orders", "--contract", str(contract), *options],
            env=plain_environment() | {"FACTFOLD_REDIS_URL": server.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        assert "orders/2:1" in process.stdout.readline()
        # Nothing more is appended: it has to notice by itself.
        process.stdout.close()
        process.wait(20)
        assert process.stderr.read() == ""
        process.stderr.close()


def test_a_person_sees_colours_and_the_whole_event_on_a_narrow_screen(
    server: redis_server.RedisServer, contract: Path, orders: Stream
) -> None:
    orders.add("o-1", PLACED, placed("o-1", "Zoë" * 30))
    for words in (["orders", "--no-follow"], ["--around", "orders/2:1"]):
        code, screen = watched(
            "tail", *words, "--contract", str(contract), columns=60, FACTFOLD_REDIS_URL=server.url
        )
        assert code == 0
        line = plain(screen)[0].removeprefix("> ")
        assert re.match(TIME + r'  orders/2:1  OrderPlaced  o-1  \{"id":"o-1"', line)
        assert json.loads(line[line.index("{") :])["customerName"] == "Zoë" * 30
        assert "\x1b[33mo-1" in screen


def peak(*arguments: str, **environment: str) -> tuple[str, int]:
    """What a command prints, and the most memory that it had, in MiB."""
    with subprocess.Popen(
        [*FACTFOLD, *arguments],
        env=plain_environment() | environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return printed, usage.ru_maxrss // 1024


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit")
def test_a_filter_over_many_facts_takes_no_memory(
    server: redis_server.RedisServer, contract: Path, orders: Stream
) -> None:
    orders.add("o-2", PLACED, placed("o-2"))
    words = ["tail", "orders", "--no-follow", "--key", "o-2", "--contract", str(contract)]
    _, few = peak(*words, FACTFOLD_REDIS_URL=server.url)
    # 100 MB of facts of another key in the same partition; and 20 large ones.
    fill = """
        local ms, n = string.match(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][1],
                                   '(%d+)-(%d+)')
        for i = 1, tonumber(ARGV[1]) do
            n = string.format('%d', n + 1)
            redis.call('XADD', KEYS[1], ms .. '-' .. n, 'type', 'T', 'key', 'other', 'meta', '',
                       'data', string.rep('x', ARGV[2]))
        end
        redis.call('HSET', KEYS[2], 'n', n)
    """
    names = orders.keys(0)[:2]
    for number, size in [(20_000, 500)] * 10 + [(20, 1_000_000)]:
        orders.log.eval(fill, 2, *names, number, size)
    printed, many = peak(*words, FACTFOLD_REDIS_URL=server.url)
    assert len(printed.splitlines()) == 1
    assert many < few + 60


# Causes and effects.


class Family:
    """An order, what follows from it in two streams, and facts that have nothing to do with it."""

    def __init__(self, orders: Stream, shipments: Stream) -> None:
        self.order = orders.add("o-1", PLACED, placed("o-1"))
        orders.add("o-2", PLACED, placed("o-2"))
        self.shipment = shipments.add("s-1", PLACED, placed("s-1"), causation_id=self.id("order"))
        self.label = shipments.add("s-2", PLACED, placed("s-2"), causation_id=self.id("shipment"))
        self.other = shipments.add("s-3", PLACED, placed("s-3"), causation_id=self.id("order"))
        self.done = orders.add("o-1", PLACED, placed("done"), causation_id=self.id("label"))

    def id(self, name: str) -> bytes:
        return uuid.UUID(getattr(self, name)[1]).bytes


@pytest.fixture
def family(server: redis_server.RedisServer, orders: Stream) -> Family:
    return Family(orders, Stream(server.url, "shipments", 1, OTHER))


def rows(done: subprocess.CompletedProcess[str]) -> tuple[list[str], str]:
    """The lines of a tree without their times, and the one on the bound."""
    assert (done.returncode, done.stderr) == (0, "")
    *tree, bound = done.stdout.splitlines()
    return [re.sub(TIME + "  ", "", line) for line in tree], bound


def test_a_fact_stands_between_its_causes_and_its_effects(run: Run, family: Family) -> None:
    whole = [
        '  orders/2:1  OrderPlaced  o-1  {"id":"o-1"}',
        '  ├─ shipments/0:1  OrderPlaced  s-1  {"id":"s-1"}',
        '  │  └─ shipments/0:2  OrderPlaced  s-2  {"id":"s-2"}',
        '  │     └─ orders/2:2  OrderPlaced  o-1  {"id":"done"}',
        '  └─ shipments/0:3  OrderPlaced  s-3  {"id":"s-3"}',
    ]
    for name in (*family.order, "orders/2:1"):
        tree, bound = rows(run("--around", name))
        assert tree == [f">{whole[0][1:]}", *whole[1:]]
        assert re.fullmatch(
            rf"looked at \d+ entries of orders, shipments; for effects from {TIME} on", bound
        )
    tree, _ = rows(run("--around", family.label[1]))
    assert tree == [
        whole[0],
        '  └─ shipments/0:1  OrderPlaced  s-1  {"id":"s-1"}',
        '>    └─ shipments/0:2  OrderPlaced  s-2  {"id":"s-2"}',
        '        └─ orders/2:2  OrderPlaced  o-1  {"id":"done"}',
    ]


def test_relatives_are_one_json_document(run: Run, family: Family) -> None:
    shown = json.loads(run("--around", family.shipment[0], "--format", "json").stdout)
    assert shown["fact"]["position"] == family.shipment[0]
    assert [each["position"] for each in shown["causes"]] == [family.order[0]]
    assert [(each["depth"], each["position"]) for each in shown["effects"]] == [
        (0, family.label[0]),
        (1, family.done[0]),
    ]
    assert shown["cause_not_found"] is None
    assert shown["searched"]["streams"] == ["orders", "shipments"]
    assert shown["searched"]["complete"] is True


def test_a_cause_that_is_gone_and_a_search_that_stops_are_said(
    run: Run, family: Family, orders: Stream
) -> None:
    orders.log.xtrim("{orders/2}:log", maxlen=1, approximate=False)
    tree, _ = rows(run("--around", family.shipment[1]))
    assert tree[:2] == [
        f"  its cause {family.order[1]} was not found",
        '> └─ shipments/0:1  OrderPlaced  s-1  {"id":"s-1"}',
    ]
    tree, bound = rows(run("--around", family.shipment[0], "--search", "2"))
    assert len(tree) == 2
    assert bound.endswith(" on, but not at all: --search looks at more")
    for words, line in (
        (
            [str(CAUSE)],
            rf"no fact {CAUSE} among \d+ entries; streams here: orders, shipments; give its "
            "position",
        ),
        (
            [family.done[1], "--search", "1"],
            rf"no fact {family.done[1]} among \d entries; streams here: orders, shipments; give "
            "its position, or look at more with --search",
        ),
        (["orders/2:1"], "the fact at orders/2:1 is not in the log any more"),
        (["orders/2:77"], "orders/2 ends at fact 2: there is no orders/2:77"),
        (["nope/2:1"], "there is no nope/2 in this log"),
    ):
        done = run("--around", *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(f"factfold: {line}\n", done.stderr), done.stderr


def test_facts_that_cause_each_other_end_somewhere(run: Run, orders: Stream) -> None:
    one, other = uuid.uuid4(), uuid.uuid4()
    orders.add("o-1", PLACED, placed("o-1"), id=one.bytes, causation_id=other.bytes)
    orders.add("o-1", PLACED, placed("o-2"), id=other.bytes, causation_id=one.bytes)
    tree, _ = rows(run("--around", str(one)))
    assert [line[:16] for line in tree] == [
        "  orders/2:2  Or", "> └─ orders/2:1 ", "     └─ orders/2"
    ]  # fmt: skip


def test_words_that_do_not_go_together_are_refused(run: Run, orders: Stream) -> None:
    see = "; see factfold tail --help"
    cases: list[tuple[list[str], int, str]] = [
        ([], 2, "give a STREAM, or a fact with --around" + see),
        (
            ["--around", "orders/2:1", "--partition", "0"],
            2,
            "--around shows one fact and its relatives: leave --partition out" + see,
        ),
        (
            ["--around", "orders/2:1", "--format", "cloudevents"],
            2,
            "--around is shown as text or json, not as cloudevents" + see,
        ),
        (
            ["--around", "o-1"],
            2,
            "Invalid value for '--around': 'o-1' is no fact; give its position, such as "
            "orders/2:17, or its id" + see,
        ),
        (["orders", "--search", "5"], 2, "--search is for --around" + see),
        (
            ["Orders"],
            2,
            "'Orders' is no stream: a name has 1 to 64 characters of a-z, 0-9, '-' and '.'",
        ),
        (["order"], 1, "there is no stream 'order' here; streams here: orders"),
    ]
    for words, code, line in cases:
        done: Any = run(*words)
        assert (done.returncode, done.stdout, done.stderr) == (code, "", f"factfold: {line}\n")
