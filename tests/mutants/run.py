"""Breaks the chassis on purpose, one rule at a time: each time a test must turn red.

    python tests/mutants/run.py [NAME…] [--no-baseline] [--table FILE]

`mutants.toml` has one table per mutant: what it breaks (`file` below the chassis' package, `old`
and `new` text), the `rule` it stands for, and the `rows`, each of which must turn red by itself.
It works in a copy of the checkout. Ends with 1 if a row stays green (then the row is defective),
or fails for another reason than an assertion.
"""

import argparse
import os
import re
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
PATIENCE = 330.0  # seconds: a row of the fault suite gives itself up after 300
GREEN, RED, HANGS = "green", "red", "red (hangs)"

# A mutant that cannot run at all turns any row red, also through a service that does not start.
MISTAKE = re.compile(
    r"\b(?:SyntaxError|ImportError|ModuleNotFoundError): .*"
    r"|\bname '\w+' is not defined|cannot access local variable .*"
    r"|Error compiling script.*|nonexistent global variable.*"
    r"|attempt to (?:call|index|compare|concatenate|perform) .*"
)
# What a test says that has waited in vain.
VAIN = re.compile(r"TimeoutError|takes longer than")


@dataclass(frozen=True)
class Mutant:
    name: str
    rule: str
    file: str
    old: str
    new: str
    rows: list[str]

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


def outcome(mutant: Mutant, row: str, checkout: Path) -> str:
    """GREEN, RED, HANGS, or what is wrong with the mutant."""
    sources = {place: (checkout / place).read_text(encoding="utf-8") for place in mutant.places()}
    for place, source in sources.items():
        if source.count(mutant.old) != 1:
            return f"stale: its text is {source.count(mutant.old)} times in {place.name}"
    try:
        for place, source in sources.items():
            changed = source.replace(mutant.old, mutant.new)
            if place.suffix == ".py":
                compile(changed, str(place), "exec")
            (checkout / place).write_text(changed, encoding="utf-8")
        return run(row, checkout)
    except SyntaxError as error:
        return f"broken: {error}"
    finally:
        for place, source in sources.items():
            (checkout / place).write_text(source, encoding="utf-8")


def run(row: str, checkout: Path) -> str:
    environment = os.environ | {
        "PYTHONPATH": str(checkout / "generator"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "500",  # pytest cuts what it says about a failure
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-rfEs", "-p", "no:cacheprovider", row]
    try:
        done = subprocess.run(
            command, cwd=checkout, env=environment, text=True, timeout=PATIENCE, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return HANGS
    *_, summary = done.stdout.strip().splitlines() or ["it says nothing"]
    if done.returncode == 0:
        return GREEN if " passed" in f" {summary}" else f"broken: {summary}"
    failed = re.findall(r"^FAILED .*", done.stdout, re.MULTILINE)
    # Without a failure there is an error: while collecting, or in a fixture.
    if done.returncode != 1 or not failed:
        return f"broken: pytest ended with {done.returncode}: {summary}"
    if mistake := MISTAKE.search(done.stdout):
        return f"broken: {mistake[0]}"
    return HANGS if VAIN.search(failed[0]) else RED


def main() -> int:
    parser = argparse.ArgumentParser(description="Break the chassis, one rule at a time.")
    parser.add_argument("names", nargs="*", help="of mutants; all without")
    parser.add_argument("--table", type=Path, help="write the table as Markdown, too")
    parser.add_argument(
        "--baseline", action=argparse.BooleanOptionalAction, default=True,
        help="first see that each chosen row is green without any mutation: once per row, which "
        "adds about a quarter to a full run",
    )  # fmt: skip
    asked = parser.parse_args()
    known = mutants()
    if unknown := set(asked.names) - {mutant.name for mutant in known}:
        parser.error(f"there is no mutant {', '.join(sorted(unknown))}: see mutants.toml")
    chosen = [mutant for mutant in known if not asked.names or mutant.name in asked.names]
    pairs = [(mutant, row) for mutant in chosen for row in mutant.rows]
    lines = ["| mutant | rule | row | |", "|---|---|---|---|"]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="factfold-mutants-") as folder:
        checkout = Path(folder)
        copy_of_checkout(checkout)
        unfit: dict[str, str] = {}
        if asked.baseline:
            for row in dict.fromkeys(row for _, row in pairs):
                began = time.monotonic()
                if (result := run(row, checkout)) != GREEN:
                    unfit[row] = f"not green without it: {result}"
                print(f"{row}: {result} ({time.monotonic() - began:.0f} s)", flush=True)
        for number, (mutant, row) in enumerate(pairs, 1):
            began = time.monotonic()
            result = unfit.get(row) or outcome(mutant, row, checkout)
            failed += result not in (RED, HANGS)
            lines.append(f"| {mutant.name} | {mutant.rule} | `{row}` | {result} |")
            said = "GREEN: the row does not notice" if result == GREEN else result
            print(
                f"[{number}/{len(pairs)}] {mutant.name}: {row}: {said} "
                f"({time.monotonic() - began:.0f} s)",
                flush=True,
            )
    if asked.table:
        asked.table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(pairs) - failed} of {len(pairs)} turned red")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
