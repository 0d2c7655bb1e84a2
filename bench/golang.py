"""The Go programs, ours and the peers', built once a run with the modules that go.sum names."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from grpc_tools import protoc

from bench.rounds import Contender
from bench.serving import new
from bench.stage import HERE, INCLUDES

_MODULE = "factfold/chassis/bench"
_STUBS = {
    "bench.proto": f"{_MODULE}/pb",
    "answers.proto": f"{_MODULE}/answers",
    "factfold/v1/options.proto": "factfold/chassis/factfold/v1",
}


class NotBuilt(Exception):
    """`str(error)` says why, in one line."""


@dataclass(frozen=True)
class Programs:
    """Those of bench/programs/go, and a generated service."""

    folder: Path

    @property
    def service(self) -> Path:
        return self.folder / "bin/service"

    def path(self, name: str) -> Path:
        return self.folder / "bin" / name

    def contender(self, name: str, program: str, *arguments: object) -> Contender:
        command = [str(self.path(program)), *map(str, arguments)]
        return Contender(name, command, "go")


def built(folder: Path) -> Programs:
    """All of them; built when they are first asked for. Raises NotBuilt."""
    if shutil.which("go") is None:
        raise NotBuilt("Go is not installed")
    root = folder / "go"
    programs = Programs(root)
    if programs.service.exists():
        return programs
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    service = new(root, "orders", "go")
    _go(service, "generate", "./...")
    module = root / "programs"
    shutil.copytree(HERE / "programs/go", module)
    _stubs(module, _go(module, "tool", "-n", "protoc-gen-go").strip())
    (root / "bin").mkdir()
    _go(module, "build", "-o", str(root / "bin"), "./...")
    _go(service, "build", "-o", str(root / "bin"), "./cmd/service")
    return programs


def _stubs(module: Path, plugin: str) -> None:
    mapped = [f"--go_opt=M{proto}={package}" for proto, package in _STUBS.items()]
    out = [f"--plugin=protoc-gen-go={plugin}", f"--go_out={module}", f"--go_opt=module={_MODULE}"]
    if protoc.main(["", *INCLUDES, *out, *mapped, "bench.proto", "answers.proto"]):
        raise NotBuilt("there are no stubs of bench.proto")


def _go(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["go", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise NotBuilt((done.stderr.strip().splitlines() or ["go has failed"])[-1])
    return done.stdout
