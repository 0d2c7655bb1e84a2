"""The generated workflow, run step by step in a clean clone of a generated repository."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.go_tools import go_tool

from factfold_cli.redis_server import find

from .conftest import ROOT, SERVICE, Generated
from .workflow import ReplayError, Runner, load, replay, runner

WORKFLOW = ".github/workflows/ci.yml"
CI = load(SERVICE / WORKFLOW)
CONTRACT = "protos/acme/orders/v1/contract.proto"
PACKAGE, VERSION = "github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12"


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=x", "-c", "user.email=x@localhost", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *who, "-C", root, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture
def orders(generate: Callable[..., Generated]) -> Path:
    root = generate("orders").root
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "x"]):
        git(root, *arguments)
    return root


def steps(job: str, *names: str) -> list[dict[str, Any]]:
    """All of the job's, or those of these names."""
    every: list[dict[str, Any]] = CI["jobs"][job]["steps"]
    return [step for step in every if not names or step.get("name") in names]


@pytest.mark.parametrize("job", [job for job in CI["jobs"] if job != "contract"])
def test_each_step_passes(job: str, orders: Path, tmp_path: Path) -> None:
    # Tests install nothing on the machine: what the step would is there already.
    (programs := tmp_path / "machine/programs").mkdir(parents=True)
    (programs / "redis-server").symlink_to(find())
    machine = runner(CI, job, orders, programs.parent)
    printed = dict(replay(machine, steps(job)))
    assert git(machine.clone, "status", "--porcelain") == ""
    if job == "check":
        assert re.search(r"\d\d passed", printed["Tests"])


COMPARE = "Compare the contract with the last tag's"
REGENERATE = "Regenerate the chassis' stubs and compare"


def check_it_guards_the_contract(
    machine: Runner, job: list[dict[str, Any]], compare: list[dict[str, Any]]
) -> None:
    """`job` are the steps of the whole job, `compare` is the one that compares."""
    printed = dict(replay(machine, job))
    assert printed[COMPARE] == "There is no tag yet: nothing to compare with.\n"
    assert git(machine.clone, "status", "--porcelain") == ""

    git(machine.clone, "tag", "v1.0.0")
    contract = machine.clone / CONTRACT
    contract.write_text(contract.read_text().replace("string name = 2;", "bool name = 2;"))
    git(machine.clone, "commit", "-qam", "x")
    with pytest.raises(ReplayError) as refused:
        list(replay(machine, compare))
    assert 'Field "2" with name "name" on message "OrderCreated" changed type' in str(refused.value)

    # Compared with the last tag alone, and a new field breaks nobody.
    git(machine.clone, "tag", "v2.0.0")
    contract.write_text(
        contract.read_text().replace("bool name = 2;", "bool name = 2;\n  string note = 9;")
    )
    git(machine.clone, "commit", "-qam", "x")
    list(replay(machine, compare))


def test_the_contract_is_guarded(orders: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "machine").mkdir()
    machine = runner(CI, "contract", orders, folder)
    check_it_guards_the_contract(machine, steps("contract"), steps("contract", COMPARE))

    stub = machine.clone / "chassis/src/factfold/v1/fact_pb2.pyi"
    stub.write_text(stub.read_text() + "# by hand\n")
    git(machine.clone, "commit", "-qam", "x")
    with pytest.raises(ReplayError, match="-# by hand") as refused:
        list(replay(machine, steps("contract", REGENERATE)))
    assert "run 'tox -e stubs' and commit" in str(refused.value)


