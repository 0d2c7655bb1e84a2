"""A service in Go: its stubs and its program, made by the Go that is on PATH."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from factfold_cli.discovery import ServiceFolder
from factfold_cli.errors import Failed
from factfold_cli.launching import Launch, Say
from factfold_cli.processes import foreign_environment, run

OLDEST = (1, 26)
INSTALL = "see https://go.dev/doc/install"
# Ignored by git, as gen/ is.
PROGRAM = "bin/service"
# Without the folder's name in them, packages that were compiled for one repository serve all; and
# a commit changes no program.
_FLAGS = ("-trimpath", "-buildvcs=false")
_CONTRACTS = ("protos", "chassis/protos")
_SOURCES = {".go", ".proto", ".mod", ".sum"}
_MADE = {"bin", "gen"}
_MESSAGE = re.compile(r"\S+\.(go|proto|mod|sum):\d+.*")


def found() -> str | None:
    """The `go` on PATH if it is new enough for what is generated, else None."""
    go = shutil.which("go")
    return go if go and version(go) >= OLDEST else None


def version(go: str) -> tuple[int, ...]:
    """The numbers of the release that is installed there; none if it does not run."""
    match = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", setting(go, "GOVERSION", "local"))
    return tuple(int(number) for number in match.groups() if number) if match else ()


def shown(numbers: Sequence[int]) -> str:
    return ".".join(map(str, numbers))


def setting(go: str, name: str, toolchain: str = "") -> str:
    """What `go env` says; with the toolchain "local" nothing is fetched to answer."""
    try:
        done = subprocess.run(
            [go, "env", name],
            capture_output=True,
            text=True,
            errors="replace",
            env=os.environ | ({"GOTOOLCHAIN": toolchain} if toolchain else {}),
        )
    except OSError:
        return ""
    return "" if done.returncode else done.stdout.strip()


class GoLauncher:
    def __init__(self, service: ServiceFolder) -> None:
        self._service = service

    async def prepare(self, say: Say) -> Launch:
        name, path = self._service.name, self._service.path
        if (go := found()) is None:
            raise Failed(f"{name}: no Go {shown(OLDEST)} or newer is on PATH: {INSTALL}")
        contract = max(_times([path / folder for folder in _CONTRACTS]), default=0)
        if _made(path / "gen") < contract:
            say(f"{name}: making its stubs")
            await self._run([go, "generate", "./..."], "no stubs were made", say)
            # They are as old as what they were made of: it may have changed meanwhile.
            for stub in (path / "gen").rglob("*.go"):
                os.utime(stub, ns=(contract, contract))
        say(f"{name}: building")
        build = [go, "build", "-v", "-ldflags=-w", "-o", PROGRAM, "./cmd/service"]
        await self._run(build, "it was not built", say)
        return Launch((str(path / PROGRAM),), {})

    def watched(self) -> list[Path]:
        there = self._service.path.iterdir()
        return [path for path in there if path.name not in _MADE and path.name[0] != "."]

    def runs_from(self, path: Path) -> bool:
        return path.suffix in _SOURCES and not path.name.endswith("_test.go")

    async def _run(self, command: Sequence[str], failure: str, say: Say) -> None:
        fetched = compiled = 0

        def heard(line: str) -> None:
            nonlocal fetched, compiled
            if line.startswith("go: downloading "):
                fetched += 1
                say(f"{self._service.name}: fetching module {fetched}")
            elif re.fullmatch(r"[\w./-]+", line):
                # A package, as -v names it once it is compiled.
                compiled += 1
                say(f"{self._service.name}: compiling, {compiled} packages so far")

        flags = " ".join([os.environ.get("GOFLAGS", ""), *_FLAGS]).strip()
        await run(
            command,
            self._service.path,
            f"{self._service.name}: {failure}",
            environment={**foreign_environment(), "GOFLAGS": flags},
            heard=heard,
            reason=_first_message,
        )


def _first_message(lines: Sequence[str]) -> str:
    """The compiler's first one: those behind it often follow from it."""
    said = [line for line in lines if line and not line.startswith(("# ", "go: downloading "))]
    for line in said:
        if at := _MESSAGE.search(line):
            return at[0]
    return next((line for line in said if ": " in line), said[-1])


def _made(stubs: Path) -> int:
    """When the oldest of them was made; -1 if there is none."""
    return min((path.stat().st_mtime_ns for path in stubs.rglob("*.go")), default=-1)


def _times(folders: Sequence[Path]) -> Iterator[int]:
    """A folder is as new as the last file that came into it or went."""
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            yield path.stat().st_mtime_ns
