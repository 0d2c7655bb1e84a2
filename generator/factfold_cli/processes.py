"""Commands run to their end, with their output heard."""

import asyncio
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from factfold_cli.errors import Failed

# Python reads these, and what is right for the command line's own Python is wrong for another.
_OF_THIS_PYTHON = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


def foreign_environment() -> dict[str, str]:
    """The environment for another Python than the one that runs here."""
    return {name: text for name, text in os.environ.items() if name not in _OF_THIS_PYTHON}


async def run(
    command: Sequence[str],
    folder: Path,
    failure: str,
    *,
    environment: Mapping[str, str] | None = None,
    heard: Callable[[str], None] = lambda line: None,
    reason: Callable[[Sequence[str]], str] | None = None,
) -> list[str]:
    """Runs a command in `folder`, for another Python unless `environment` says more.

    Returns its lines, which `heard` gets as they come. Raises Failed with `failure` and the line
    that says why, which `reason` finds among them. When cancelled, it ends the command.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=foreign_environment() if environment is None else environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    lines: list[str] = []
    try:
        assert process.stdout is not None
        async for line in process.stdout:
            lines.append(line.decode(errors="replace").strip())
            heard(lines[-1])
        code = await process.wait()
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    if code:
        said = [line for line in lines if line] or [f"exit code {code}"]
        raise Failed(f"{failure}: {(reason or _last_error)(said)}")
    return lines


def _last_error(said: Sequence[str]) -> str:
    errors = [line for line in said if re.search(r"\berror\b", line, re.IGNORECASE)]
    return re.sub(r"^error:\s*", "", (errors or said)[-1], flags=re.IGNORECASE)
