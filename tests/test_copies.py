import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.mark.parametrize("name", ["copy_common.py", "settings_table.py"])
def test_what_is_made_equals_its_masters(name: str) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPTS / name, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (
        f"{done.stdout}{done.stderr}differ from their masters: run `python scripts/{name}`"
    )
