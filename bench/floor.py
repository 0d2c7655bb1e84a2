"""The C programs of the floor, built with the hiredis that the Python package is made from."""

import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

from bench.stage import HERE

_SOURCES = ("alloc.c", "async.c", "hiredis.c", "net.c", "read.c", "sds.c", "sockcompat.c")


def built(name: str, folder: Path) -> Path | None:
    """bench/programs/NAME.c as a program; None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    vendored = _hiredis(folder)
    program = folder / name
    sources = [str(vendored / source) for source in _SOURCES]
    source = str(HERE / "programs" / f"{name}.c")
    subprocess.run(
        [compiler, "-O2", "-o", str(program), source, *sources, f"-I{vendored}"], check=True
    )
    return program


def _hiredis(folder: Path) -> Path:
    out = folder / "hiredis"
    if not out.exists():
        what = [f"hiredis=={version('hiredis')}", "--no-binary=hiredis", "--no-deps"]
        pip = [sys.executable, "-m", "pip", "download", "-q", *what, "--dest", str(folder)]
        subprocess.run(pip, check=True)
        (archive,) = folder.glob("hiredis-*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(out, filter="data")
    (header,) = out.glob("*/vendor/hiredis/hiredis.h")
    return header.parent
