"""What a user answers: each answer checked by the template's own hook as soon as it is given."""

import re
from collections.abc import Mapping
from typing import Any

from factfold_cli.hooks import hook
from factfold_cli.render import variables

# Cookiecutter's names of what a user is asked, in this order.
ANSWERS = ("service_name", "organisation", "aggregate", "description")


def problem(language: str, answers: Mapping[str, str], latest: str) -> str | None:
    """One line on why the answer named `latest` cannot be used beside the others, or None."""
    rules: Any = hook(language, "pre_gen_project")
    answer = answers[latest]
    found: str | None
    match latest:
        case "service_name":
            found = rules.name_problem(answer) or rules.slug_problem(slug(language, answer))
        case "organisation":
            found = rules.organisation_problem(answer)
        case "aggregate":
            found = rules.aggregate_problem(answer, variables(language, answers)["_reserved"])
        case _:
            found = rules.description_problem(answer)
    return found


def slug(language: str, name: str) -> str:
    """The folder of the service called `name`."""
    return str(variables(language, {"service_name": name})["service_slug"])


def snake(name: str) -> str:
    """A name such as OrderCancelled in snake case, as the templates write it."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
