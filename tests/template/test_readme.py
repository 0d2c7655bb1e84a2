"""The two commands of a generated README, in a clean clone with Python and git alone."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from .conftest import Generated

# A fixed port is for people: two tests may run at once.
ANY_PORT = {"FACTFOLD_LISTEN": "127.0.0.1:0"}


@pytest.fixture
def clone(generate: Callable[..., Generated], tmp_path: Path) -> Path:
    service = generate("Stock Keeper").root
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@localhost", "-C", str(service)]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *arguments], check=True)
    subprocess.run(["git", "clone", "-q", service, tmp_path / "clone"], check=True)
    return tmp_path / "clone"


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH has Python, git and a shell, and so no Redis."""
    path = tmp_path / "path"
    path.mkdir()
    (path / "python3").symlink_to(Path(sys.executable).resolve())
    for name in ("git", "sh"):
        (path / name).symlink_to(shutil.which(name) or name)
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return pip | {"PATH": str(path), "HOME": str(tmp_path), "LANG": "C.UTF-8"}


def commands(clone: Path) -> list[str]:
    return re.findall(r"^```sh\n(.*)\n```", (clone / "README.md").read_text(), re.M)[:2]


def test_both_work_and_leave_nothing_behind(clone: Path, bare: dict[str, str]) -> None:
    run, test = commands(clone)
    prepare, _, serve = run.rpartition(" && ")
    assert test.startswith(prepare)
    done = subprocess.run(["sh", "-c", test], cwd=clone, env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with subprocess.Popen(
        ["sh", "-c", f"exec {serve}"],
        cwd=clone,
        env=bare | ANY_PORT,
        stderr=subprocess.PIPE,
        text=True,
    ) as service:
        assert service.stderr is not None
        serving = next(line for line in service.stderr if '"serving"' in line)
        (address,) = re.findall(r'"address": "(.+?)"', serving)
        with grpc.insecure_channel(address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            answer = health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        service.send_signal(signal.SIGINT)
        service.stderr.read()
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert service.returncode == 0
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=clone, check=True, capture_output=True, text=True
    )
    assert status.stdout == ""
