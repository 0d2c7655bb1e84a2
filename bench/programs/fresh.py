"""Each turn is one run of a program in a process of its own.

usage: fresh PROGRAM [ARGUMENT…]; its answer is the last line that it prints. PROGRAM is a module of
bench.programs, or the path of a program in Go
"""

import sys
from pathlib import Path

from bench.programs.turns import take_turns
from bench.rounds import once

name, *arguments = sys.argv[1:]
program = Path(name) if "/" in name else name
take_turns(lambda seconds: once(program, *arguments))
