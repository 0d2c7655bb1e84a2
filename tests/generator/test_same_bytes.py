"""Plain cookiecutter and `factfold new` give the same repository, whatever lies in the template."""

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from factfold_cli.templates import languages

from .conftest import ROOT, User, tree

NAMES = {
    "Stock Keeper": "stock-keeper",
    "a": "a",
    "a" * 60: "a" * 60,
    "Größe": "grosse",
    "class": "class",
    "test": "test",
    "chassis": "chassis",
}


@pytest.mark.parametrize("language", languages())
@pytest.mark.parametrize("name", NAMES)
def test_both_ways_give_the_same_bytes_and_modes(user: User, name: str, language: str) -> None:
    (user.here / "one").mkdir()
    (user.here / "two").mkdir()
    plain = user.cookiecutter(f"service_name={name}", at=user.here / "one", language=language)
    assert (plain.returncode, plain.stderr) == (0, "")
    ours = user.factfold("new", name, "--language", language, "--no-input", at=user.here / "two")
    assert (ours.returncode, ours.stderr) == (0, "")
    made = tree(user.here / "one" / NAMES[name])
    assert made == tree(user.here / "two" / NAMES[name])
    assert ".factfold/manifest.json" in made


@pytest.mark.parametrize("language", languages())
def test_plain_cookiecutter_says_what_comes_next_as_the_readme_does(
    user: User, language: str
) -> None:
    made = user.cookiecutter("service_name=orders", language=language)
    assert (made.returncode, made.stderr) == (0, "")
    first, *following = made.stdout.splitlines()
    assert first == "Made orders. Next:"
    assert following[0] == "  cd orders"
    readme = (user.here / "orders/README.md").read_text("utf-8")
    run, test = (block.split("\n")[1] for block in readme.split("```sh")[1:3])
    assert following[1:] == [f"  {test}", f"  {run}"]


def test_every_answer_gives_the_same_bytes(user: User) -> None:
    answers = {
        "organisation": "com.example",
        "aggregate": "Parcel",
        "description": "Ships \"things\" & 'more', 100 % <fast> \\n Größe 🚚",
    }
    (user.here / "one").mkdir()
    extra = [f"{key}={value}" for key, value in answers.items()]
    assert user.cookiecutter("service_name=b", *extra, at=user.here / "one").returncode == 0
    flags = [word for key, value in answers.items() for word in (f"--{key}", value)]
    assert user.factfold("new", "b", "--language", "python", *flags).returncode == 0
    assert tree(user.here / "one/b") == tree(user.here / "b")


@pytest.mark.parametrize("way", ["cookiecutter", "factfold"])
def test_caches_of_checks_never_enter(user: User, clone: Path, way: str) -> None:
    template = clone / "template/python/{{cookiecutter.service_slug}}"
    compiled = b"\xa7\r\r\n\x00\x00\x00\x00{{ nonsense"
    left = [
        "__pycache__/hatch_build.cpython-311.pyc",
        "src/service/__pycache__/{{cookiecutter.__plural_snake}}.cpython-311.pyc",
        "src/service/views/old.pyc",
        "chassis/src/factfold_chassis/__pycache__/ids.cpython-311.pyc",
        "chassis/src/factfold_chassis.egg-info/PKG-INFO",
        "chassis/src/gone/__pycache__/gone.cpython-311.pyc",
        "chassis/.pytest_cache/README.md",
        "chassis/.mypy_cache/3.11/x.json",
        "chassis/.venv/bin/python",
        "chassis/dist/factfold_chassis.whl",
        ".ruff_cache/0/1",
        ".tox/tests/x",
        ".venv/pyvenv.cfg",
        ".gen-abc/x_pb2.py",
        ".redis/dump.rdb",
        ".coverage",
        "gen/acme/x_pb2.py",
        "build/x",
        "empty/below/",
    ]
    _make(user, clone, way, user.here / "clean")
    for path in left:
        (template / path).parent.mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            (template / path).write_bytes(compiled)
    _make(user, clone, way, user.here / "used")
    assert tree(user.here / "used") == tree(user.here / "clean")


@pytest.mark.parametrize("way", ["cookiecutter", "factfold"])
def test_the_modes_of_the_template_do_not_enter(user: User, clone: Path, way: str) -> None:
    _make(user, clone, way, user.here / "usual")
    for path in [*(clone / "template").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o400 | path.stat().st_mode & 0o100)
    _make(user, clone, way, user.here / "read-only")
    assert tree(user.here / "read-only") == tree(user.here / "usual")


def test_the_manifest_names_every_file_its_zone_and_hash(user: User) -> None:
    assert user.factfold("new", "Stock Keeper", "--no-input").returncode == 0
    root = user.here / "stock-keeper"
    text = (root / ".factfold/manifest.json").read_text("utf-8")
    manifest = json.loads(text)
    assert text == json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert manifest["answers"] == {
        "service_name": "Stock Keeper",
        "service_slug": "stock-keeper",
        "organisation": "acme",
        "aggregate": "StockKeeper",
        "description": "Keeps stock keepers as facts and answers questions about them.",
    }
    assert str(user.here.parent) not in text
    files = manifest["files"]
    on_disk = {path for path, (_, content) in tree(root).items() if (root / path).is_file()}
    assert set(files) == {path for path in on_disk if not path.startswith(".factfold/")}
    for path, entry in files.items():
        assert entry["sha256"] == sha256((root / path).read_bytes()).hexdigest()
    base = root / ".factfold/base"
    shared = {path for path, entry in files.items() if entry["zone"] == "shared"}
    assert {
        path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()
    } == shared
    assert all((base / path).read_bytes() == (root / path).read_bytes() for path in shared)


