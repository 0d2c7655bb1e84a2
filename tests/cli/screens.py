"""`factfold` run in a terminal, with a person who watches and types."""

import os
import pty
import re
import select
import subprocess
import time

from .running import FACTFOLD, plain_environment


def watched(
    *arguments: str, columns: int = 100, types: str = "", **environment: str
) -> tuple[int, str]:
    """Exit code and screen of a command; the person has typed an answer before it is asked."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*FACTFOLD, *arguments],
        env=plain_environment() | {"COLUMNS": str(columns), "TERM": "xterm"} | environment,
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    os.write(leader, types.encode())
    seen, deadline = b"", time.monotonic() + 30
    while time.monotonic() < deadline:
        if not select.select([leader], [], [], 0.1)[0]:
            continue
        try:
            seen += os.read(leader, 65536)
        except OSError:  # how Linux says that nobody has the terminal open any more
            break
    os.close(leader)
    return process.wait(10), seen.decode().replace("\r\n", "\n")


def plain(screen: str) -> list[str]:
    """The lines of a screen without its colours."""
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", screen).split("\n")]
