"""What a language has to say about running a service: how it is prepared, started and watched."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

Say = Callable[[str], None]


class Launch(NamedTuple):
    """The command that runs a service, and what it finds in its environment beside the settings."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


class Launcher(Protocol):
    """Of one service, for as long as `factfold` runs."""

    async def prepare(self, say: Say) -> Launch:
        """Makes what the service needs, anew where it has changed since the last time.

        `say` is told how far it is. Raises Failed; then what was made before still runs.
        """

    def watched(self) -> list[Path]:
        """The folders and files that a running service is made from, as far as they are there."""

    def runs_from(self, path: Path) -> bool:
        """Whether the file at `path`, one in `watched`, is such a one itself."""
