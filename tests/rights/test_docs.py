"""docs/security.md: its shell blocks, run by a shell."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import redis
from faults.servers import Kind
from system.running import Made

from .conftest import acl

PAGE = (Path(__file__).parents[2] / "docs/security.md").read_text()
USERS = {"orders", "shipments", "factfold-viewer", "factfold-operator", "factfold-admin"}


def follow(name: str, at: Path, **variables: str) -> str:
    """What the block prints that begins with the comment `name`."""
    (block,) = re.findall(rf"^```sh\n# {name}[^\n]*\n(.*?)^```$", PAGE, re.M | re.S)
    done = subprocess.run(
        ["sh", "-euc", block], cwd=at, env={**os.environ, **variables},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not shutil.which("redis-cli"), reason="there is no redis-cli")
def test_users_are_added_to_a_redis_that_runs_and_loaded_from_then_on(
    kind: Kind | str, folder: Path, shipments: Made, tmp_path: Path
) -> None:
    if isinstance(kind, str):
        pytest.skip(f"no {kind} is on this machine")
    version = "6.2" if kind.program == "redis-6.2" else "7"
    words = ["--output", str(tmp_path / "acl"), "--server", version]
    with kind.start() as server:
        acl(folder, *words, "--redis", server.url)
        said = follow("users beside", tmp_path, FACTFOLD_REDIS_URL=server.url)
        assert set(said.split()) == {"OK"}
        with redis.Redis.from_url(server.url) as anybody:
            assert {*anybody.acl_users()} >= {*USERS, "default"}
        with redis.Redis.from_url((tmp_path / "acl/orders.url").read_text().strip()) as orders:
            assert orders.ping()
    file = tmp_path / "users.acl"
    shutil.copy(tmp_path / "acl/users.acl", file)
    with kind.start("--aclfile", str(file)) as server:
        acl(folder, *words, "--redis", server.url)
        assert follow("a Redis that begins", tmp_path, ACLFILE=str(file)) == "OK\n"
        with redis.Redis.from_url(server.url) as anybody, pytest.raises(redis.AuthenticationError):
            anybody.ping()
