"""Runs a command again and again, into a new folder each time.

usage: repeated FOLDER COMMAND…; {} in the command is the new folder
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.programs.turns import Answer, take_turns

folder, *command = sys.argv[1:]


def once() -> float:
    out = tempfile.mkdtemp(dir=folder)
    began = time.perf_counter()
    filled = [word.replace("{}", out) for word in command]
    done = subprocess.run(filled, capture_output=True, text=True)
    took = time.perf_counter() - began
    if done.returncode or not any(Path(out).iterdir()):
        raise RuntimeError(f"{command} has made nothing: {done.stderr}")
    shutil.rmtree(out)
    return took


def turn(seconds: float) -> Answer:
    took: list[float] = []
    while sum(took) < seconds:
        took.append(once())
    return {"value": sum(took) / len(took), "runs": len(took)}


take_turns(turn)
