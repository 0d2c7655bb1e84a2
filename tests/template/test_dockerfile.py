"""The generated Dockerfile: linted, and replayed line by line until its service serves."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.go_tools import go

from factfold_cli.redis_server import start

from .conftest import SERVICE, Generated, factfold
from .dockerfile import ReplayError, Stage, namespace, replay, sent

NOBODY = "65532:65532"
SERVING = health_pb2.HealthCheckResponse.SERVING
needs_namespaces = pytest.mark.skipif(
    not namespace(), reason="this machine lets nobody here have mounts of their own"
)


def test_hadolint_passes() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, SERVICE / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_base_is_named_whole_and_once() -> None:
    bases = re.findall(r"^FROM (\S+)", (SERVICE / "Dockerfile").read_text(), re.M)
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", bases[0])


def test_what_docker_gets_to_see(generate: Callable[..., Generated]) -> None:
    """What makes the image, and neither secrets of the folder nor what tests leave behind."""
    root = generate("orders").root
    for path in (".env", ".venv/bin/python", "gen/x.py", "src/service/__pycache__/x.pyc"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    seen = [path.as_posix() for path in sent(root)]
    assert {path.split("/")[0] for path in seen} == {
        *("chassis", "hatch_build.py", "protos", "pyproject.toml", "requirements", "src"),
    }
    assert not [path for path in seen if "__pycache__" in path]
    assert "chassis/src/factfold_chassis/lua/append.lua" in seen


@needs_namespaces
def test_the_image_serves(generate: Callable[..., Generated], tmp_path: Path) -> None:
    context = generate("orders").root
    image = replay(context / "Dockerfile", context, tmp_path / "image")
    assert image.environment == {
        "FACTFOLD_LISTEN": f"0.0.0.0:{image.ports[0]}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    check_it_serves(image, tmp_path, lambda: check_what_is_in_it(image))


@needs_namespaces
def test_the_image_of_a_go_service_is_one_program_that_serves(tmp_path: Path) -> None:
    go()
    factfold(tmp_path, "new", "orders", "--language", "go", "--no-input")
    context = tmp_path / "orders"
    image = replay(context / "Dockerfile", context, tmp_path / "image")
    assert image.environment == {"FACTFOLD_LISTEN": f"0.0.0.0:{image.ports[0]}"}
    files = [path for path in image.root.rglob("*") if path.is_file()]
    assert sorted(f"/{path.relative_to(image.root)}" for path in files) == [
        "/etc/ssl/certs/ca-certificates.crt",
        "/service",
    ]
    check_it_serves(image, tmp_path)


def check_it_serves(image: Stage, folder: Path, before: Callable[[], None] = lambda: None) -> None:
    """As its user, who is nobody and has no rights, with a root that is read-only."""
    assert image.user == NOBODY
    assert len(image.ports) == 1
    if os.getuid() != 0:
        # There is one user only in a namespace of another's.
        image.user = "0:0"
    before()
    volume = folder / "volume"
    shutil.copytree(image.path("/snapshots"), volume)
    if os.getuid() == 0:
        # As Docker does with an empty volume: it takes the owner of what it covers.
        owner = image.path("/snapshots").stat()
        os.chown(volume, owner.st_uid, owner.st_gid)
    with start() as server:
        command = image.command(
            image.entrypoint,
            volume=volume,
            read_only=True,
            FACTFOLD_LISTEN="127.0.0.1:0",
            FACTFOLD_REDIS_URL=server.url,
            FACTFOLD_SNAPSHOT_DIR="/snapshots",
        )
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
            try:
                assert service.stderr is not None
                said: list[str] = []
                for line in service.stderr:
                    said.append(line)
                    if '"serving"' in line:
                        break
                else:
                    pytest.fail("".join(said))
                with grpc.insecure_channel(json.loads(said[-1])["address"]) as channel:
                    health = health_pb2_grpc.HealthStub(channel)
                    answer = health.Check(health_pb2.HealthCheckRequest(), timeout=10)
                    assert answer.status == SERVING
                status = Path(f"/proc/{service.pid}/status").read_text()
            finally:
                service.terminate()
                service.stderr.read()
    assert service.returncode == 0
    assert list(volume.rglob("*"))
    if os.getuid() == 0:
        assert re.search(r"^Uid:\t65532\t65532", status, re.M)
        assert re.search(r"^CapEff:\t0+$", status, re.M)


def check_what_is_in_it(image: Stage) -> None:
    """Bytecode, and nothing to compile with."""
    for name in ("cc", "gcc", "g++", "clang", "ld", "make"):
        with pytest.raises(ReplayError):
            image.run([name, "--version"])
    programs = {path.name for path in image.path("/opt/service/bin").iterdir()}
    assert not {name for name in programs if re.match(r"pip|protoc|buf", name)}
    packages = image.path("/opt/service/lib")
    assert not list(packages.rglob("grpc_tools"))
    sources = list(packages.glob("*/site-packages/service/**/*.py"))
    assert sources
    for source in sources:
        assert list((source.parent / "__pycache__").glob(f"{source.stem}.*.pyc")), source
