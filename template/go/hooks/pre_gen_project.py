"""What a service may be called. Cookiecutter runs this file; `factfold new` imports it.

Standard library only, because plain cookiecutter runs it with whatever Python it has.
"""

import json
import re
import sys
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

LONGEST = 60
LONGEST_AGGREGATE = 40
LONGEST_DESCRIPTION = 200


def name_problem(name: str) -> str | None:
    """One line on why `name` cannot be a service's name, or None."""
    kinds = {unicodedata.category(character)[0] for character in name if character not in " -_"}
    if not name:
        why = "is empty"
    elif len(name) > LONGEST:
        why = f"has {len(name)} characters, {len(name) - LONGEST} too many"
    elif unicodedata.category(name[0])[0] != "L":
        why = "does not start with a letter"
    elif not kinds <= set("LMN"):
        why = "has other characters than letters, digits, spaces, - and _"
    else:
        return None
    return _said(
        "service name", name, why, f"letters, digits, spaces, - and _, a letter first, {LONGEST}"
    )


def slug_problem(slug: str) -> str | None:
    """One line on why `slug` cannot be the folder's name, or None."""
    if re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", slug) and len(slug) <= LONGEST:
        return None
    return _said(
        "folder name", slug, "is no slug", f"a-z, 0-9 and single -, a letter first, {LONGEST}"
    )


def organisation_problem(organisation: str) -> str | None:
    """One line on why `organisation` cannot be the root of a proto package, or None."""
    word = "[a-z][a-z0-9_]*"
    if re.fullmatch(rf"{word}(\.{word})*", organisation) and len(organisation) <= LONGEST:
        return None
    return _said(
        "organisation",
        organisation,
        "is no root of a proto package",
        f"lower-case words of a-z, 0-9 and _ with dots between, such as com.example, {LONGEST}",
    )


def aggregate_problem(aggregate: str, reserved: list[str]) -> str | None:
    """One line on why `aggregate` cannot be a message's name, or None."""
    if not re.fullmatch("[A-Z][A-Za-z0-9]*", aggregate) or len(aggregate) > LONGEST_AGGREGATE:
        why = "is no name of a message"
    elif aggregate.lower() in reserved:
        why = "is a reserved word"
    else:
        return None
    return _said(
        "aggregate",
        aggregate,
        why,
        f"letters and digits, a capital first, such as OrderItem, {LONGEST_AGGREGATE}",
    )


def description_problem(description: str) -> str | None:
    """One line on why `description` cannot be one line of text, or None."""
    if len(description) > LONGEST_DESCRIPTION:
        why = f"has {len(description)} characters"
    elif not description.isprintable():
        why = "has line breaks or control characters"
    else:
        return None
    return _said("description", description, why, f"one line of text, {LONGEST_DESCRIPTION}")


def problem(answers: Mapping[str, Any]) -> str | None:
    """One line on the first of cookiecutter's answers that cannot be used, or None."""
    return (
        name_problem(answers["service_name"])
        or slug_problem(answers["service_slug"])
        or organisation_problem(answers["organisation"])
        or aggregate_problem(answers["aggregate"], answers["_reserved"])
        or description_problem(answers["description"])
    )


def _said(what: str, value: str, why: str, use: str) -> str:
    shown = value if len(value) <= LONGEST else value[:LONGEST] + "…"
    return f"the {what} {shown!r} {why}; use {use} characters at most"


if __name__ == "__main__":
    # Percent-encoded, so that an answer can be nothing but the inside of a string here.
    refusal = problem(json.loads(unquote("{{ cookiecutter | tojson | urlencode }}")))
    if refusal:
        sys.exit(f"factfold: {refusal}")
