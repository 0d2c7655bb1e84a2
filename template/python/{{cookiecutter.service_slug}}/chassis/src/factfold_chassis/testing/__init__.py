"""The testing kit: a real Redis, the service in this process, its spans, folding without a server.

The fixtures are in `factfold_chassis.testing.plugin`. `golden_facts` are those of released
contracts.
"""

from factfold_chassis.testing.errors import violations
from factfold_chassis.testing.folding import Folded, fold_facts
from factfold_chassis.testing.golden import GoldenFact, golden_facts
from factfold_chassis.testing.running import Running
from factfold_chassis.testing.spans import SpanRecorder

__all__ = [
    "Folded",
    "GoldenFact",
    "Running",
    "SpanRecorder",
    "fold_facts",
    "golden_facts",
    "violations",
]
