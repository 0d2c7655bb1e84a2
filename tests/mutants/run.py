"""Breaks each chassis on purpose, one rule at a time: each time a test must turn red.

    python tests/mutants/run.py [NAME…] [--language LANGUAGE] [--no-baseline] [--table FILE]

`python.toml`, `go.toml` have one table per mutant: what it breaks (`file` below the chassis, `old`
and `new` text), the `rule` it stands for, and the `rows`, each of which must turn red by itself: a
node of pytest, or a test of the chassis' own, as in `internal/redislog TestName`.
It works in a copy of the checkout. Ends with 1 if a row stays green (then the row is defective),
or fails for another reason than an assertion.
"""

import argparse
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COMMON = Path("template/common")
PATIENCE = 330.0  # seconds: a row of the fault suite gives itself up after 300
GREEN, RED, HANGS = "green", "red", "red (hangs)"

# A mutant that cannot run at all turns any row red, also through a service that does not start.
MISTAKE = re.compile(
    r"\b(?:SyntaxError|ImportError|ModuleNotFoundError): .*"
    r"|\bname '\w+' is not defined|cannot access local variable .*"
    r"|Error compiling script.*|nonexistent global variable.*"
    r"|attempt to (?:call|index|compare|concatenate|perform) .*"
    r"|.*\[(?:build|setup) failed\]|panic: runtime error: .*"
)
# What a test says that has waited in vain.
VAIN = re.compile(r"TimeoutError|takes longer than|not in time|test timed out")


@dataclass(frozen=True)
class Tests:
    """One kind of tests: how a row is run, and what it says in the end."""

    folder: Path
    command: Callable[[str], list[str]]
    environment: Callable[[Path], dict[str, str]]
    passed: re.Pattern[str]
    failed: re.Pattern[str]  # the line of an assertion
    # Of a row `folder name`: the files in its folder, and what one of them has for the test.
    files: str = ""
    defined: str = "{}"


