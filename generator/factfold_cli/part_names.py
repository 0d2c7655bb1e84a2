"""What RPCs, messages, fields, views and reactions may be called."""

import keyword
import re
from collections.abc import Sequence

from factfold_cli.errors import Refused
from factfold_cli.names import snake
from factfold_cli.render import variables

LONGEST = 60
_SNAKE = r"[a-z][a-z0-9]*(_[a-z0-9]+)*"
_SNAKE_RULE = "a-z, 0-9 and single _, a letter first"
_CAMEL_RULE = "letters and digits, a capital first, such as {}"
# What the module of the contract has beside the contract's own names.
_OF_STUBS = ("DESCRIPTOR", "DESCRIPTORS")
_QUERIES = ("Count", "Describe", "Fetch", "Find", "Get", "List", "Query", "Read", "Search", "Show")


def field_problem(name: str) -> str | None:
    """One line on why `name` cannot be a field's name, or None.

    Only Python's keywords are refused: protoc's other languages have their own way around theirs.
    """
    if not re.fullmatch(_SNAKE, name) or len(name) > LONGEST:
        return _said("field", name, "is not in snake case", _SNAKE_RULE)
    if keyword.iskeyword(name):
        return _said("field", name, "is a keyword of Python", f"another name of {_SNAKE_RULE}")
    return None


def check_camel(what: str, name: str, example: str, language: str) -> None:
    """Raises Refused if `name` cannot be that of a message or an RPC."""
    rule = _CAMEL_RULE.format(example)
    if not re.fullmatch("[A-Z][A-Za-z0-9]*", name) or len(name) > LONGEST:
        raise Refused(_said(what, name, "is not in camel case", rule))
    reserved = variables(language, {})["_reserved"]
    if name.lower() in reserved or snake(name) in reserved or name in _OF_STUBS:
        raise Refused(_said(what, name, "is a reserved word", f"another name of {rule}"))


def check_snake(what: str, name: str, language: str, taken: Sequence[str] = ()) -> None:
    """Raises Refused if `name` cannot be that of a Python module and of what is in it.

    `taken` are names that the module has for something else.
    """
    if not re.fullmatch(_SNAKE, name) or len(name) > LONGEST:
        raise Refused(_said(what, name, "is not in snake case", _SNAKE_RULE))
    if name in (*taken, *variables(language, {})["_reserved"]):
        raise Refused(_said(what, name, "is a reserved word", f"another name of {_SNAKE_RULE}"))


def kind_of(rpc: str) -> str:
    """What the RPC's name says it is: "query", "watch" or "command"."""
    first = snake(rpc).partition("_")[0].capitalize()
    return "query" if first in _QUERIES else "watch" if first == "Watch" else "command"


def _said(what: str, name: str, why: str, use: str) -> str:
    shown = name if len(name) <= LONGEST else name[:LONGEST] + "…"
    if len(name) > LONGEST:
        why = f"has {len(name)} characters, {len(name) - LONGEST} too many"
    return f"the {what} name {shown!r} {why}; use {use}, {LONGEST} characters at most"
