"""The README's way to a service of one's own."""

import re
import subprocess
import sys
from pathlib import Path

from factfold_cli.discovery import discover

from .running import plain_environment

ROOT = Path(__file__).resolve().parents[2]


def test_services_are_made_beside_the_clone(tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text("utf-8").partition("\n## Make a service\n")[2]
    block = re.search(r"^```\n(.*?)^```$", section, re.M | re.S)
    assert block is not None
    activate, *lines, up = block[1].splitlines()
    assert (activate, up) == (". .venv/bin/activate", "factfold up")
    clone = tmp_path / "clone"
    clone.mkdir()
    path = f"{Path(sys.executable).parent}:{plain_environment()['PATH']}"
    done = subprocess.run(
        ["sh", "-ec", "\n".join([*lines, "pwd"])],
        cwd=clone,
        env=plain_environment() | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert list(clone.iterdir()) == []
    made = discover([Path(done.stdout.splitlines()[-1])])
    assert sorted(folder.name for folder in made) == ["orders", "shipments"]
