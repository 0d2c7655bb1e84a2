"""Replays the jobs of a GitHub workflow: its `run:` steps under bash, its actions as they act here.

Whatever a workflow says that is not known here fails the replay, so that nothing is passed over.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

SHELLS = {
    None: ["bash", "-e"],
    "bash": ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail"],
}
# What a runner's machine does with them, a clone and bash do here.
JOB_KEYS = {"runs-on", "timeout-minutes", "strategy", "steps"}
STEP_KEYS = {"name", "run", "uses", "with", "env"}
RUNNING = ".".join(map(str, sys.version_info[:2]))
KEPT = ("PIP_", "SSL_", "LANG", "http_proxy", "https_proxy", "no_proxy")


class ReplayError(AssertionError):
    """A step failed, or the workflow asks for something that the replay does not know."""


@dataclass
class Runner:
    """A machine for one job: a clean clone and an empty home.

    Attributes:
        origin: the repository that checkout clones.
        folder: for the clone and for what a runner has beside it; `programs` there is on PATH.
        matrix: the values of `${{ matrix.NAME }}`.
        python: the major and minor version that setup-python was asked for.
        caches: variables that name what an action keeps from one job to the next.
        seconds: how long a step may take.
    """

    origin: Path
    folder: Path
    defaults: Mapping[str, Any] = field(default_factory=dict)
    matrix: Mapping[str, str] = field(default_factory=dict)
    python: str = ""
    caches: dict[str, str] = field(default_factory=dict)
    seconds: int = 240

    @property
    def clone(self) -> Path:
        return self.folder / "clone"

    def step(self, step: Mapping[str, Any]) -> str:
        """What the step printed; raises ReplayError if it fails."""
        if unknown := set(step) - STEP_KEYS:
            raise ReplayError(f"not known of a step: {sorted(unknown)}")
        if "run" in step:
            return self._run(step)
        action, _, rest = step["uses"].partition("@")
        if not re.fullmatch("[0-9a-f]{40}", rest):
            raise ReplayError(f"not pinned by a commit: {step['uses']}")
        given = {name: self._expanded(str(value)) for name, value in step.get("with", {}).items()}
        if action == "actions/checkout":
            self._checkout(**given)
        elif action == "actions/setup-python":
            self._setup_python(**given)
        elif action == "actions/setup-go":
            self._setup_go(**given)
        else:
            raise ReplayError(f"not known here: {step['uses']}")
        return ""

    def _checkout(self, **given: str) -> None:
        depth = given.pop("fetch-depth", "1")
        if given.pop("persist-credentials", "") != "False" or given:
            raise ReplayError(f"checkout keeps its token, or is given what is not known: {given}")
        depths = [] if depth == "0" else ["--depth", depth, "--no-tags"]
        command = ["git", "clone", "-q", *depths, f"file://{self.origin}", str(self.clone)]
        subprocess.run(command, check=True)

    def _setup_python(self, **given: str) -> None:
        self.python = given.pop("python-version")
        for pattern in given.pop("cache-dependency-path").split():
            assert list(self.clone.glob(pattern)), pattern
        if given.pop("cache") != "pip" or given:
            raise ReplayError(f"setup-python is given what is not known: {given}")
        subprocess.run([sys.executable, "-m", "venv", self.folder / "python"], check=True)

    def _setup_go(self, **given: str) -> None:
        """The Go of this machine, if it is new enough, and what that has fetched and compiled."""
        for name in ("go-version-file", "cache-dependency-path"):
            assert (self.clone / given.pop(name)).is_file(), name
        if given:
            raise ReplayError(f"setup-go is given what is not known: {given}")
        for name in ("GOMODCACHE", "GOCACHE"):
            done = subprocess.run(["go", "env", name], capture_output=True, text=True, check=True)
            self.caches[name] = done.stdout.strip()

    def _run(self, step: Mapping[str, Any]) -> str:
        shell = SHELLS[self.defaults.get("run", {}).get("shell")]
        script = self.folder / "step.sh"
        script.write_text(self._expanded(step["run"]))
        done = subprocess.run(
            [*shell, script],
            cwd=self.clone,
            env=self._environment() | step.get("env", {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=self.seconds,
        )
        if done.returncode:
            raise ReplayError(f"{step.get('name', step['run'])}:\n{done.stdout}")
        return done.stdout

    def _environment(self) -> dict[str, str]:
        """Nothing of this machine but its programs, and the way to the package registries."""
        for name in ("home", "temporary"):
            (self.folder / name).mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if name.startswith(KEPT)}
        path = f"{self.folder / 'python/bin'}:{self.folder / 'programs'}:{os.environ['PATH']}"
        return {
            **kept,
            **self.caches,
            **{"PATH": path, "HOME": str(self.folder / "home"), "CI": "true"},
            # golangci-lint runs once per folder for temporary files.
            **{"GITHUB_ACTIONS": "true", "TMPDIR": str(self.folder / "temporary")},
        }

    def _expanded(self, text: str) -> str:
        def value(found: re.Match[str]) -> str:
            kind, _, name = found[1].partition(".")
            if kind != "matrix":
                raise ReplayError(f"not known here: {found[0]}")
            return self.matrix[name]

        return re.sub(r"\${{\s*(.+?)\s*}}", value, text)


def load(path: Path) -> dict[str, Any]:
    workflow = yaml.safe_load(path.read_text())
    assert isinstance(workflow, dict)
    # YAML 1.1 reads `on` as true.
    workflow["on"] = workflow.pop(True)
    return workflow


def runner(workflow: Mapping[str, Any], job: str, origin: Path, folder: Path) -> Runner:
    """A machine for `job`, whose matrix is at the version of Python that runs here."""
    described = workflow["jobs"][job]
    if unknown := set(described) - JOB_KEYS:
        raise ReplayError(f"not known of a job: {sorted(unknown)}")
    matrix = described.get("strategy", {}).get("matrix", {})
    for name, values in matrix.items():
        if name != "python" or RUNNING not in values:
            raise ReplayError(f"not known of a matrix: {name} {values}")
    return Runner(origin, folder, workflow["defaults"], dict.fromkeys(matrix, RUNNING))


def replay(machine: Runner, steps: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The name of each step and what it printed, once it has passed."""
    for step in steps:
        if step.get("run", "").startswith("docker build") and not has_docker():
            # tests/template/test_dockerfile.py replays what Docker would do.
            continue
        yield step.get("name", step.get("uses", "")), machine.step(step)


def has_docker() -> bool:
    """Whether there is an engine, not only its command."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True).returncode == 0
