"""What the template promises of its files."""

import re
from pathlib import Path

import pytest
import yaml

from .conftest import SERVICE

HAND_WRITTEN = [SERVICE / "hatch_build.py", *sorted((SERVICE / "src").rglob("*.py"))]
ALLOWED = {"aggregate", "__aggregate_snake", "__plural", "__plural_snake", "__package"}


def test_a_newcomer_can_read_it_all() -> None:
    lines = {path.name: len(path.read_text().splitlines()) for path in HAND_WRITTEN}
    assert sum(lines.values()) <= 400
    assert max(lines.values()) <= 120


@pytest.mark.parametrize("path", HAND_WRITTEN, ids=lambda path: path.name)
def test_sources_name_the_aggregate_and_the_package_alone(path: Path) -> None:
    text = path.name + path.read_text()
    tags = set(re.findall(r"{{cookiecutter\.(\w+)}}", text))
    assert tags <= (ALLOWED | {"service_slug"} if path.name == "contract.py" else ALLOWED)
    assert "{%" not in text


def test_the_two_commands_are_one_line_each() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", _read("README.md"), re.M | re.S)
    assert [block.count("\n") for block in blocks[:2]] == [1, 1]


def test_redis_keeps_what_it_was_given() -> None:
    services = yaml.safe_load(_read("compose.yaml").replace("{{cookiecutter.service_slug}}", "x"))
    redis = services["services"]["redis"]
    assert "--appendonly yes" in redis["command"]
    assert "--maxmemory-policy noeviction" in redis["command"]
    for service in services["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_the_build_is_pinned_once() -> None:
    text = _read("pyproject.toml")
    (required,) = re.findall(r"^requires = (\[.*\])$", text, re.M)
    assert f"build = {required}" in text
    locked = _read("requirements/build.txt")
    assert all(f"{pin} \\" in locked for pin in re.findall(r'"(.+?)"', required))


@pytest.mark.parametrize("lock", ["run", "build", "dev"])
def test_locks_have_hashes_and_no_registry(lock: str) -> None:
    lines = _read(f"requirements/{lock}.txt").splitlines()
    pins = [at for at, line in enumerate(lines) if "==" in line]
    assert pins
    assert all("--hash=sha256:" in lines[at + 1] for at in pins)
    assert not [line for line in lines if "index" in line or "://" in line]


def _read(path: str) -> str:
    return (SERVICE / path).read_text()
