"""The floor of an append: redis-benchmark, 50 connections, 64 XADDs in flight on each.

usage: PROGRAM URL. It writes four fields of the same sizes, and neither makes nor keeps anything.
"""

import subprocess
import sys
import time
from urllib.parse import urlsplit

from bench.programs.callers import made
from bench.programs.empty import empty
from bench.programs.turns import Answer, take_turns

program, url = sys.argv[1:]
fields = made()[0]
command = ["XADD", "parcels", "*"]
for name, value in zip(("type", "key", "meta", "data"), fields, strict=True):
    command += [name, "x" * len(value)]
rate = 50_000.0  # a second, as of the turn before


def turn(seconds: float) -> Answer:
    global rate
    empty(url)
    facts = int(rate * seconds)
    began = time.perf_counter()
    where = ["-p", str(urlsplit(url).port), "-c", "50", "-P", "64", "-n", str(facts), "-q"]
    subprocess.run([program, *where, *command], check=True, stdout=subprocess.DEVNULL)
    rate = facts / (time.perf_counter() - began)
    return {"value": rate}


take_turns(turn)
