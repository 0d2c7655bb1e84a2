"""The generated workflow of a Go service, run step by step in a clean clone of its repository."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.go_tools import go, go_tool

from factfold_cli.redis_server import find

from .conftest import ROOT, factfold
from .test_ci import COMPARE, PACKAGE, VERSION, WORKFLOW, check_it_guards_the_contract, git
from .workflow import Runner, load, replay, runner

TEMPLATE = ROOT / "template/go/{{cookiecutter.service_slug}}"
CI = load(TEMPLATE / WORKFLOW)
FETCHED = "it compiles linters and buf, minutes where nothing is cached"


@pytest.fixture(scope="module", autouse=True)
def _go() -> None:
    go()


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    factfold(tmp_path, "new", "orders", "--language", "go", "--no-input")
    root = tmp_path / "orders"
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "x"]):
        git(root, *arguments)
    return root


def machine(job: str, origin: Path, folder: Path) -> Runner:
    made = runner(CI, job, origin, folder)
    # Where nothing is cached, linters and buf are fetched and compiled.
    made.seconds = 1200
    return made


def steps(job: str, *names: str) -> list[dict[str, Any]]:
    """All of the job's, or those of these names."""
    every: list[dict[str, Any]] = CI["jobs"][job]["steps"]
    return [step for step in every if not names or step.get("name") in names]


@pytest.mark.parametrize("job", [job for job in CI["jobs"] if job != "contract"])
def test_each_step_passes(
    job: str, orders: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Without --long all but what lint says."""
    if job == "check" and not (shutil.which("gcc") or shutil.which("clang")):
        pytest.skip("the race detector needs a compiler of C")
    # Tests install nothing on the machine: what the step would is there already.
    (programs := tmp_path / "machine/programs").mkdir(parents=True)
    (programs / "redis-server").symlink_to(find())
    its = machine(job, orders, programs.parent)
    linted = request.config.getoption("--long")
    chosen = [step for step in steps(job) if linted or step.get("name") != "Lint"]
    printed = dict(replay(its, chosen))
    assert git(its.clone, "status", "--porcelain") == ""
    if job == "check":
        assert not linted or printed["Lint"].endswith("0 issues.\n")
        tested = re.findall(r"^ok +\tservice/internal/(\w+)", printed["Tests"], re.M)
        assert {"app", "folds", "handlers", "reactions", "views"} <= set(tested)


@pytest.mark.long(FETCHED)
def test_what_is_added_passes_lint(orders: Path, tmp_path: Path) -> None:
    """But for what the team has to write, which uses what it is given."""
    factfold(tmp_path, "new", "payments", "--no-input")
    for words in (
        ("view", "names", "--from", "OrderCreated", "--from", "OrderRenamed"),
        ("view", "cash", "--row", "Money"),
        ("subscription", "../payments"),
    ):
        factfold(orders, "add", *words)
    git(orders, "add", "-A")
    git(orders, "commit", "-qm", "added")
    (folder := tmp_path / "machine").mkdir()
    its = machine("check", orders, folder)
    before = [step for step in steps("check") if "uses" in step]
    list(replay(its, [*before, *steps("check", "Make the stubs", "Vet", "Lint")]))


@pytest.mark.long(FETCHED)
def test_the_contract_is_guarded(orders: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "machine").mkdir()
    its = machine("contract", orders, folder)
    check_it_guards_the_contract(its, steps("contract"), steps("contract", COMPARE))


def test_it_may_read_and_nothing_else() -> None:
    assert CI["permissions"] == {"contents": "read"}
    for job in CI["jobs"].values():
        assert "permissions" not in job
        assert 0 < job["timeout-minutes"] <= 20
    text = (TEMPLATE / WORKFLOW).read_text()
    assert "secrets." not in text
    for pin, comment in re.findall(r"uses: (\S+)(.*)", text):
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", pin)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)


def test_actionlint_passes() -> None:
    program = go_tool("actionlint", PACKAGE, VERSION)
    done = subprocess.run(
        [program, "-no-color", TEMPLATE / WORKFLOW], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
