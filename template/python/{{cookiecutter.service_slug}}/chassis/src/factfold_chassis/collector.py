"""The garbage collector, set for a process that lives long and reads much."""

import gc

# A batch of facts is some thousand objects that are gone a moment later. With Python's 700, the
# collector looks at each batch several times over, and finds nothing: a quarter of a rebuild.
YOUNG = 10_000


def spare() -> None:
    """Call it once everything is imported: what is there now is never looked at again."""
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
