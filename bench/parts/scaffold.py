"""`factfold new` against cookiecutter and copier, with the same answers and the same files."""

import filecmp
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc

from bench.copying import translated
from bench.report import Series
from bench.rounds import Contender
from bench.serving import make_stubs, new, serving
from bench.stage import ROOT, Stage

NAME = "orders"
METHOD = "/acme.orders.v1.OrderService/CreateOrder"
REQUEST = b"\x12\x05tiles"  # CreateOrderRequest(name="tiles")
RUNS = 3


def run(stage: Stage) -> None:
    if find_spec("factfold_cli") is None:
        sys.path.append(str(ROOT / "generator"))
        os.environ["PYTHONPATH"] += os.pathsep + str(ROOT / "generator")
    from factfold_cli.render import variables
    from factfold_cli.templates import template

    # What cookiecutter remembers stays out of the user's home.
    home = stage.folder / "home"
    home.mkdir()
    source = template("python")
    context = variables("python", {"service_name": NAME})
    copier = translated(source, context, stage.folder / "copier")
    python = [sys.executable, "-m"]
    answers = ["--no-input", "--output-dir", "{}", str(source), f"service_name={NAME}"]
    commands = {
        "factfold": [
            *python, "factfold_cli", "new", NAME, "--language", "python", "--no-input",
            "--output", "{}",
        ],
        "cookiecutter": [*python, "cookiecutter", *answers],
        "copier": [
            *python, "copier", "copy", "--defaults", "--trust", "--quiet", "--data",
            f"service_name={NAME}", str(copier), "{}/" + NAME,
        ],
    }  # fmt: skip
    environment = ["env", f"HOME={home}"]
    contenders = [
        Contender.python(name, "repeated", stage.folder, *environment, *command)
        for name, command in commands.items()
    ]
    if differs := _differing(commands, stage.folder, home):
        stage.report.lacks(f"new against copier with all files the same: it makes {differs} anew")
    stage.compare("new", "s", contenders[0], contenders[1:], better="less")
    stage.say("new: to the first answered call")
    runs = [_to_first_call(stage) for _ in range(RUNS)]
    took = sorted(runs, key=sum)[RUNS // 2]
    names = ("new", "stubs", "start", "first call", "in all")
    rows = [[name, seconds] for name, seconds in zip(names, [*took, sum(took)], strict=True)]
    stage.report.series.append(Series("new to the first answered call", ["step", "s"], rows))


def _differing(commands: dict[str, list[str]], folder: Path, home: Path) -> str:
    """The first file that is not the same whoever makes it; empty if there is none."""
    made = {}
    with TemporaryDirectory(dir=folder) as out:
        for name, command in commands.items():
            (Path(out) / name).mkdir()
            filled = [word.replace("{}", f"{out}/{name}") for word in command]
            subprocess.run(
                filled, check=True, capture_output=True, env=os.environ | {"HOME": str(home)}
            )
            root = Path(out, name, NAME)
            made[name] = {path.relative_to(root) for path in root.rglob("*") if path.is_file()}
        for name in made:
            for path in sorted(made["factfold"] | made[name]):
                mine, theirs = Path(out, "factfold", NAME, path), Path(out, name, NAME, path)
                if not (mine.exists() and theirs.exists() and filecmp.cmp(mine, theirs, False)):
                    return f"{path} ({name})"
    return ""


def _to_first_call(stage: Stage) -> list[float]:
    """Seconds of each step; its packages are installed already."""
    with TemporaryDirectory(dir=stage.folder) as here, stage.redis() as redis:
        moments = [time.monotonic()]
        root = new(Path(here), NAME)
        moments.append(time.monotonic())
        make_stubs(root)
        moments.append(time.monotonic())
        with serving(root, FACTFOLD_REDIS_URL=redis.url) as server:
            moments.append(time.monotonic())
            with grpc.insecure_channel(server.address) as channel:
                call: Any = channel.unary_unary(METHOD)
                call(REQUEST)
            moments.append(time.monotonic())
    return [b - a for a, b in pairwise(moments)]
