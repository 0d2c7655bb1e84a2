"""Notices when the whole machine stands still, as virtual ones do: then nobody is to blame."""

import threading
import time
from typing import Self

LOOK = 0.05  # seconds
LONG = 0.5  # seconds: so long nobody has to wait for a core here


class Pauses:
    """Watches from entering to leaving; `count` are those until now."""

    def __init__(self) -> None:
        self.count = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._end.wait(LOOK):
            now = time.monotonic()
            self.count += now - before > LONG
            before = now
