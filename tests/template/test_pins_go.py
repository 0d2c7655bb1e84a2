"""Renovate and pre-commit of a Go service: nothing is pinned that nobody moves."""

import json
import re
from typing import Any

import jsonschema
import yaml

from .conftest import ROOT
from .test_pins import SCHEMA, matches

SERVICE = ROOT / "template/go/{{cookiecutter.service_slug}}"
RENOVATE: dict[str, Any] = json.loads((SERVICE / "renovate.json").read_text())
PRE_COMMIT = yaml.safe_load((SERVICE / ".pre-commit-config.yaml").read_text())
MODULES = re.findall(r"^\t(\S+) v\S+", (SERVICE / "go.mod").read_text(), re.M)


def test_renovate_knows_each_option() -> None:
    jsonschema.validate(RENOVATE, SCHEMA)


def test_what_makes_stubs_and_what_runs_them_moves_in_one_step() -> None:
    rules = RENOVATE["packageRules"]
    (at,) = [at for at, rule in enumerate(rules) if rule.get("groupName") == "gRPC and protobuf"]
    theirs = {
        name
        for name in MODULES
        if re.match(r"google\.golang\.org/(grpc|protobuf|genproto)|.*/protocompile$", name)
    }
    assert theirs >= {"google.golang.org/grpc", "google.golang.org/protobuf"}
    covered = [pattern.replace("/**", "*") for pattern in rules[at]["matchPackageNames"]]
    assert {name for name in MODULES if matches({"matchPackageNames": covered}, name)} == theirs
    assert rules[at]["separateMajorMinor"] is False
    assert "matchUpdateTypes" not in rules[at]
    assert not [name for rule in rules[at + 1 :] for name in theirs if matches(rule, name)]


def test_renovate_finds_the_programs_that_ci_runs_and_leaves_the_chassis_alone() -> None:
    (own,) = RENOVATE["customManagers"]
    (files,) = own["managerFilePatterns"]
    workflow = ".github/workflows/ci.yml"
    assert re.search(files.strip("/"), workflow)
    (expression,) = own["matchStrings"]
    text = (SERVICE / workflow).read_text()
    found = re.findall(expression.replace("(?<", "(?P<"), text)
    assert [name for name, _ in found] == [
        "github.com/golangci/golangci-lint/v2",
        "github.com/bufbuild/buf",
    ]
    assert len(found) == len(re.findall(r"go run \S+@v", text))
    assert "chassis/**" in RENOVATE["ignorePaths"]
    (kept,) = [rule for rule in RENOVATE["packageRules"] if rule.get("enabled") is False]
    assert kept["matchPackageNames"] == ["factfold/chassis"]


def test_hooks_of_others_are_pinned_and_ours_need_go_alone() -> None:
    (local,) = [repository for repository in PRE_COMMIT["repos"] if repository["repo"] == "local"]
    for repository in PRE_COMMIT["repos"]:
        assert repository is local or re.fullmatch("[0-9a-f]{40}", repository["rev"])
    for hook in local["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].split()[0] in {"go", "gofmt"}
        assert "files" in hook or "types" in hook
