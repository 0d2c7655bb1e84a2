"""Breaks the chassis on purpose, one rule at a time: each time a test must turn red.

    python tests/mutants/run.py [NAME…] [--table FILE]

`mutants.toml` has one table per mutant: what it breaks (`file` below the chassis' package, `old`
and `new` text), the `rule` it stands for, and the `row` that must turn red. It works in a copy of
the checkout. Ends with 1 if a row stays green: then the row is defective.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CHASSIS = Path("template/python/{{cookiecutter.service_slug}}/chassis/src/factfold_chassis")
COMMON = Path("template/common")
PATIENCE = 240  # seconds for one row


@dataclass(frozen=True)
class Mutant:
    name: str
    rule: str
    file: str
    old: str
    new: str
    row: str

    def places(self) -> list[Path]:
        """Lua files have a master beside the chassis' copy."""
        places = [CHASSIS / self.file]
        return [*places, COMMON / self.file] if self.file.startswith("lua/") else places


def mutants() -> list[Mutant]:
    found = tomllib.loads((HERE / "mutants.toml").read_text(encoding="utf-8"))
    return [Mutant(name, **table) for name, table in found.items()]


def copy_of_checkout(to: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def outcome(mutant: Mutant, checkout: Path) -> str:
    """`red`, or what is wrong with the mutant or its row."""
    sources = {place: (checkout / place).read_text(encoding="utf-8") for place in mutant.places()}
    for place, source in sources.items():
        if source.count(mutant.old) != 1:
            return f"stale: its text is {source.count(mutant.old)} times in {place.name}"
    try:
        for place, source in sources.items():
            changed = source.replace(mutant.old, mutant.new)
            (checkout / place).write_text(changed, encoding="utf-8")
        return _run(mutant.row, checkout)
    finally:
        for place, source in sources.items():
            (checkout / place).write_text(source, encoding="utf-8")


def _run(row: str, checkout: Path) -> str:
    environment = os.environ | {
        "PYTHONPATH": str(checkout / "generator"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *row.split()]
    try:
        done = subprocess.run(
            command, cwd=checkout, env=environment, capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "red"  # it waits for ever for what no longer happens
    if done.returncode == 1 and "FAILED" in done.stdout:
        return "red"
    if done.returncode == 0:
        return "GREEN: the row does not notice"
    return f"broken: pytest ended with {done.returncode}: {done.stdout.strip().splitlines()[-1:]}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Break the chassis, one rule at a time.")
    parser.add_argument("names", nargs="*", help="of mutants; all without")
    parser.add_argument("--table", type=Path, help="write the table as Markdown, too")
    asked = parser.parse_args()
    known = mutants()
    if unknown := set(asked.names) - {mutant.name for mutant in known}:
        parser.error(f"there is no mutant {', '.join(sorted(unknown))}: see mutants.toml")
    chosen = [mutant for mutant in known if not asked.names or mutant.name in asked.names]
    lines = ["| mutant | rule | row | |", "|---|---|---|---|"]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="factfold-mutants-") as folder:
        checkout = Path(folder)
        copy_of_checkout(checkout)
        for number, mutant in enumerate(chosen, 1):
            began = time.monotonic()
            result = outcome(mutant, checkout)
            failed += result != "red"
            lines.append(f"| {mutant.name} | {mutant.rule} | `{mutant.row}` | {result} |")
            seconds = time.monotonic() - began
            print(f"[{number}/{len(chosen)}] {mutant.name}: {result} ({seconds:.0f} s)", flush=True)
    if asked.table:
        asked.table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(chosen) - failed} of {len(chosen)} turned their row red")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
