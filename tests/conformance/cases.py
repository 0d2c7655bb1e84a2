"""Cases as data: one file a family, and what of them is known to fail."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from faults.probe import CONFORMANCE

FOLDER = CONFORMANCE / "cases"
KNOWN = CONFORMANCE / "known_failing"
_FIELDS = {"name", "shows", "play", "steps", "between", "probe"}


@dataclass(frozen=True, eq=False)
class Case:
    """One sentence that holds for each language, or for each ordered pair of languages.

    name      the sentence
    shows     the guarantees and pitfalls of promises.toml that it is about
    pairs     whether it is about two languages
    play      the scene of the family's module that shows it; or
    steps     what is done and must follow, see steps.py
    probe     settings of the probes that the cases of its file share
    more      what else the file says, for the scene
    """

    family: str
    number: int
    name: str
    shows: tuple[str, ...]
    pairs: bool
    play: str
    steps: list[dict[str, Any]]
    probe: dict[str, str]
    more: dict[str, Any]

    @property
    def key(self) -> str:
        """A key that no other case of the family uses, nor one that begins with it."""
        return f"{self.family}-{self.number:02}"


@cache
def family(name: str) -> list[Case]:
    """The cases of one file."""
    document = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    between = document.get("between", "each")
    return [
        Case(
            name,
            number,
            told["name"],
            tuple(told.get("shows", ())),
            told.get("between", between) == "pairs",
            told.get("play", ""),
            told.get("steps", []),
            document.get("probe", {}),
            {field: value for field, value in told.items() if field not in _FIELDS},
        )
        for number, told in enumerate(document["case"], 1)
    ]


def families() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


@cache
def known_failing(language: str) -> list[str]:
    """`family: name` of each entry, or with ` [one+other]` behind it, for that pair alone."""
    path = KNOWN / f"{language}.toml"
    if not path.exists():
        return []
    entries: list[str] = tomllib.loads(path.read_text(encoding="utf-8"))["known_failing"]
    return entries


def is_known(case: Case, languages: tuple[str, ...]) -> bool:
    """Whether one of the languages is known to fail it."""
    name = f"{case.family}: {case.name}"
    pair = f"{name} [{'+'.join(languages)}]"
    return any({name, pair} & set(known_failing(language)) for language in languages)
