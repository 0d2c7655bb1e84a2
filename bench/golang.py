"""The Go programs of the peers, built with the modules that their go.sum names."""

import shutil
import subprocess
from pathlib import Path

from grpc_tools import protoc

from bench.stage import HERE, INCLUDES


class NotBuilt(Exception):
    """`str(error)` says why, in one line."""


def built(name: str, folder: Path) -> Path:
    """The module bench/programs/NAME as a program. Raises NotBuilt."""
    if shutil.which("go") is None:
        raise NotBuilt("Go is not installed")
    module = folder / name
    shutil.copytree(HERE / "programs" / name, module)
    _stubs(module, _go(module, "tool", "-n", "protoc-gen-go").strip())
    program = module / name
    _go(module, "build", "-o", str(program), ".")
    return program


def _stubs(module: Path, plugin: str) -> None:
    packages = {"bench.proto": "pb", "factfold/v1/options.proto": "options"}
    path = f"bench/{module.name}"
    mapped = [f"--go_opt=M{proto}={path}/{package}" for proto, package in packages.items()]
    out = [f"--plugin=protoc-gen-go={plugin}", f"--go_out={module}", f"--go_opt=module={path}"]
    if protoc.main(["", *INCLUDES, *out, *mapped, *packages]):
        raise NotBuilt("there are no stubs of bench.proto")


def _go(module: Path, *arguments: str) -> str:
    done = subprocess.run(["go", *arguments], cwd=module, capture_output=True, text=True)
    if done.returncode:
        raise NotBuilt(done.stderr.strip().splitlines()[-1])
    return done.stdout
