"""What a person sees: coloured with a spinner on a terminal, plain lines when piped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from urllib.parse import urlsplit

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_red")
# A pipe has no width; a trace's lines must not be folded at 80 columns.
_PIPE_WIDTH = 240


class Output:
    """Writes to stdout, or to stderr where stdout belongs to a document."""

    def __init__(self, *, to_stderr: bool = False) -> None:
        console = Console(stderr=to_stderr, highlight=False)
        if not console.is_terminal:
            console = Console(stderr=to_stderr, highlight=False, width=_PIPE_WIDTH)
        self._console = console
        self._colours = cycle(_COLOURS)
        self._prefixes: dict[str, str] = {}
        self._width = 0

    @property
    def watched(self) -> bool:
        return self._console.is_terminal

    def name(self, name: str) -> None:
        """Gives a service its colour, and its place in the column of prefixes."""
        self._prefixes.setdefault(name, next(self._colours))
        self._width = max(self._width, len(name))

    def say(self, text: str | Text, style: str = "") -> None:
        """A line that the terminal folds where its screen ends, so that it is copied whole."""
        line = text if isinstance(text, Text) else Text(text, style)
        self._console.print(line, soft_wrap=True)

    def of(self, name: str, text: str, style: str = "") -> None:
        """A line of the service `name`, behind its prefix."""
        prefix = (f"{name:<{self._width}} | ", self._prefixes.get(name, ""))
        self._console.print(Text.assemble(prefix, (text, style)), soft_wrap=True)

    @property
    def columns(self) -> int:
        return self._console.width

    def line(self, text: Text) -> None:
        """One line, cut where the screen ends."""
        self._console.print(text, no_wrap=True, overflow="ellipsis")

    def show(self, what: RenderableType) -> None:
        self._console.print(what)

    @contextmanager
    def redrawn(self) -> Iterator[Callable[[RenderableType], None]]:
        """Shows what it yields is given in the place of what was shown before."""
        with Live(console=self._console, auto_refresh=False) as live:
            yield lambda what: live.update(what, refresh=True)

    @contextmanager
    def busy(self, text: str) -> Iterator[Callable[[str], None]]:
        """A spinner with the text last given to what it yields; when piped, `text` alone."""
        if not self.watched:
            self.say(text)
            yield lambda _: None
            return
        with self._console.status(Text(text)) as status:
            yield lambda text: status.update(Text(text))


def address_of(url: str) -> str:
    """`url` without user and password: fit to be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
