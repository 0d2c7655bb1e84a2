"""Each turn is one run of a program in a process of its own.

usage: fresh PROGRAM [ARGUMENT…]; its answer is the last line that it prints
"""

import json
import subprocess
import sys

from bench.programs.turns import Answer, take_turns

program, *arguments = sys.argv[1:]


def turn(seconds: float) -> Answer:
    command = [sys.executable, "-m", f"bench.programs.{program}", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer: Answer = json.loads(done.stdout.splitlines()[-1])
    return answer


take_turns(turn)