ZONES = {
    "chassis/src/factfold_chassis/ids.py": "tool",
    "docs/settings.md": "tool",
    "hatch_build.py": "tool",
    "src/service/__main__.py": "tool",
    "src/service/app.py": "tool",
    "src/service/contract.py": "tool",
    "src/service/subscriptions/__init__.py": "tool",
    ".dockerignore": "shared",
    ".github/workflows/ci.yml": "shared",
    ".gitignore": "shared",
    ".pre-commit-config.yaml": "shared",
    "Dockerfile": "shared",
    "buf.yaml": "shared",
    "compose.yaml": "shared",
    "deploy/deployment.yaml": "shared",
    "pyproject.toml": "shared",
    "renovate.json": "shared",
    "requirements/run.txt": "shared",
    "tox.ini": "shared",
    "README.md": "team",
    "protos/acme/orders/v1/contract.proto": "team",
    "src/service/folds/order_created.py": "team",
    "src/service/handlers/create_order.py": "team",
    "src/service/interceptors.py": "team",
    "src/service/reactions/announce_order.py": "team",
    "src/service/views/orders.py": "team",
    "tests/conftest.py": "team",
}


def test_zones_are_as_the_design_says(user: User) -> None:
    assert user.factfold("new", "orders", "--no-input").returncode == 0
    files = json.loads((user.here / "orders/.factfold/manifest.json").read_text())["files"]
    assert {path: files[path]["zone"] for path in ZONES} == ZONES
    unknown = {path.split("/")[0] for path in files} - {path.split("/")[0] for path in ZONES}
    assert unknown == set()


HOSTILE = {
    "a" * 300: f"the service name {'a' * 60 + '…'!r} has 300 characters, 240 too many; ",
    "../x": "the service name '../x' does not start with a letter; ",
    "$(touch evil)": "the service name '$(touch evil)' does not start with a letter; ",
    "a\nb": "the service name 'a\\nb' has other characters than letters, digits, spaces, - and _; ",
    "": "the service name '' is empty; ",
    "{{7*7}}": "the service name '49' does not start with a letter; ",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_hook_refuses_what_factfold_refuses(user: User, name: str) -> None:
    refused = user.cookiecutter(f"service_name={name}")
    assert refused.returncode == 1
    assert refused.stderr == (
        f"factfold: {HOSTILE[name]}use letters, digits, spaces, - and _, a letter first,"
        " 60 characters at most\n"
    )
    assert tree(user.here) == {}


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (
            "service_slug=../escaped",
            "the folder name '../escaped' is no slug; use a-z, 0-9 and single -, a letter first,"
            " 60 characters at most",
        ),
        (
            "organisation=../acme",
            "the organisation '../acme' is no root of a proto package; use lower-case words of a-z,"
            " 0-9 and _ with dots between, such as com.example, 60 characters at most",
        ),
        (
            "aggregate=Class",
            "the aggregate 'Class' is a reserved word; use letters and digits, a capital first,"
            " such as OrderItem, 40 characters at most",
        ),
        (
            "description=a\nb",
            "the description 'a\\nb' has line breaks or control characters; use one line of text,"
            " 200 characters at most",
        ),
    ],
)
def test_the_hook_checks_every_answer(user: User, answer: str, line: str) -> None:
    (user.here / "below").mkdir()
    refused = user.cookiecutter("service_name=orders", answer, at=user.here / "below")
    assert refused.returncode == 1
    assert refused.stderr == f"factfold: {line}\n"
    assert list(tree(user.here)) == ["below"]


@pytest.mark.parametrize(
    ("arguments", "answers", "language"),
    [
        (["--no-input"], "", "python"),
        ([], "\n" * 6, "python"),
        ([], "1\n" + "\n" * 5, "python"),
        ([], "2\n" + "\n" * 5, "go"),
    ],
)
def test_plain_cookiecutter_offers_the_languages(
    user: User, arguments: list[str], answers: str, language: str
) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "cookiecutter", ROOT, *arguments],
        cwd=user.here,
        env=user.environment(),
        input=answers,
        capture_output=True,
        text=True,
    )
    assert (made.returncode, made.stderr) == (0, "")
    if not arguments:
        assert "  1 - Python (a gRPC service on grpc.aio)" in made.stdout
        assert "  2 - Go (a gRPC service on grpc-go)" in made.stdout
    ours = user.factfold("new", "orders", "--language", language, "--no-input", "--output", "ours")
    assert ours.returncode == 0
    assert tree(user.here / "orders") == tree(user.here / "ours/orders")


def _make(user: User, clone: Path, way: str, at: Path) -> None:
    at.mkdir()
    if way == "factfold":
        made = user.factfold("new", "orders", "--no-input", at=at, clone=clone)
    else:
        made = user.cookiecutter("service_name=orders", at=at, clone=clone)
    assert (made.returncode, made.stderr) == (0, "")
