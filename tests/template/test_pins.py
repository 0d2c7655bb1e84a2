"""Renovate and pre-commit: what must fit together moves together, and nothing has a second pin."""

import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml

from .conftest import SERVICE, Generated

RENOVATE: dict[str, Any] = json.loads((SERVICE / "renovate.json").read_text())
PRE_COMMIT = yaml.safe_load((SERVICE / ".pre-commit-config.yaml").read_text())
LOCKS = [f"requirements/{lock}.txt" for lock in ("run", "build", "dev")]
GRPC = {"grpcio", "grpcio-tools", "grpcio-status", "protobuf", "mypy-protobuf"}

# The part of Renovate's own schema that is used here: each option with its type, none besides.
TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT, "minItems": 1}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "$schema": {"const": "https://docs.renovatebot.com/renovate-schema.json"},
        "extends": TEXTS,
        "ignorePaths": TEXTS,
        "postUpdateOptions": TEXTS,
        "pip_requirements": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"managerFilePatterns": TEXTS},
        },
        "customManagers": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["customType", "managerFilePatterns", "matchStrings"],
                "properties": {
                    "description": TEXT,
                    "customType": {"enum": ["regex", "jsonata"]},
                    "managerFilePatterns": TEXTS,
                    "matchStrings": TEXTS,
                    "datasourceTemplate": TEXT,
                },
            },
        },
        "packageRules": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "description": TEXT,
                    "enabled": {"type": "boolean"},
                    "groupName": TEXT,
                    "matchDatasources": TEXTS,
                    "matchPackageNames": TEXTS,
                    "matchUpdateTypes": {
                        "type": "array",
                        "items": {"enum": ["major", "minor", "patch", "digest", "pin"]},
                    },
                    "schedule": TEXTS,
                    "separateMajorMinor": {"type": "boolean"},
                },
            },
        },
    },
}


def matches(rule: dict[str, Any], package: str) -> bool:
    """As Renovate matches names: whole, and `*` is any text."""
    patterns = [re.escape(name).replace(r"\*", ".*") for name in rule.get("matchPackageNames", "*")]
    return any(re.fullmatch(pattern, package) for pattern in patterns)


def test_renovate_knows_each_option() -> None:
    jsonschema.validate(RENOVATE, SCHEMA)


def test_what_makes_stubs_and_what_runs_them_moves_in_one_step() -> None:
    rules = RENOVATE["packageRules"]
    (at,) = [at for at, rule in enumerate(rules) if rule.get("groupName") == "gRPC and protobuf"]
    locked = {
        name
        for lock in LOCKS
        for name in re.findall(r"^([\w.-]+)==", (SERVICE / lock).read_text(), re.M)
    }
    theirs = {name for name in locked if re.search("grpc|protobuf|googleapis", name)}
    theirs -= {name for name in theirs if name.startswith("opentelemetry-")}
    assert theirs >= GRPC
    assert {name for name in locked if matches(rules[at], name)} == theirs
    # Nothing of it is split off by the kind of update, and no later rule takes one out again.
    assert rules[at]["separateMajorMinor"] is False
    assert "matchUpdateTypes" not in rules[at]
    assert not [name for rule in rules[at + 1 :] for name in theirs if matches(rule, name)]


def test_renovate_finds_all_pins_and_leaves_the_chassis_alone() -> None:
    (locks,) = RENOVATE["pip_requirements"]["managerFilePatterns"]
    (own,) = RENOVATE["customManagers"]
    (settings,) = own["managerFilePatterns"]
    for pattern, files in ((locks, LOCKS), (settings, ["tox.ini"])):
        # Between slashes: a regular expression, else Renovate takes it for a glob.
        expression = re.fullmatch("/(.+)/", pattern)
        assert expression
        assert all(re.search(expression[1], file) for file in files)
    (expression,) = own["matchStrings"]
    tox = (SERVICE / "tox.ini").read_text()
    assert len(re.findall(expression.replace("(?<", "(?P<"), tox)) == tox.count("==") == 1
    # What the chassis is built and made with moves with the template.
    assert "chassis/**" in RENOVATE["ignorePaths"]
    (backend,) = re.findall(
        r'requires = \["(\w+)==', (SERVICE / "chassis/pyproject.toml").read_text()
    )
    (kept,) = [rule for rule in RENOVATE["packageRules"] if rule.get("enabled") is False]
    assert kept["matchPackageNames"] == [backend]


def test_pre_commit_runs_what_is_locked(generate: Callable[..., Generated]) -> None:
    foreign = [repository for repository in PRE_COMMIT["repos"] if repository["repo"] != "local"]
    assert all(re.fullmatch("[0-9a-f]{40}", repository["rev"]) for repository in foreign)
    (local,) = [repository for repository in PRE_COMMIT["repos"] if repository["repo"] == "local"]
    service = generate("orders")
    for hook in local["hooks"]:
        assert hook["language"] == "system"
        python, *arguments = hook["entry"].split()
        assert python == ".venv/bin/python"
        paths = [] if hook.get("pass_filenames", True) is False else ["src/service/app.py"]
        assert "files" in hook or "types_or" in hook
        if hook["id"] == "pins":
            continue
        done = service.python(*arguments, *paths)
        assert done.returncode == 0, f"{hook['id']}:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("lock", LOCKS[:2])
def test_locks_that_differ_are_refused(lock: str, generate: Callable[..., Generated]) -> None:
    """By the hook, and by the first step of CI, which names the same files."""
    (local,) = [repository for repository in PRE_COMMIT["repos"] if repository["repo"] == "local"]
    (entry,) = [hook["entry"] for hook in local["hooks"] if hook["id"] == "pins"]
    files = re.findall("-r (\\S+)", entry)
    assert sorted(files) == sorted(LOCKS)
    assert (
        " ".join(f"-r {file}" for file in files)
        in (SERVICE / ".github/workflows/ci.yml").read_text()
    )
    service = generate("orders")
    path = service.root / lock
    path.write_text(re.sub(r"^protobuf==\S+", "protobuf==7.36.0", path.read_text(), flags=re.M))
    _, *arguments = entry.split()
    refused = service.python(*arguments)
    assert refused.returncode == 1
    assert "protobuf==7.36.0 and protobuf==" in refused.stderr
