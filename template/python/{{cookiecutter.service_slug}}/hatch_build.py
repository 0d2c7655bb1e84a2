"""Makes gen/, the Python stubs of protos/: while building, or by `python hatch_build.py`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KINDS = ("python", "mypy", "grpc_python", "mypy_grpc")


def generate(root: Path) -> None:
    """Replaces root/gen, or leaves it as it is and ends the process if a contract has an error."""
    protos = root / "protos"
    contracts = sorted(str(path) for path in protos.rglob("*.proto"))
    # The plugins lie beside the interpreter, which need not be on PATH.
    path = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    with TemporaryDirectory(prefix=".gen-", dir=root) as made:
        command = [
            *(sys.executable, "-m", "grpc_tools.protoc"),
            f"--proto_path={protos}",
            f"--proto_path={root / 'chassis' / 'protos'}",
            *(f"--{kind}_out={made}" for kind in KINDS),
            *contracts,
        ]
        environment = os.environ | {"PATH": path}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            sys.exit(f"protos/ does not compile, gen/ is unchanged:\n{done.stderr.strip()}")
        shutil.rmtree(root / "gen", ignore_errors=True)
        shutil.copytree(made, root / "gen")


class Stubs(BuildHookInterface[BuilderConfig]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        generate(Path(self.root))


if __name__ == "__main__":
    generate(Path(__file__).resolve().parent)
