"""The floor of a rebuild: redis-benchmark reads the first 1,000 facts again and again.

usage: PROGRAM URL STREAM; one connection, one command after the other, nothing parsed
"""

import subprocess
import sys
import time
from urllib.parse import urlsplit

from bench.programs.turns import Answer, take_turns

program, url, stream = sys.argv[1:]
ENTRIES = 1000
COMMAND = ["XRANGE", f"{{{stream}/0}}:log", "-", "+", "COUNT", str(ENTRIES)]

rate = 1_000_000.0


def turn(seconds: float) -> Answer:
    global rate
    calls = max(1, int(rate * seconds / ENTRIES))
    where = ["-p", str(urlsplit(url).port), "-c", "1", "-n", str(calls), "-q"]
    began = time.perf_counter()
    subprocess.run([program, *where, *COMMAND], check=True, stdout=subprocess.DEVNULL)
    rate = calls * ENTRIES / (time.perf_counter() - began)
    return {"value": rate}


take_turns(turn)
