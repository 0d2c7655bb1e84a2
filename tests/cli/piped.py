"""`factfold` run in the tests' own process: the same in all but a person, and quicker."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from factfold_cli.main import main


def piped(*arguments: str | Path, at: Path) -> subprocess.CompletedProcess[str]:
    """What `factfold …` prints in the folder `at`, and its exit code."""
    words = [str(word) for word in arguments]
    out, err = io.StringIO(), io.StringIO()
    code = None
    with (
        open(os.devnull) as nothing,
        contextlib.chdir(at),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "stdin", nothing)
        try:
            main(words)
        except SystemExit as ended:
            code = ended.code
    return subprocess.CompletedProcess(words, int(code or 0), out.getvalue(), err.getvalue())
