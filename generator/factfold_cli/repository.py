"""A generated repository as a sync sees it: its contract, its code, and which names mean what."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from factfold_cli.declared import Declared, Stream
from factfold_cli.languages import of
from factfold_cli.languages.protocol import Code, Language


@dataclass(frozen=True)
class Repository:
    """The repository `root` with the contract that it has, or is going to have."""

    root: Path
    manifest: Mapping[str, Any]
    known: Declared
    code: Code

    @cached_property
    def language(self) -> Language:
        return of(self.manifest["language"])

    @cached_property
    def messages(self) -> dict[str, str]:
        """The full name of each message, by each dotted name that the code may call it by."""
        return self.language.names(self.known, self.code)

    def of_a_contract(self, dotted: str) -> bool:
        """Whether a dotted name is one of a contract, if only of a former one."""
        return self.language.of_a_contract(dotted)

    def message(self, dotted: str) -> str:
        """The full name of the message that the code calls `dotted`, "" if there is none."""
        return self.messages.get(dotted) or self.messages.get(self.code.origin(dotted), "")

    @property
    def own_streams(self) -> list[Stream]:
        return [self.known.streams[path] for path in self.known.own if path in self.known.streams]


def plain(name: str) -> str:
    """What the name of an RPC and of its handler have in common: the chassis' rule."""
    return name.replace("_", "").lower()
