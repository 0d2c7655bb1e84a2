"""Each turn is one run of a program in a process of its own.

usage: fresh PROGRAM [ARGUMENT…]; its answer is the last line that it prints
"""

import sys

from bench.programs.turns import take_turns
from bench.rounds import once

take_turns(lambda seconds: once(*sys.argv[1:]))
