"""What is made before a start: environments, once for each lock content, and Go's stubs."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from factfold_cli.discovery import ServiceFolder
from factfold_cli.environments import environment
from factfold_cli.errors import Failed
from factfold_cli.launchers import launcher


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "factfold" / "environments"


def service(folder: Path, name: str, lock: str = "") -> ServiceFolder:
    requirements = folder / name / "requirements"
    requirements.mkdir(parents=True)
    (requirements / "run.txt").write_text(lock)
    (requirements / "build.txt").write_text("# nothing\n")
    return ServiceFolder(name, folder / name, "python")


def make(*folders: ServiceFolder, said: list[str] | None = None) -> list[Path]:
    async def all_at_once() -> list[Path]:
        say = (said if said is not None else []).append
        return await asyncio.gather(*(environment(folder, say) for folder in folders))

    return asyncio.run(all_at_once())


def test_equal_locks_share_one_that_is_made_once(tmp_path: Path, cache: Path) -> None:
    said: list[str] = []
    one, two = service(tmp_path, "one"), service(tmp_path, "two")
    other = service(tmp_path, "other", "# differs\n")
    made = make(one, two, other, said=said)
    assert made[0] == made[1] != made[2]
    assert len(said) == 2
    assert {text.partition(": ")[2] for text in said} == {
        "making its environment, once for this lock"
    }
    done = subprocess.run([made[0], "-c", "import sys; print(sys.prefix)"], capture_output=True)
    assert Path(done.stdout.decode().strip()) == made[0].parent.parent
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 2


def test_interrupted_one_is_made_again(tmp_path: Path) -> None:
    folder = service(tmp_path, "one")
    (python,) = make(folder)
    (python.parent.parent / "complete").unlink()
    (python.parent.parent / "left over").touch()
    assert make(folder) == [python]
    assert not (python.parent.parent / "left over").exists()


def test_failed_install_says_why_and_is_tried_again(tmp_path: Path, cache: Path) -> None:
    folder = service(tmp_path, "one", "factfold-no-such-package==1.0\n")
    for _ in range(2):
        with pytest.raises(Failed) as caught:
            make(folder)
        assert caught.value.format_message() == (
            "one: its packages were not installed: "
            "No matching distribution found for factfold-no-such-package==1.0"
        )
    assert not list(cache.glob("*/complete"))


def test_missing_lock_is_named(tmp_path: Path) -> None:
    folder = service(tmp_path, "one")
    (folder.path / "requirements" / "build.txt").unlink()
    with pytest.raises(Failed) as caught:
        make(folder)
    assert caught.value.format_message() == (
        f"one: {folder.path / 'requirements' / 'build.txt'} cannot be read: restore it"
    )


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a `go` that makes nothing was asked for; it fails with what the file broken says."""
    asked = tmp_path / "asked"
    script = tmp_path / "path" / "go"
    script.parent.mkdir()
    script.write_text(
        "#!/bin/sh\n"
        '[ "$1" = env ] && echo go1.26.0 && exit\n'
        f'echo "$1" >> {asked}\n'
        f"[ ! -e {tmp_path}/broken ] || {{ cat {tmp_path}/broken; exit 1; }}\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    return asked


def in_go(folder: Path) -> ServiceFolder:
    for path in ("gen/stubs.pb.go", "protos/contract.proto", "chassis/protos/fact.proto"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return ServiceFolder("orders", folder, "go")


def prepare(service: ServiceFolder) -> tuple[str, ...]:
    return asyncio.run(launcher(service).prepare(lambda _: None)).command


def test_go_stubs_are_made_when_the_contract_is_newer(tmp_path: Path, asked: Path) -> None:
    service = in_go(tmp_path / "orders")
    stubs, contract = service.path / "gen/stubs.pb.go", service.path / "protos/contract.proto"
    later = stubs.stat().st_mtime + 60
    os.utime(stubs, (later, later))
    assert prepare(service) == (str(service.path / "bin/service"),)
    assert asked.read_text().split() == ["build"]
    os.utime(contract, (later + 1, later + 1))
    prepare(service)
    assert asked.read_text().split() == ["build", "generate", "build"]
    # One that changed while they were made is newer than they are.
    assert stubs.stat().st_mtime == contract.stat().st_mtime


@pytest.mark.usefixtures("asked")
def test_the_first_message_of_the_compiler_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text(
        "go: downloading example.com/module v1.0.0\n# service/internal/app\n"
        "internal/app/app.go:7:2: undefined: one\ninternal/app/app.go:8:2: undefined: two\n"
    )
    service = in_go(tmp_path / "orders")
    (service.path / "gen/stubs.pb.go").unlink()
    with pytest.raises(Failed) as caught:
        prepare(service)
    assert caught.value.format_message() == (
        "orders: no stubs were made: internal/app/app.go:7:2: undefined: one"
    )


def test_without_go_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Failed) as caught:
        prepare(in_go(tmp_path / "orders"))
    assert caught.value.format_message() == (
        "orders: no Go 1.26 or newer is on PATH: see https://go.dev/doc/install"
    )
