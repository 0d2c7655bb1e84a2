"""The hardware and the versions that figures belong to."""

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "grpcio", "protobuf", "redis", "hiredis", "uvloop", "opentelemetry-sdk", "faststream",
    "cookiecutter", "copier",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    date: str
    processor: str
    cores: int
    memory_gib: float
    system: str
    python: str
    redis_server: str
    packages: dict[str, str]

    @classmethod
    def here(cls, redis_server: Path) -> "Machine":
        said = subprocess.run([redis_server, "--version"], capture_output=True, text=True)
        words = said.stdout.split()
        return cls(
            date=datetime.now(UTC).date().isoformat(),
            processor=_processor(),
            cores=len(os.sched_getaffinity(0)),
            memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            system=f"{platform.system()} {platform.release().split('-')[0]}",
            python=platform.python_version(),
            redis_server=" ".join([words[0], *(w[2:] for w in words if w.startswith("v="))]),
            packages={name: found for name in PACKAGES if (found := _version(name))},
        )

    @property
    def sentence(self) -> str:
        packages = ", ".join(f"{name} {found}" for name, found in self.packages.items())
        return (
            f"{self.date}: {self.processor}, {self.cores} cores, {self.memory_gib:g} GiB, "
            f"{self.system}, CPython {self.python}, {self.redis_server}; {packages}."
        )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
