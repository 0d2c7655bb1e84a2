"""Generated services in Go: made, checked, tested and run as their README says."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.go_tools import go

from .conftest import ROOT, factfold
from .in_go import environment, made, run, tried

TEMPLATE = ROOT / "template/go/{{cookiecutter.service_slug}}"
NAMES = {
    "orders": [],
    # Names of files that Go would build for one system alone, and of messages that it writes anew.
    "Order-Items": ["--aggregate", "Window", "--organisation", "com.example"],
    "time": ["--aggregate", "HTTPCode2"],
}


@pytest.fixture(scope="module", autouse=True)
def _go() -> None:
    go()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_rendered_is_formatted_and_compiles(tmp_path: Path, name: str) -> None:
    root = made(tmp_path, name, *NAMES[name])
    assert run(root, "gofmt", "-l", "cmd", "internal", "tools") == ""
    run(root, "go", "vet", "./...")


def test_its_own_tests_pass_and_none_is_skipped(tmp_path: Path) -> None:
    root = made(tmp_path, "orders")
    factfold(root, "contract", "release")  # else there are no golden facts
    said = run(root, "go", "test", "-v", "./...")
    assert said.count("--- PASS") > 20
    assert "--- SKIP" not in said


def test_the_tests_of_the_chassis_pass() -> None:
    # The race detector is C.
    race = ["-race"] if shutil.which("gcc") or shutil.which("clang") else []
    run(TEMPLATE / "chassis", "go", "vet", "./...")
    said = run(TEMPLATE / "chassis", "go", "test", *race, "-v", "./...")
    assert said.count("--- PASS") > 200
    assert "--- SKIP" not in said


def test_a_contract_that_does_not_compile_leaves_the_stubs(tmp_path: Path) -> None:
    root = made(tmp_path, "orders")
    stubs = {path: path.read_bytes() for path in (root / "gen").rglob("*.go")}
    contract = root / "protos/acme/orders/v1/contract.proto"
    contract.write_text(contract.read_text().replace("string name = 2", "strange name = 2"))
    done = tried(root, "go", "generate", "./...")
    assert done.returncode != 0
    assert "protos/ does not compile, gen/ is unchanged:\n" in done.stderr
    assert re.search(r"contract\.proto:\d+:\d+: .*strange", done.stderr)
    assert {path: path.read_bytes() for path in (root / "gen").rglob("*.go")} == stubs
    assert not list(root.glob(".gen-*"))


def test_a_fact_that_can_no_longer_be_read_fails_a_test(tmp_path: Path) -> None:
    root = made(tmp_path, "orders")
    factfold(root, "contract", "release")
    contract = root / "protos/acme/orders/v1/contract.proto"
    contract.write_text(contract.read_text().replace("string name = 2", "string name = 7"))
    run(root, "go", "generate", "./...")
    done = tried(root, "go", "test", "./internal/app")
    assert done.returncode == 1
    assert 'acme.orders.v1.OrderCreated.name was "name", is read as null' in done.stdout


def test_the_first_line_of_the_readme_runs_it_with_a_redis_of_its_own(tmp_path: Path) -> None:
    root = made(tmp_path, "orders")
    (first, *_) = re.findall(r"^```sh\n(.*?)\n```$", (root / "README.md").read_text(), re.M | re.S)
    with subprocess.Popen(
        ["sh", "-c", f"exec 2>&1; {first}"],
        cwd=root,
        env=environment() | {"FACTFOLD_LISTEN": "127.0.0.1:0"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        try:
            assert running.stdout is not None
            lines = []
            for line in running.stdout:
                lines.append(line)
                if '"serving"' in line:
                    break
            assert lines, "it said nothing"
            assert '"serving"' in lines[-1], "".join(lines)
        finally:
            os.killpg(running.pid, signal.SIGINT)  # as Ctrl-C does
        rest = running.stdout.read()
    assert '"ended"' in rest
    assert (root / ".redis/appendonly.aof").exists() or (root / ".redis/appendonlydir").exists()
    until = time.monotonic() + 10
    while server_of(root):
        assert time.monotonic() < until, "the Redis still runs"
        time.sleep(0.05)


def server_of(root: Path) -> list[str]:
    """The processes that work on the log of `root`."""
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    return [line for line in found.splitlines() if str(root / ".redis") in line]


def test_its_image_is_built_as_hadolint_likes_it() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, TEMPLATE / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_python_has_too_is_the_same() -> None:
    """A contract, and what is about Kubernetes, do not depend on the language."""
    python = ROOT / "template/python/{{cookiecutter.service_slug}}"
    for path in (
        "protos/{{cookiecutter.__package_path}}/contract.proto",
        "docs/api.md",
        "docs/asyncapi.json",
        "compose.yaml",
        "deploy/kustomization.yaml",
        "deploy/pod-disruption-budget.yaml",
        "deploy/service.yaml",
    ):
        assert (TEMPLATE / path).read_bytes() == (python / path).read_bytes(), path
