"""`factfold dead-letters`: letters in a real log, and an owner that carries requests out."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from google.protobuf.timestamp_pb2 import Timestamp
from rich.cells import cell_len

from factfold.v1.fact_pb2 import DeadLetter, Outcome, Place
from factfold_cli import redis_server
from factfold_cli.errors import Failed
from factfold_cli.letters import Asked, Partition, letters

from .letters import CAUSE, EPOCH, Owner
from .piped import piped
from .running import FACTFOLD, plain_environment
from .screens import plain, watched

GROUP = "shipments.create_shipment_for_order"
PLACED = "acme.orders.v1.OrderPlaced"
FAILED_AT = 1_700_000_100_000_000_000
CONTRACT = """\
syntax = "proto3";
package acme.orders.v1;
import "google/protobuf/any.proto";
import "google/protobuf/timestamp.proto";
import "factfold/v1/options.proto";
option (factfold.v1.stream) = { name: "orders" };
message OrderPlaced {
  option (factfold.v1.event) = {};
  string id = 1 [(factfold.v1.key) = true];
  string customer_name = 2;
  google.protobuf.Timestamp at = 3;
  uint64 cents = 4;
  google.protobuf.Any more = 5;
}
"""
AT = Timestamp(seconds=1_700_000_000)


def text(number: int, content: str | bytes) -> bytes:
    """A short length-delimited field."""
    raw = content.encode() if isinstance(content, str) else content
    return bytes([number << 3 | 2, len(raw)]) + raw


@pytest.fixture(scope="module")
def shared() -> Iterator[redis_server.RedisServer]:
    with redis_server.start() as server:
        yield server


@pytest.fixture
def server(shared: redis_server.RedisServer) -> redis_server.RedisServer:
    with redis.Redis.from_url(shared.url) as log:
        log.flushall()
    return shared


Own = Callable[..., Owner]


@pytest.fixture
def own(server: redis_server.RedisServer) -> Iterator[Own]:
    """`own()` claims a partition until the end of the test."""
    owners: list[Owner] = []

    def begin(group: str = GROUP, **place: Any) -> Owner:
        owners.append(Owner(server.url, group, **place))
        return owners[-1]

    yield begin
    for owner in owners:
        owner.close()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service named shipments."""
    folder = tmp_path_factory.mktemp("made")
    command = [*FACTFOLD, "new", "shipments", "--language", "python", "--no-input"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "shipments"


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    """A folder with the contract of orders."""
    (tmp_path / "contract" / "protos").mkdir(parents=True)
    (tmp_path / "contract" / "protos" / "orders.proto").write_text(CONTRACT)
    return tmp_path / "contract"


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(server: redis_server.RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`factfold dead-letters …`, piped, in a folder that is no repository."""
    monkeypatch.setenv("FACTFOLD_REDIS_URL", server.url)
    return lambda *arguments, at=tmp_path: piped("dead-letters", *arguments, at=at)


def screen_of(
    server: redis_server.RedisServer, *arguments: str, columns: int = 100, types: str = ""
) -> tuple[int, str]:
    """Exit code and screen of `factfold dead-letters …`, run by a person."""
    url = {"FACTFOLD_REDIS_URL": server.url}
    return watched("dead-letters", *arguments, columns=columns, types=types, **url)


def failing(owner: Owner, key: str, error: str = "ValueError: no", **more: Any) -> str:
    """A fact that was given up."""
    n = owner.fact(key, PLACED, text(1, key))
    letter = {
        "state": DeadLetter.DEAD,
        "attempts": 20,
        "error": error,
        "failed_unix_nano": FAILED_AT,
    }
    return owner.put_aside(n, **letter | more)


def held(owner: Owner, key: str, kind: str = PLACED) -> str:
    return owner.put_aside(owner.fact(key, kind, text(1, key)), state=DeadLetter.HELD)


# list


def test_a_piped_list_has_a_line_for_each_letter(run: Run, own: Own) -> None:
    two, zero, other = own(), own(partition=0), own("billing.charge", partition=1)
    failing(two, "o-1", "ValueError: no\n  second line\t")
    held(two, "o-1")
    held(two, "o-1", "acme.orders.v1.OrderCancelled")
    failing(zero, "o-2", state=DeadLetter.RETRYING, attempts=3)
    failing(other, "o-3")
    at = "2023-11-14T22:15:00Z"
    lines = [
        f"billing.charge\torders/1:1\to-3\t{PLACED}\tdead\t20\t{at}\tValueError: no",
        f"{GROUP}\torders/0:1\to-2\t{PLACED}\tretrying\t3\t{at}\tValueError: no",
        f"{GROUP}\torders/2:1\to-1\t{PLACED}\tdead\t20\t{at}\tValueError: no second line",
        f"{GROUP}\torders/2:2\to-1\t{PLACED}\theld\t\t\tbehind orders/2:1",
        f"{GROUP}\torders/2:3\to-1\tacme.orders.v1.OrderCancelled\theld\t\t\tbehind orders/2:1",
    ]
    for arguments, expected in (
        ([], lines),
        (["billing.charge"], lines[:1]),
        ([GROUP], lines[1:]),
        (["--state", "held"], lines[3:]),
        (["--key", "o-1"], lines[2:]),
        (["--type", "OrderCancelled"], lines[4:]),
        (["--type", PLACED, "--state", "retrying"], lines[1:2]),
        (["--key", "none"], []),
    ):
        done = run("list", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == expected


def test_a_list_is_a_document_on_request(run: Run, own: Own) -> None:
    owner = own()
    failing(owner, "o-1")
    held(owner, "o-1")
    (first, second) = json.loads(run("list", "--json").stdout)["letters"]
    ((entry_id, _),) = owner.entries(1)
    assert first == {
        "group": GROUP,
        "position": "orders/2:1",
        "entry_id": entry_id.decode(),
        "key": "o-1",
        "type": PLACED,
        "state": "dead",
        "queued": [],
        "tries": 20,
        "failed_at": "2023-11-14T22:15:00Z",
        "error": "ValueError: no",
        "behind": None,
    }
    assert (second["state"], second["behind"]) == ("held", "orders/2:1")
    assert (second["tries"], second["failed_at"], second["error"]) == (0, None, None)


def test_inside_a_repository_a_list_is_of_its_service(run: Run, own: Own, repository: Path) -> None:
    failing(own(), "o-1")
    failing(own("billing.charge"), "o-1")
    failing(own("shipments-2.charge"), "o-1")

    def groups(*arguments: str) -> list[str]:
        lines = run("list", *arguments, at=repository / "src").stdout.splitlines()
        return [line.split("\t")[0] for line in lines]

    assert groups() == [GROUP]
    assert groups("--all") == ["billing.charge", "shipments-2.charge", GROUP]
    assert groups("billing.charge") == ["billing.charge"]


def test_a_person_sees_a_table_as_wide_as_the_screen(
    own: Own, server: redis_server.RedisServer
) -> None:
    owner = own()
    failing(owner, "o-1", "ValueError: " + "x" * 200, failed_unix_nano=time.time_ns() - 190 * 10**9)
    held(owner, "o-1")
    failing(own("billing.charge"), "o-2", failed_unix_nano=time.time_ns() - 2 * 86_400 * 10**9)
    code, screen = screen_of(server, "list", columns=80)
    assert code == 0
    assert plain(screen) == [
        "billing.charge",
        " position    key  type         state  tries  last try",
        " orders/2:3  o-2  OrderPlaced  dead   20     2 d",
        "    ValueError: no",
        GROUP,
        " position    key  type         state  tries  last try",
        " orders/2:1  o-1  OrderPlaced  dead   20     3 min",
        "    ValueError: " + "x" * 63 + "…",
        " orders/2:2  o-1  OrderPlaced  held",
        "    behind orders/2:1",
        "",
    ]
    assert plain(screen_of(server, "list", "--state", "retrying")[1]) == ["no dead letters", ""]


def test_long_keys_and_types_leave_room_for_the_rest(
    own: Own, server: redis_server.RedisServer
) -> None:
    owner = own()
    key, kind = "o-" + "漢" * 40 + "\n\x1b[2J", "acme.orders.v1.Order" + "Placed" * 12
    n = owner.fact(key, kind, b"")
    owner.put_aside(n, state=DeadLetter.DEAD, attempts=20, error="ValueError: no\n" + "\x1b" * 9)
    failing(owner, "0190a5d4-ac96-774b-bcce-b302099a8057", failed_unix_nano=0)
    assert plain(screen_of(server, "list", columns=80)[1]) == [
        GROUP,
        " position    key                   type                   state  tries  last try",
        " orders/2:1  o-漢漢漢漢漢漢漢漢 …  OrderPlacedPlacedPla…  dead   20",
        "    ValueError: no " + r"\u001b" * 9,
        " orders/2:2  0190a5d4-ac96-774b-…  OrderPlaced            dead   20",
        "    ValueError: no",
        "",
    ]
    assert max(map(cell_len, plain(screen_of(server, "list", columns=30)[1]))) <= 30


def test_a_redrive_that_waits_for_its_service_is_listed(
    run: Run, own: Own, server: redis_server.RedisServer
) -> None:
    owner = own()
    failing(owner, "o-1")
    failing(owner, "o-2")
    failing(owner, "o-3")
    for n in (1, 1, 2):
        run("redrive", GROUP, f"orders/2:{n}", "--wait", "0")
    run("discard", GROUP, "orders/2:2", "--yes", "--wait", "0")
    owner.log.hset(f"{{{owner.place}}}:redrive:{GROUP}", "99", "nonsense")

    def states() -> list[str]:
        return [line.split("\t")[4] for line in run("list", "--state", "dead").stdout.splitlines()]

    assert states() == ["dead, redrive queued", "dead, redrive and discard queued", "dead"]
    letters = json.loads(run("list", "--json").stdout)["letters"]
    assert [letter["state"] for letter in letters] == ["dead"] * 3
    assert [letter["queued"] for letter in letters] == [["redrive"], ["redrive", "discard"], []]
    shown = run("show", GROUP, "orders/2:1").stdout
    assert "\nstate        dead, redrive queued\n" in shown
    row = plain(screen_of(server, "list", columns=80)[1])[2]
    assert row.startswith(" orders/2:1  o-1  OrderPlaced  dead, redrive queued ")
    owner.change(1, owner.letter(1), *(n for n, raw in owner.beat() if raw == b"redrive:1"))
    assert states()[0] == "dead"


def test_an_unknown_group_and_an_empty_log_are_said(run: Run, own: Own) -> None:
    done = run("list")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = run("list", "a.b")
    assert (done.returncode, done.stderr) == (
        1,
        "factfold: this log has no group 'a.b': there are none yet\n",
    )
    own()
    assert run("list", "a.b").stderr == (
        f"factfold: this log has no group 'a.b': there are {GROUP}\n"
    )
    done = run("list", "a b")
    assert done.returncode == 2
    assert done.stderr.startswith("factfold: Invalid value for '[GROUP]': 'a b' is no group; ")


# Which Redis.


def test_the_log_is_named_by_option_variable_or_file(
    own: Own, server: redis_server.RedisServer, tmp_path: Path
) -> None:
    failing(own(), "o-1")
    path = tmp_path / "url"
    path.write_text(server.url + "\n")

    def lines(*arguments: str, **environment: str) -> int:
        done = subprocess.run(
            [*FACTFOLD, "dead-letters", "list", *arguments],
            env=plain_environment() | environment,
            capture_output=True,
            text=True,
        )
        return len(done.stdout.splitlines())

    assert lines(FACTFOLD_REDIS_URL=server.url) == 1
    assert lines(FACTFOLD_REDIS_URL_FILE=str(path)) == 1
    assert lines("--redis", server.url, FACTFOLD_REDIS_URL="redis://127.0.0.1:1") == 1


def test_no_error_shows_a_password(server: redis_server.RedisServer, run: Run) -> None:
    away = f"redis://me:secret@127.0.0.1:{redis_server.free_port()}/0"
    done = run("list", "--redis", away)
    assert done.returncode == 1
    assert re.fullmatch(
        r"factfold: no log at redis://127\.0\.0\.1:\d+/0: .*Connection refused; "
        r"start it, or name another one with --redis or FACTFOLD_REDIS_URL\n",
        done.stderr,
    )
    done = run("list", "--redis", server.url.replace("redis://", "redis://me:secret@"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"factfold: redis://127.0.0.1:{server.port}")
    assert " refuses this user: " in done.stderr
    assert "secret" not in done.stderr
    rule = (
        "factfold: the log's URL must be redis://[user:password@]host:port/db, "
        "redis+cluster://host:port,host:port or redis+sentinel://host:port,host:port/name, "
        "special characters of the password percent-encoded, with no option that redis-py does "
        "not know\n"
    )
    for wrong in (
        "redis://me:sec/ret@localhost",
        "redis://localhost:99999",
        "redis://[secret",
        f"{server.url}?secret=1",
        f"{server.url}?socket_timeout=secret",
        "http://localhost",
        "localhost:6379",
    ):
        done = run("list", "--redis", wrong)
        assert (done.returncode, done.stderr) == (2, rule), wrong


def test_rights_that_are_missing_are_named(
    own: Own, server: redis_server.RedisServer, run: Run
) -> None:
    own()
    with redis.Redis.from_url(server.url) as log:
        log.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+ping", "+scan")
    try:
        done = run("list", "--redis", server.url.replace("redis://", "redis://reader:secret@"))
    finally:
        with redis.Redis.from_url(server.url) as log:
            log.execute_command("ACL", "DELUSER", "reader")
    assert done.returncode == 1
    assert "hgetall" in done.stderr
    assert "secret" not in done.stderr
    assert done.stderr.count("\n") == 1


# show


def test_a_letter_is_shown_with_its_fact_decoded(run: Run, own: Own, contract: Path) -> None:
    owner = own()
    data = text(1, "o-1") + text(2, "Größe") + text(3, AT.SerializeToString()) + b"\x20\xac\x02"
    n = owner.fact(
        "o-1",
        PLACED,
        data,
        trace_id=bytes(range(16)),
        span_id=bytes(range(8)),
        causation_id=CAUSE.bytes,
        request_id="r-1",
        version=7,
        extensions={"tenant": "blue"},
    )
    outcome = Outcome()
    outcome.units.add(stream="shipments", partition=1)
    position = owner.put_aside(
        n,
        state=DeadLetter.DEAD,
        attempts=20,
        error="ValueError: no\n  at line 2",
        failed_unix_nano=FAILED_AT,
        applied=[Place(stream="shipments", partition=3)],
        outcome=outcome,
    )
    for _ in range(12):
        held(owner, "o-1")
    ((entry_id, _),) = owner.entries(n)
    done = run("show", GROUP, position, "--contract", contract)
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout
        == f"""\
group        {GROUP}
position     orders/2:1
state        dead
tries        20
last try     2023-11-14T22:15:00Z
settled      its answer is settled, and on its way into the log
answered in  shipments/3
holds back   {", ".join(f"orders/2:{n}" for n in range(2, 12))} and 2 more
entry        {entry_id.decode()}
key          o-1
type         {PLACED}
fact         01890a5d-0000-7000-8000-000000000001
source       /orders
time         2023-11-14T22:13:20Z
trace        000102030405060708090a0b0c0d0e0f
span         0001020304050607
caused by    {CAUSE}
request      r-1
version      7
  tenant     blue

error
  ValueError: no
    at line 2

data
  {{
    "id": "o-1",
    "customerName": "Größe",
    "at": "2023-11-14T22:13:20Z",
    "cents": "300"
  }}
"""
    )
    document = json.loads(run("show", GROUP, position, "--contract", contract, "--json").stdout)
    assert document["data"] == {
        "id": "o-1",
        "customerName": "Größe",
        "at": "2023-11-14T22:13:20Z",
        "cents": "300",
    }
    assert (document["data_hex"], document["not_decoded"]) == (None, None)
    assert document["holds_back"] == [f"orders/2:{n}" for n in range(2, 14)]
    assert document["meta"]["causation_id"] == str(CAUSE)
    assert document["meta"]["extensions"] == {"tenant": "blue"}
    assert document["error"] == "ValueError: no\n  at line 2"
    behind = run("show", GROUP, "orders/2:5", "--contract", contract).stdout
    assert "\nstate        held\n" in behind
    assert "\nbehind       orders/2:1\n" in behind


def test_the_contract_is_that_of_the_repository_around(
    run: Run, own: Own, repository: Path
) -> None:
    owner = own()
    kind = "acme.shipments.v1.ShipmentCreated"
    position = owner.put_aside(owner.fact("s-1", kind, text(1, "s-1")), state=DeadLetter.DEAD)
    shown = json.loads(run("show", GROUP, position, "--json", at=repository / "src").stdout)
    assert shown["data"] == {"id": "s-1"}


def test_a_position_may_be_pasted_from_a_log_line(run: Run, own: Own, contract: Path) -> None:
    owner = own()
    failing(owner, "o-1")
    entry_id = owner.entries(1)[0][0].decode()
    ms = int(entry_id.split("-")[0])
    for position in (f"orders/2@{EPOCH}:{entry_id}", f"orders/2:{entry_id}", "orders/2:1"):
        assert run("show", GROUP, position).returncode == 0
    for position in (f"orders/2@{EPOCH}:{ms + 1}-1", "orders/2:2", "orders/1:1"):
        done = run("show", GROUP, position)
        where = re.sub(r"@[0-9a-f]+|\d+-", "", position)
        assert (done.returncode, done.stderr) == (
            1,
            f"factfold: {GROUP} has no dead letter at {where}: "
            f"look with `factfold dead-letters list {GROUP}`\n",
        )
    for wrong in ("orders/2", "2:1", "orders/2:0", "orders/2:x", "Orders/2:1", "orders/2:1 "):
        done = run("show", GROUP, wrong)
        assert done.returncode == 2
        assert done.stderr == (
            f"factfold: Invalid value for 'POSITION': {wrong!r} is no position; give "
            "STREAM/PARTITION:N, as `list` prints it; see factfold dead-letters show --help\n"
        )


def test_what_cannot_be_decoded_is_shown_as_bytes_with_the_reason(
    run: Run, own: Own, contract: Path
) -> None:
    owner = own()
    good = text(1, "o-1")
    unknown_any = text(5, text(1, "type.googleapis.com/acme.Gone"))
    undecodable = {
        "these bytes are no acme.orders.v1.OrderPlaced": owner.fact("o-1", PLACED, b"\x0a\xff"),
        f"no contract in {str(contract)!r} has 'acme.Gone'": owner.fact("o-1", "acme.Gone", good),
        "acme.orders.v1.OrderPlaced has no JSON form": owner.fact("o-1", PLACED, unknown_any),
    }
    for reason, n in undecodable.items():
        position = owner.put_aside(n, state=DeadLetter.DEAD)
        raw = owner.entries(n)[0][1][-1]
        lines = run("show", GROUP, position, "--contract", contract).stdout.splitlines()
        (said,) = [line for line in lines if "not decoded" in line]
        assert said.startswith(f"data, {len(raw)} bytes, not decoded: {reason}")
        assert raw[:16].hex(" ") in lines[lines.index(said) + 1]
        document = run("show", GROUP, position, "--contract", contract, "--json").stdout
        assert bytes.fromhex(json.loads(document)["data_hex"]) == raw
    outside = run("show", GROUP, "orders/2:1")
    assert outside.returncode == 0
    assert (
        "not decoded: no contract: run this inside the service's repository, or name it with "
        "--contract\n"
    ) in outside.stdout
    (contract / "protos" / "orders.proto").write_text("nonsense")
    broken = run("show", GROUP, "orders/2:1", "--contract", contract)
    assert broken.returncode == 0
    assert f"not decoded: the contract in {str(contract)!r} does not compile: " in broken.stdout


def test_large_data_are_cut_for_a_person_only(run: Run, own: Own) -> None:
    owner = own()
    raw = bytes(range(256)) * 40
    position = owner.put_aside(owner.fact("o-1", PLACED, raw), state=DeadLetter.DEAD)
    lines = run("show", GROUP, position).stdout.splitlines()
    assert lines[-2].startswith("  00000ff0  f0 f1 ")
    assert lines[-1] == f"  … {len(raw) - 4096} more bytes; --json has them all"
    assert json.loads(run("show", GROUP, position, "--json").stdout)["data_hex"] == raw.hex()


def test_fields_that_the_contract_lacks_are_named(run: Run, own: Own, contract: Path) -> None:
    owner = own()
    newer = text(1, "o-1") + text(9, "new") + text(7, "new")
    position = owner.put_aside(owner.fact("o-1", PLACED, newer), state=DeadLetter.DEAD)
    shown = run("show", GROUP, position, "--contract", contract).stdout
    assert "\ndata, without fields that the contract lacks: 7, 9\n" in shown


def test_entries_that_nobody_should_have_written_are_shown(run: Run, own: Own) -> None:
    owner = own()
    owner.log.xadd(f"{{{owner.place}}}:log", {"a": b"\xff", "meta": b"\x09x"}, id="5-1")
    ((entry_id, fields),) = owner.entries(1)
    letter = DeadLetter(entry_id=entry_id, fields=fields, state=DeadLetter.DEAD, error="bad")
    position = owner.commit(1, entry_id, {}, letter)
    owner.log.hset(f"{{{owner.place}}}:dead:{GROUP}", "7", b"\xff")
    shown = run("show", GROUP, position)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\nfield a      \\xff\n" in shown.stdout
    assert "\nmeta, raw    0978\n" in shown.stdout
    assert "not decoded: the entry has no type or no data: it is not factfold's\n" in shown.stdout
    lines = [line.split("\t")[1:] for line in run("list", "--key", "").stdout.splitlines()]
    assert lines == [
        ["orders/2:1", "", "", "dead", "", "", "bad"],
        ["orders/2:7", "", "", "damaged", "", "", "it does not parse"],
    ]
    assert run("show", GROUP, "orders/2:7").stderr == (
        "factfold: the dead letter at orders/2:7 does not parse: ff\n"
    )


EVIL = "a\x1b[2J\x07\x9b5m\u202eb\tc\r"


def test_nothing_that_others_wrote_reaches_the_terminal_as_it_is(
    run: Run, own: Own, server: redis_server.RedisServer, contract: Path
) -> None:
    owner = own()
    data = text(1, EVIL) + text(2, EVIL)
    evil = {"request_id": EVIL, "extensions": {EVIL: EVIL}, "source": EVIL, "trace_state": EVIL}
    for kind in (PLACED, EVIL):
        n = owner.fact(EVIL, kind, data, **evil)
        owner.put_aside(n, state=DeadLetter.DEAD, attempts=1, error=EVIL)
    owner.runs(lambda letter: EVIL)
    said = [
        run("list").stdout,
        run("list", "--json").stdout,
        *(
            run("show", GROUP, f"orders/2:{n}", "--contract", contract, *more).stdout
            for n in (1, 2)
            for more in ([], ["--json"])
        ),
        run("redrive", GROUP, "--all", "--wait", "2").stdout,
        "".join(plain(screen_of(server, "list", columns=300)[1])),
    ]
    for words in said:
        assert "\\u001b[2J" in words
        bad = {each for each in words if not each.isprintable()} - {"\n"}
        assert bad <= {"\t"}, words
    assert said[0].count("\t") == 14


# redrive


def redriven(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_letters_are_answered_in_the_order_of_their_key(run: Run, own: Own) -> None:
    owner = own()
    failing(owner, "o-1")
    failing(owner, "o-2")
    held(owner, "o-1")
    held(owner, "o-1")
    tried = []

    def handler(letter: DeadLetter) -> str:
        tried.append(letter.entry_id.split(b"-")[1].decode())
        return ""

    owner.runs(handler)
    done = run("redrive", GROUP, "--key", "o-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert redriven(done) == [[f"orders/2:{n}", "answered"] for n in (1, 3, 4)]
    assert tried == ["1", "3", "4"]
    # Those that are held come by themselves.
    assert owner.asked == [b"redrive:1"]
    assert run("list").stdout.count("\n") == 1
    assert redriven(run("redrive", GROUP, "--all")) == [["orders/2:2", "answered"]]
    done = run("redrive", GROUP, "--all")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no dead letters\n")


def test_what_fails_again_is_said_with_what_waits_behind_it(run: Run, own: Own) -> None:
    two, zero = own(), own(partition=0)
    failing(two, "o-1")
    held(two, "o-1")
    failing(two, "o-2")
    failing(zero, "o-3")
    for owner in (two, zero):
        owner.runs(
            lambda letter: {
                b"o-1": "KeyError: still\nbroken",
                b"o-2": "hopeless",
                b"o-3": "",
            }[letter.fields[3]]
        )
    done = run("redrive", GROUP, "--type", "OrderPlaced")
    assert redriven(done) == [
        ["orders/0:1", "answered"],
        ["orders/2:1", "failed again", "the service goes on trying: KeyError: still broken"],
        ["orders/2:2", "waits", "behind orders/2:1"],
        ["orders/2:3", "failed again", "given up: hopeless"],
    ]
    assert (done.returncode, done.stderr) == (
        1,
        "factfold: 3 of 4 dead letters not answered; `list` shows how they stand\n",
    )
    document = run("redrive", GROUP, "orders/2:2", "orders/2:1", "orders/2:2", "--json")
    assert document.returncode == 1
    assert json.loads(document.stdout)["letters"] == [
        {
            "group": GROUP,
            "position": "orders/2:2",
            "key": "o-1",
            "type": PLACED,
            "result": "waits",
            "error": None,
            "given_up": False,
            "behind": "orders/2:1",
        },
        {
            "group": GROUP,
            "position": "orders/2:1",
            "key": "o-1",
            "type": PLACED,
            "result": "failed",
            "error": "KeyError: still\nbroken",
            "given_up": False,
            "behind": None,
        },
    ]


def test_one_that_is_held_alone_waits_for_the_first_of_its_key(run: Run, own: Own) -> None:
    owner = own()
    failing(owner, "o-1")
    held(owner, "o-1")
    began = time.monotonic()
    done = run("redrive", GROUP, "orders/2:2")
    assert redriven(done) == [["orders/2:2", "waits", "behind orders/2:1"]]
    assert done.returncode == 1
    assert time.monotonic() - began < 8
    assert owner.beat() == []


def test_a_request_that_nobody_carries_out_stays_and_says_so(run: Run, own: Own) -> None:
    owner = own()
    failing(owner, "o-1")
    done = run("redrive", GROUP, "orders/2:1", "--wait", "0.5")
    assert redriven(done) == [
        [
            "orders/2:1",
            "queued",
            "no instance of shipments has taken it up yet, after 0.5 s; one that runs will",
        ]
    ]
    assert done.returncode == 1
    done = run("redrive", GROUP, "orders/2:1", "--wait", "0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "orders/2:1\tqueued\n", "")
    assert [request for _, request in owner.beat()] == [b"redrive:1", b"redrive:1"]


def test_an_owner_that_is_busy_is_told_from_none(run: Run, own: Own) -> None:
    owner = own()
    failing(owner, "o-1")
    owner.runs(None)
    assert redriven(run("redrive", GROUP, "orders/2:1", "--wait", "1")) == [
        ["orders/2:1", "queued", "its owner is still busy after 1 s, and will come to it"]
    ]
    # Carried out, and the try goes on.
    ((sequence, _),) = owner.beat()
    letter = owner.letter(1)
    assert letter is not None
    letter.state, letter.attempts = DeadLetter.RETRYING, 0
    owner.change(1, letter, sequence)
    held(owner, "o-1")
    done = run("redrive", GROUP, "orders/2:2", "--wait", "0.3")
    assert redriven(done) == [["orders/2:2", "waits", "behind orders/2:1"]]
    assert not done.stderr.startswith("Traceback")


def test_a_try_that_takes_long_is_said(run: Run, own: Own) -> None:
    owner = own()
    failing(owner, "o-1")

    def slow(letter: DeadLetter) -> str:
        time.sleep(3)
        return ""

    owner.runs(slow)
    done = run("redrive", GROUP, "orders/2:1", "--wait", "1")
    assert redriven(done) == [["orders/2:1", "tried", "still without an answer after 1 s"]]
    assert done.returncode == 1


def test_there_is_one_way_to_choose(run: Run, own: Own) -> None:
    failing(own(), "o-1")
    for command, arguments, wrong in (
        ("redrive", [], "give positions, or --key, --type or --all"),
        ("redrive", ["orders/2:1", "--all"], "give positions or --all, not both"),
        ("redrive", ["orders/2:1", "--key", "o-1"], "give positions or --key, not both"),
        ("redrive", ["orders/2:1", "--type", "x"], "give positions or --type, not both"),
        ("redrive", ["--all", "--key", "o-1"], "give --all or --key, not both"),
        (
            "redrive",
            ["--all", "--key", "", "--type", "x"],
            "give --all or --key and --type, not both",
        ),
        ("discard", [], "give positions, or --key"),
        ("discard", ["orders/2:1", "--key", "o-1"], "give positions or --key, not both"),
    ):
        done = run(command, GROUP, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (
            2,
            "",
            f"factfold: {wrong}; see factfold dead-letters {command} --help\n",
        )


def test_what_is_named_and_not_there_is_a_failure(run: Run, own: Own) -> None:
    owner = own()
    failing(owner, "o-1")
    for arguments, which in (
        (["redrive", GROUP, "orders/2:7"], "at orders/2:7"),
        (["redrive", GROUP, "--key", "nope"], "with the key 'nope'"),
        (["redrive", GROUP, "--key", "\x1b[2J"], "with the key '\\x1b[2J'"),
        (["redrive", GROUP, "--type", "Nope", "--json"], "of the type 'Nope'"),
        (
            ["redrive", GROUP, "--key", "o-1", "--type", "Nope"],
            "with the key 'o-1' of the type 'Nope'",
        ),
        (["discard", GROUP, "--key", "nope", "--yes"], "with the key 'nope'"),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout, done.stderr) == (
            1,
            "",
            f"factfold: {GROUP} has no dead letter {which}: "
            f"look with `factfold dead-letters list {GROUP}`\n",
        )
    assert owner.beat() == []


def test_a_person_is_shown_that_it_waits(own: Own, server: redis_server.RedisServer) -> None:
    owner = own()
    failing(owner, "o-1")
    held(owner, "o-1")

    def slow(letter: DeadLetter) -> str:
        time.sleep(0.5)
        return ""

    owner.runs(slow)
    code, screen = screen_of(server, "redrive", GROUP, "--all")
    assert code == 0
    assert "waiting for 2 dead letters, 1 settled" in screen
    assert "orders/2:1  answered\norders/2:2  answered\n" in screen


def test_a_person_reads_what_failed_again(own: Own, server: redis_server.RedisServer) -> None:
    owner = own()
    failing(owner, "o-1")
    owner.runs(lambda letter: "KeyError: still")
    code, screen = screen_of(server, "redrive", GROUP, "orders/2:1")
    assert code == 1
    assert "orders/2:1  failed again  the service goes on trying: KeyError: still\n" in screen


# discard


def test_none_is_answered_while_its_key_is_discarded(run: Run, own: Own) -> None:
    owner = own()
    failing(owner, "o-1")
    failing(owner, "o-2")
    held(owner, "o-1")
    held(owner, "o-1")
    owner.runs(lambda letter: pytest.fail("tried"))
    done = run("discard", GROUP, "--key", "o-1", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert redriven(done) == [[f"orders/2:{n}", "discarded"] for n in (1, 3, 4)]
    # The first of a key goes last: once it is gone, the next one is tried.
    assert owner.asked == [b"discard:4", b"discard:3", b"discard:1"]
    assert [owner.line("o-1"), owner.line("o-2")] == [[], [2]]


def test_nothing_is_discarded_unasked(run: Run, own: Own) -> None:
    owner = own()
    failing(owner, "o-1")
    held(owner, "o-1")
    done = run("discard", GROUP, "--key", "o-1")
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        "factfold: 2 dead letters would be lost: give --yes if that is meant\n",
    )
    done = run("discard", GROUP, "orders/2:3", "--yes")
    assert done.returncode == 1
    assert owner.beat() == []


def test_a_person_sees_what_will_be_lost_and_decides(
    own: Own, server: redis_server.RedisServer
) -> None:
    owner = own()
    failing(owner, "o-1")
    held(owner, "o-1")
    owner.runs(lambda letter: "")
    code, screen = screen_of(server, "discard", GROUP, "--key", "o-1", types="n\n")
    lines = plain(screen)
    assert code == 1
    assert any(line.startswith(" orders/2:1  o-1  OrderPlaced  dead") for line in lines)
    assert any(line.startswith(" orders/2:2  o-1  OrderPlaced  held") for line in lines)
    assert any(line.startswith("Never answer these 2 facts? [y/N]") for line in lines)
    # The answer was there before the question, so that its own line end is not in between.
    assert any(line.endswith("factfold: nothing was discarded") for line in lines)
    assert owner.line("o-1") == [1, 2]
    code, screen = screen_of(server, "discard", GROUP, "orders/2:2", types="y\n")
    assert code == 0
    assert "Never answer this fact? [y/N]" in screen
    assert owner.line("o-1") == [1]


def test_a_discard_that_nobody_carries_out_fails(run: Run, own: Own) -> None:
    owner = own()
    failing(owner, "o-1")
    done = run("discard", GROUP, "orders/2:1", "--yes", "--wait", "0.3")
    assert done.returncode == 1
    assert redriven(done)[0][1] == "queued"
    assert owner.line("o-1") == [1]


def test_what_is_answered_before_it_is_discarded_is_not_said_to_be_lost(own: Own) -> None:
    owner = own()
    failing(owner, "o-1")
    asked = Asked(owner.log, GROUP, "discard", letters(owner.log, GROUP, [Partition("orders", 2)]))
    assert [fate.result for fate in asked.queue()] == ["queued"]
    owner.change(1, None)
    assert [(fate.result, fate.final) for fate in asked.fates()] == [("answered", True)]


def test_a_letter_that_comes_while_they_are_read_is_not_taken_for_answered(
    own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = own()
    scan = owner.log.hscan_iter

    def late(*args: Any, **more: Any) -> Any:
        failing(owner, "o-1", state=DeadLetter.RETRYING)
        return scan(*args, **more)

    monkeypatch.setattr(owner.log, "hscan_iter", late)
    found = letters(owner.log, GROUP, [Partition("orders", 2)])
    asked = Asked(owner.log, GROUP, "redrive", found)
    asked.queue()
    assert [fate.result for fate in asked.fates()] == ["queued"]


def test_a_log_that_goes_meanwhile_is_not_taken_for_an_answer(own: Own) -> None:
    owner = own()
    failing(owner, "o-1")
    asked = Asked(owner.log, GROUP, "redrive", letters(owner.log, GROUP, [Partition("orders", 2)]))
    asked.queue()
    owner.log.flushall()
    gone = (
        f"{GROUP} is gone from stream orders, and its dead letters with it: "
        "the log was lost or begun anew"
    )
    with pytest.raises(Failed, match=gone):
        asked.fates()
    with pytest.raises(Failed, match=gone):
        asked.queue()


def test_a_shell_completes_subcommands_and_options() -> None:
    def completed(words: str) -> set[str]:
        environment = {
            "_FACTFOLD_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        done = subprocess.run(
            FACTFOLD, env=plain_environment() | environment, capture_output=True, text=True
        )
        return set(done.stdout.split())

    assert completed("factfold dead-letters re") == {"plain,redrive"}
    assert completed("factfold dead-letters list --st") == {"plain,--state"}
    assert completed("factfold dead-letters list --state d") == {"plain,dead"}
    assert completed("factfold stream re") == {"plain,recreate"}
