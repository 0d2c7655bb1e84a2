"""Generated services in Go, and how their commands are run."""

import os
import subprocess
from pathlib import Path

from factfold_cli.redis_server import find

from .conftest import factfold


def made(here: Path, name: str, *arguments: str) -> Path:
    """`factfold new NAME …` in Go below the folder `here`, then its stubs."""
    before = set(here.iterdir())
    factfold(here, "new", name, "--language", "go", "--no-input", *arguments)
    (root,) = set(here.iterdir()) - before
    run(root, "go", "generate", "./...")
    return root


def environment() -> dict[str, str]:
    # FACTFOLD_REQUIRE is of these tests: a service refuses settings that it does not know.
    ours = {name: text for name, text in os.environ.items() if not name.startswith("FACTFOLD_")}
    return ours | {
        # Known by its path, so that no test of the service is skipped.
        "FACTFOLD_REDIS_SERVER": str(find()),
        # What was compiled in one folder is not compiled again in the next.
        "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -trimpath".strip(),
    }


def tried(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True)


def run(root: Path, *command: str) -> str:
    done = tried(root, *command)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout
