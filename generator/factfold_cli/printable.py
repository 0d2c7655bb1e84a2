"""Text that others wrote, made fit for a terminal."""

import json


def printable(text: str) -> str:
    """`text` with what could move, colour or reorder a terminal's output escaped as in JSON."""
    return "".join(each if each.isprintable() else json.dumps(each).strip('"') for each in text)
