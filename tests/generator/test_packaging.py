"""What a release carries: one version, the templates without caches, locks from anywhere."""

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from factfold_cli.templates import languages

from .conftest import ROOT


@pytest.mark.parametrize("language", languages())
def test_templates_name_the_generators_version(language: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    listed = json.loads((ROOT / "template" / language / "cookiecutter.json").read_text("utf-8"))
    assert listed["_generator_version"] == project["version"]
    assert listed["_language"] == language


@pytest.mark.parametrize("lock", ["run.txt", "dev.txt", "bench.txt"])
def test_locks_have_hashes_and_name_no_place(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text("utf-8")
    assert "://" not in text
    assert not re.search(r"^-", text, re.M)
    pins = re.findall(r"^\w(?:.*\\\n)*.*", text, re.M)
    assert pins
    assert all("==" in pin and "--hash=sha256:" in pin for pin in pins)


def test_the_wheel_carries_the_templates_without_caches(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("factfold-0.1.0-*.whl")
    share = "factfold_cli/share/"
    with zipfile.ZipFile(wheel) as archive:
        inside = [name for name in archive.namelist() if name.startswith(share)]
        assert {name.removeprefix(share): archive.read(name) for name in inside} == {
            name: (ROOT / name).read_bytes() for name in _committed()
        }


def _committed() -> list[str]:
    """What git would commit of the folders that the wheel carries."""
    listed = subprocess.run(
        [
            *("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"),
            *("cookiecutter.json", "protos", "template"),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in listed.stdout.split("\0") if name]
