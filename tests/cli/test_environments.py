"""One environment for each lock content, made once."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from factfold_cli.discovery import ServiceFolder
from factfold_cli.environments import environment
from factfold_cli.errors import Failed


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