def _pytest(row: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-x", "-rfEs", "-p", "no:cacheprovider", row]


def _pytest_environment(checkout: Path) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(checkout / "generator"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "500",  # pytest cuts what it says about a failure
    }


def _go_test(row: str) -> list[str]:
    folder, name = row.split()
    # Without paths, what was compiled in one folder is not compiled again in the next. Without
    # symbols for a debugger, linking takes half the time.
    once = ["-trimpath", "-ldflags=-w", "-count=1", "-vet=off", "-timeout=60s"]
    return ["go", "test", *once, "-v", "-run", f"^{name}$", f"./{folder}"]


def _go_environment(checkout: Path) -> dict[str, str]:
    find = runpy.run_path(str(checkout / "generator/factfold_cli/redis_server.py"))["find"]
    ours = {name: text for name, text in os.environ.items() if not name.startswith("FACTFOLD_")}
    return ours | {"FACTFOLD_REDIS_SERVER": str(find())}  # known by its path: no row is skipped


GO_CHASSIS = Path("template/go/{{cookiecutter.service_slug}}/chassis")
PYTHON_CHASSIS = Path("template/python/{{cookiecutter.service_slug}}/chassis/src/factfold_chassis")
PYTEST = Tests(
    Path(),
    _pytest,
    _pytest_environment,
    re.compile(r" passed\b.*\Z"),
    re.compile(r"^FAILED .*", re.MULTILINE),
)
GO_TEST = Tests(
    GO_CHASSIS,
    _go_test,
    _go_environment,
    re.compile(r"^--- PASS: ", re.MULTILINE),
    re.compile(r"^ {4,}\w+\.go:\d+: .*|^panic: test timed out .*", re.MULTILINE),
    "*_test.go",
    "\nfunc {}(t *testing.T) {{",
)


@dataclass(frozen=True)
class Language:
    chassis: Path
    own: Tests  # its rows that are no nodes of pytest
    needs: str = ""  # on PATH


LANGUAGES = {
    "python": Language(PYTHON_CHASSIS, PYTEST),
    "go": Language(GO_CHASSIS, GO_TEST, needs="go"),
}


@dataclass(frozen=True)
class Mutant:
    language: str
    name: str
    rule: str
    file: str
    old: str
    new: str
    rows: list[str]

    def __str__(self) -> str:
        return f"{self.language} {self.name}"

    def places(self) -> list[Path]:
        """Lua files have a master beside the chassis' copy."""
        place = LANGUAGES[self.language].chassis / self.file
        return [place, COMMON / "lua" / place.name] if place.suffix == ".lua" else [place]

    def tests(self, row: str) -> Tests:
        return PYTEST if row.startswith("tests/") else LANGUAGES[self.language].own


def mutants(languages: list[str] | None = None) -> list[Mutant]:
    return [
        Mutant(language, name, **table)
        for language in languages or LANGUAGES
        for name, table in tomllib.loads(
            (HERE / f"{language}.toml").read_text(encoding="utf-8")
        ).items()
    ]


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
        return run(mutant.tests(row), row, checkout)
    except SyntaxError as error:
        return f"broken: {error}"
    finally:
        for place, source in sources.items():
            (checkout / place).write_text(source, encoding="utf-8")


def run(tests: Tests, row: str, checkout: Path) -> str:
    try:
        done = subprocess.run(
            tests.command(row), cwd=checkout / tests.folder, env=tests.environment(checkout),
            text=True, errors="replace", timeout=PATIENCE, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return HANGS
    said = done.stdout.strip() or "it says nothing"
    *_, summary = said.splitlines()
    if done.returncode == 0:
        return GREEN if tests.passed.search(said) else f"broken: {summary}"
    if mistake := MISTAKE.search(said):
        return f"broken: {mistake[0]}"
    # Without a failure there is an error: while collecting, or in a fixture.
    if done.returncode != 1 or not (failed := tests.failed.findall(said)):
        return f"broken: the tests ended with {done.returncode}: {summary}"
    return HANGS if any(map(VAIN.search, failed)) else RED


def main() -> int:
    parser = argparse.ArgumentParser(description="Break each chassis, one rule at a time.")
    parser.add_argument("names", nargs="*", help="of mutants; all without")
    parser.add_argument("--language", choices=LANGUAGES, help="all without")
    parser.add_argument("--table", type=Path, help="write the table as Markdown, too")
    parser.add_argument(
        "--baseline", action=argparse.BooleanOptionalAction, default=True,
        help="first see that each chosen row is green without any mutation: once per row, which "
        "adds about a quarter to a full run",
    )  # fmt: skip
    asked = parser.parse_args()
    languages = [asked.language] if asked.language else list(LANGUAGES)
    for language in languages:
        if (needs := LANGUAGES[language].needs) and shutil.which(needs) is None:
            parser.error(f"{needs} is not on PATH: install it, or choose another --language")
    known = mutants(languages)
    if unknown := set(asked.names) - {mutant.name for mutant in known}:
        parser.error(f"there is no mutant {', '.join(sorted(unknown))}: see {HERE.name}/*.toml")
    chosen = [mutant for mutant in known if not asked.names or mutant.name in asked.names]
    pairs = [(mutant, row) for mutant in chosen for row in mutant.rows]
    lines = ["| mutant | rule | row | |", "|---|---|---|---|"]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="factfold-mutants-") as folder:
        checkout = Path(folder)
        copy_of_checkout(checkout)
        unfit: dict[str, str] = {}
        if asked.baseline:
            for row, tests in {row: mutant.tests(row) for mutant, row in pairs}.items():
                began = time.monotonic()
                if (result := run(tests, row, checkout)) != GREEN:
                    unfit[row] = f"not green without it: {result}"
                print(f"{row}: {result} ({time.monotonic() - began:.0f} s)", flush=True)
        for number, (mutant, row) in enumerate(pairs, 1):
            began = time.monotonic()
            result = unfit.get(row) or outcome(mutant, row, checkout)
            failed += result not in (RED, HANGS)
            lines.append(f"| {mutant} | {mutant.rule} | `{row}` | {result} |")
            said = "GREEN: the row does not notice" if result == GREEN else result
            print(
                f"[{number}/{len(pairs)}] {mutant}: {row}: {said} "
                f"({time.monotonic() - began:.0f} s)",
                flush=True,
            )
    if asked.table:
        asked.table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(pairs) - failed} of {len(pairs)} turned red")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
