"""Times and ages, as people and programs read them."""

from datetime import UTC, datetime


def duration(seconds: float) -> str:
    """In the largest unit of which there is one."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0, seconds) // 1:.0f} s"


def iso(seconds: float) -> str:
    """A Unix time in UTC, to the second."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
