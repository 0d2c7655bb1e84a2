"""What a story of a repository is: what was done to it, and the tree that each step left."""

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .conftest import factfold


@dataclass
class Story:
    """What has happened to the repository `root` so far.

    `check` builds and tests it; `told` is what is approved: path, mode and zone, `+` new, `~` other
    content, `-` gone.
    """

    root: Path
    check: Callable[[Path], None]
    told: list[str] = field(default_factory=list)
    tree: dict[str, tuple[str, str]] = field(default_factory=dict)

    def factfold(self, *arguments: str) -> str:
        return factfold(self.root, *arguments)

    def step(self, what: str) -> None:
        """The tests are green, everything is committed, the tree is noted."""
        self.check(self.root)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", what)
        before, self.tree = self.tree, dict(self._listed())
        self.told += ["", f"# {what}", ""]
        for path in sorted({*before, *self.tree}):
            if before.get(path) != self.tree.get(path):
                mark = "-" if path not in self.tree else "~" if path in before else "+"
                shown, _ = self.tree.get(path) or before[path]
                self.told.append(f"{mark} {shown} {path}")

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=story", "-c", "user.email=story@example.com"]
        done = subprocess.run([*command, *arguments], cwd=self.root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _listed(self) -> Iterator[tuple[str, tuple[str, str]]]:
        """By path: mode and zone, then a hash of the content. What git ignores is not there."""
        manifest = json.loads((self.root / ".factfold/manifest.json").read_text())
        for line in self.git("ls-files", "--stage").splitlines():
            about, _, path = line.partition("\t")
            mode, blob, _ = about.split()
            zone = manifest["files"].get(path, {"zone": "-"})["zone"]
            yield path, (f"{mode[-3:]} {zone:6}", blob)

    def write(self, path: str, text: str) -> None:
        assert (self.root / path).exists(), path
        (self.root / path).write_text(text)

    def replace(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text()
        assert text.count(old) == 1, (path, old)
        (self.root / path).write_text(text.replace(old, new))

    def fill_in(self, path: str, begin: str, end: str, body: str) -> None:
        """Puts `body` where a scaffolded file has what begins and ends so."""
        text = (self.root / path).read_text()
        start = text.index(begin)
        behind = text.index(end, start) + len(end)
        (self.root / path).write_text(text[:start] + body + text[behind:])


class Team(Protocol):
    """Who writes in one language what the generator leaves to them."""

    def make(self, name: str) -> Path:
        """A new repository."""

    def check(self, root: Path) -> None:
        """Builds it and runs its lint and its tests, which have to be green."""

    def cancel(self, story: Story) -> None:
        """Writes the handler of CancelOrder, which renames the order, and its test."""

    def fold(self, story: Story) -> None:
        """Writes the fold of OrderCancelled, which the handler appends now, and the watch has."""

    def refund(self, story: Story) -> None:
        """Writes the reaction refund_order, which appends nothing."""
