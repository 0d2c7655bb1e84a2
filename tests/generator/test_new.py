"""`factfold new`, as a user meets it: what it says, makes, and leaves alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from factfold_cli import new
from factfold_cli.errors import Failed

from .conftest import User, tree

USE_NAME = "use letters, digits, spaces, - and _, a letter first, 60 characters at most"


def test_it_says_what_it_made_and_what_comes_next(user: User) -> None:
    made = user.factfold("new", "stock keeper", "--language", "python", "--no-input")
    assert (made.returncode, made.stderr) == (0, "")
    files = len(
        json.loads((user.here / "stock-keeper/.factfold/manifest.json").read_text())["files"]
    )
    first, _, following, *commands = made.stdout.splitlines()
    assert first == (f"Made stock-keeper, a Python service about StockKeeper facts: {files} files.")
    assert following == "Next:"
    enter, test, run = commands
    assert (enter, run) == ("  cd stock-keeper", "  factfold up")
    assert test.strip() in (user.here / "stock-keeper/README.md").read_text().splitlines()


def test_json_says_the_same(user: User) -> None:
    arguments = ("new", "orders", "--no-input", "--json", "--output", "made here")
    report = json.loads(user.factfold(*arguments).stdout)
    manifest = json.loads((user.here / "made here/orders/.factfold/manifest.json").read_text())
    assert report.pop("next")[0] == "cd 'made here/orders'"
    assert report == {
        "answers": manifest["answers"],
        "dry_run": False,
        "files": manifest["files"],
        "folder": "made here/orders",
        "language": "python",
        "subscriptions": [],
    }


def test_every_flag_is_an_answer(user: User) -> None:
    description = 'Ships "things", 100 % <fast> & \\n {{ 7*7 }} {% raw %} {# x #} Größe 🚚'
    made = user.factfold(
        *("new", "Shipments", "--aggregate", "Parcel", "--organisation", "com.example"),
        *("--description", description, "--language", "python"),
    )
    assert (made.returncode, made.stderr) == (0, "")
    manifest = json.loads((user.here / "shipments/.factfold/manifest.json").read_text("utf-8"))
    assert manifest["answers"] == {
        "service_name": "Shipments",
        "service_slug": "shipments",
        "organisation": "com.example",
        "aggregate": "Parcel",
        "description": description,
    }
    assert description in (user.here / "shipments/README.md").read_text("utf-8")
    assert (user.here / "shipments/protos/com/example/shipments/v1/contract.proto").is_file()


def test_questions_are_asked_until_the_answer_is_valid(user: User) -> None:
    (user.here / "taken").mkdir()
    answers = ["cobol", "go"]
    answers += ["../x", "taken", "orders", "A", "acme", "order", "Order", "Keeps orders."]
    made = user.factfold("new", answers="\n".join(answers) + "\n")
    assert made.returncode == 0
    assert made.stderr.startswith("Language (python, go) [python]: ")
    assert made.stderr.count("Error: ") == 5
    for line in (
        "'cobol' is not one of 'python', 'go'.",
        f"the service name '../x' does not start with a letter; {USE_NAME}",
        "'taken' exists and stays as it is; choose another name or another --output",
        "the organisation 'A' is no root of a proto package;",
        "the aggregate 'order' is no name of a message;",
    ):
        assert f"Error: {line}" in made.stderr
    manifest = json.loads((user.here / "orders/.factfold/manifest.json").read_text())
    assert manifest["answers"]["description"] == "Keeps orders."
    assert manifest["language"] == "go"


@pytest.mark.parametrize(("answers", "question"), [("", "language"), ("\n", "aggregate")])
def test_an_input_that_ends_is_named(user: User, answers: str, question: str) -> None:
    made = user.factfold("new", "orders", "--organisation", "acme", answers=answers)
    assert made.returncode == 2
    assert made.stderr.splitlines()[-1] == (
        f"factfold: the input ends before the {question}; or use --no-input"
    )
    assert tree(user.here) == {}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([""], f"the service name '' is empty; {USE_NAME}"),
        (["../x"], f"the service name '../x' does not start with a letter; {USE_NAME}"),
        (
            ["{{7*7}}"],
            "the service name '{{7*7}}' does not start with a letter; " + USE_NAME,
        ),
        (["$(id)"], f"the service name '$(id)' does not start with a letter; {USE_NAME}"),
        (
            ["a\nb"],
            "the service name 'a\\nb' has other characters than letters, digits, spaces, - and _; "
            + USE_NAME,
        ),
        (
            ["a" * 300],
            f"the service name {'a' * 60 + '…'!r} has 300 characters, 240 too many; {USE_NAME}",
        ),
        ([], "the service has no name; give one, as in: factfold new orders"),
        (
            ["orders", "--organisation", "../acme"],
            "the organisation '../acme' is no root of a proto package; use lower-case words of a-z,"
            " 0-9 and _ with dots between, such as com.example, 60 characters at most",
        ),
        (
            ["orders", "--aggregate", "../Order"],
            "the aggregate '../Order' is no name of a message; use letters and digits, a capital"
            " first, such as OrderItem, 40 characters at most",
        ),
        (
            ["orders", "--language", "cobol"],
            "Invalid value for '--language': 'cobol' is not one of 'python', 'go'; see factfold new"
            " --help",
        ),
        (
            ["orders", "--subscribe", "."],
            "'.' is no generated repository: it has no .factfold/manifest.json",
        ),
    ],
)
def test_a_refusal_is_one_line_and_writes_nothing(
    user: User, arguments: list[str], line: str
) -> None:
    refused = user.factfold("new", *arguments, "--no-input")
    assert refused.stderr == f"factfold: {line}\n"
    assert (refused.returncode, refused.stdout) == (2, "")
    assert tree(user.here) == {}


def test_a_folder_with_tags_is_not_evaluated(user: User) -> None:
    refused = user.factfold("new", "orders", "--no-input", "--output", "{{ 7*7 }}")
    assert refused.returncode == 2
    assert refused.stderr == (
        f"factfold: cookiecutter would evaluate the tags in '{user.here}/{{{{ 7*7 }}}}';"
        " choose another --output\n"
    )
    assert tree(user.here) == {}


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file", "dead link"])
def test_what_exists_is_never_touched(user: User, kind: str) -> None:
    target = user.here / "orders"
    match kind:
        case "file":
            target.write_text("mine")
        case "dead link":
            target.symlink_to("nowhere")
        case _:
            target.mkdir(mode=0o700)
            if kind == "folder":
                (target / "file").write_text("mine")
    before = os.lstat(target), sorted(user.here.rglob("*"))
    refused = user.factfold("new", "orders", "--no-input")
    assert refused.returncode == 2
    assert refused.stderr == (
        "factfold: 'orders' exists and stays as it is; choose another name or another --output\n"
    )
    assert (os.lstat(target), sorted(user.here.rglob("*"))) == before


def test_a_dry_run_shows_what_a_real_run_makes(user: User) -> None:
    arguments = ("new", "orders", "--no-input")
    shown = user.factfold(*arguments, "--dry-run")
    told = json.loads(user.factfold(*arguments, "--dry-run", "--json").stdout)
    assert tree(user.here) == {}
    made = json.loads(user.factfold(*arguments, "--json").stdout)
    assert told.pop("dry_run") is True
    assert made.pop("dry_run") is False
    assert told == made
    rows: list[str] = []
    parents: list[str] = []
    for line in shown.stdout.splitlines():
        name = line.strip()
        del parents[(len(line) - len(name)) // 2 :]
        parents.append(name.rstrip("/"))
        rows.append("/".join(parents))
    assert sorted(rows[1:]) == sorted(f"orders/{path}" for path in tree(user.here / "orders"))


def test_nothing_of_the_users_is_read_or_written(user: User) -> None:
    configuration = "default_context: {organisation: mallory, aggregate: Mallory}\n"
    (user.home / ".cookiecutterrc").write_text(configuration)
    before = tree(user.home)
    assert user.factfold("new", "orders", "--no-input").returncode == 0
    assert (user.here / "orders/protos/acme/orders/v1").is_dir()
    assert tree(user.home) == before
    assert tree(user.temporary) == {}
    assert [path.name for path in user.here.iterdir()] == ["orders"]


def test_a_hook_that_fails_leaves_nothing(user: User, clone: Path) -> None:
    hook = clone / "template/python/hooks/post_gen_project.py"
    hook.write_text(hook.read_text() + "\n    raise SystemExit('no luck')\n")
    failed = user.factfold("new", "orders", "--no-input", "--output", "a/b", clone=clone)
    assert failed.returncode == 1
    assert failed.stderr.splitlines() == [
        "no luck",
        "factfold: the template python does not render, nothing was made: "
        "Hook script failed (exit status: 1)",
    ]
    assert tree(user.here) == {}
    assert tree(user.temporary) == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_leaves_nothing(user: User, clone: Path, number: signal.Signals) -> None:
    hook = clone / "template/python/hooks/post_gen_project.py"
    hook.write_text(hook.read_text() + "\n    import time\n\n    time.sleep(60)\n")
    running = subprocess.Popen(
        [sys.executable, "-m", "factfold_cli", "new", "orders", "--no-input", "--output", "a/b"],
        cwd=user.here,
        env=user.environment(clone / "generator"),
        stderr=subprocess.PIPE,
        text=True,
        # As on a terminal: Ctrl-C goes to the whole group, the hook included.
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not list(user.here.glob("a/b/.factfold-*/made/orders/.factfold/manifest.json")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(running.pid, number)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 1
    assert said.splitlines()[-1] == "factfold: interrupted"
    assert tree(user.here) == {}
    assert tree(user.temporary) == {}


def test_a_folder_that_cannot_be_written_is_named(user: User) -> None:
    (user.here / "file").write_text("")
    failed = user.factfold("new", "orders", "--no-input", "--output", "file/below")
    assert failed.returncode == 1
    assert failed.stderr == "factfold: file/below: Not a directory\n"


@pytest.mark.parametrize(
    "page", [None, "# Orders\n\n```sh\n./run\n```\n"], ids=["none", "one block"]
)
def test_a_template_that_does_not_say_what_comes_next_is_named(
    tmp_path: Path, page: str | None
) -> None:
    (tmp_path / ".factfold").mkdir()
    (tmp_path / ".factfold/manifest.json").write_text('{"language": "go"}')
    if page is not None:
        (tmp_path / "README.md").write_text(page)
    with pytest.raises(Failed, match=r"^the template of Go has no README\.md with two sh blocks"):
        new._tests(tmp_path)
