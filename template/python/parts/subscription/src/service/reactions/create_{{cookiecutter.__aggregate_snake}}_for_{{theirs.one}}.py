"""Answers a fact of {{theirs.name}} with one of our own under the same id, once."""

from factfold_chassis import Append, Outputs, Reacting, reaction

import service.subscriptions.{{theirs.ident}} as theirs
from service import contract


@reaction(theirs.{{theirs.aggregate}}Created)
async def create_{{cookiecutter.__aggregate_snake}}_for_{{theirs.one}}(
    event: theirs.{{theirs.aggregate}}Created,
    call: Reacting,
) -> Outputs:
    # A fact with a cause is an answer itself: two services would answer each other for ever.
    if call.fact.cause is not None:
        return None
    created = contract.{{cookiecutter.aggregate}}Created(
        id=event.id,
        name=event.name,
    )
    return Append(created, expected_version=0)