@pytest.mark.parametrize(("user", "by"), [("0", ""), ("1000", "sudo ")])
def test_redis_is_installed_where_there_is_none(
    user: str, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (programs := tmp_path / "programs").mkdir()
    (tmp_path / "clone").mkdir()
    (programs / "bash").symlink_to(shutil.which("bash") or "bash")
    for name, text in (
        ("id", f"echo {user}"),
        ("sudo", 'echo -n "sudo "; "$@"'),
        ("apt-get", 'echo "apt-get $*"'),
    ):
        (programs / name).write_text(f"#!{programs / 'bash'}\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", "")
    machine = Runner(tmp_path, tmp_path, CI["defaults"])
    (step,) = steps("check", "Install Redis")
    assert machine.step(step).splitlines() == [
        f"{by}apt-get -qy update",
        f"{by}apt-get -qy install --no-install-recommends redis-server",
    ]


def test_a_contract_of_others_is_not_guarded(
    generate: Callable[..., Generated], tmp_path: Path
) -> None:
    """It changes as they change it, and goes with its subscription."""
    generate("orders")
    shipments = generate("shipments", "--subscribe", "orders").root
    text = (shipments / "tox.ini").read_text()
    (command,) = re.findall(r"^commands = (buf breaking .*)$", text, re.M)
    assert "--path protos/acme/shipments/v1 " in command


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"uses": f"someone/else@{'0' * 40}"}, "not known here: someone/else"),
        ({"uses": "actions/checkout@v7"}, "not pinned by a commit: actions/checkout@v7"),
        ({"run": "true", "continue-on-error": True}, "not known of a step"),
        ({"run": "echo ${{ secrets.TOKEN }}"}, "not known here: ${{ secrets.TOKEN }}"),
        ({"run": "echo said; false\necho gone on"}, "said\n"),
        ({"run": "false | true"}, "false | true"),
    ],
)
def test_the_replay_passes_nothing_over(step: dict[str, Any], reason: str, tmp_path: Path) -> None:
    (tmp_path / "clone").mkdir()
    machine = Runner(tmp_path, tmp_path, CI["defaults"])
    with pytest.raises(ReplayError) as failed:
        machine.step(step)
    assert reason in str(failed.value)
    assert "\ngone on" not in str(failed.value)


def test_it_may_read_and_nothing_else() -> None:
    assert CI["permissions"] == {"contents": "read"}
    assert CI["concurrency"]["group"] == "${{ github.workflow }}-${{ github.ref }}"
    text = (SERVICE / WORKFLOW).read_text()
    assert "secrets." not in text
    for job in CI["jobs"].values():
        assert "permissions" not in job
        assert 0 < job["timeout-minutes"] <= 20
    pins = re.findall(r"uses: (\S+)(.*)", text)
    assert pins
    for pin, comment in pins:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", pin)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)
    assert len(set(pins)) == len({pin.partition("@")[0] for pin, _ in pins})


def test_each_python_that_the_service_supports_is_tried() -> None:
    versions = CI["jobs"]["check"]["strategy"]["matrix"]["python"]
    lowest = re.search(r'requires-python = ">=(.+)"', (SERVICE / "pyproject.toml").read_text())
    assert lowest
    assert versions[0] == lowest[1]
    image = re.search(r"^FROM python:(\d\.\d+)", (SERVICE / "Dockerfile").read_text())
    assert image
    assert image[1] in versions


def test_the_chassis_stubs_are_made_of_all_its_protos() -> None:
    text = (SERVICE / "tox.ini").read_text()
    protos = SERVICE / "chassis/protos"
    all_of_them = sorted(path.relative_to(protos).as_posix() for path in protos.rglob("*.proto"))
    assert re.findall(r"factfold/v1/\w+\.proto", text) == all_of_them
    (pin,) = re.findall(r'stubs = \["(.+?)"\]', (SERVICE / "chassis/pyproject.toml").read_text())
    # What scripts/copy_common.py made them with.
    assert f"{pin} \\" in (ROOT / "requirements/dev.txt").read_text()


@pytest.fixture(scope="session")
def actionlint() -> str:
    return go_tool("actionlint", PACKAGE, VERSION)


def test_actionlint_passes(actionlint: str) -> None:
    done = subprocess.run(
        [actionlint, "-no-color", SERVICE / WORKFLOW], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
