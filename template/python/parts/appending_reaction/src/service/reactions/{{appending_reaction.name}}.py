"""Answers {{appending_reaction.event_name}}{{appending_reaction.whose}} with a fact of our own, once."""

from factfold_chassis import Append, Outputs, Reacting, reaction

{{appending_reaction.imports}}

@reaction(
    {{appending_reaction.event}},
)
async def {{appending_reaction.name}}(
    event: {{appending_reaction.event}},
    call: Reacting,
) -> Outputs:
    raise NotImplementedError(
        "{{appending_reaction.name}} answers nothing yet: write src/service/reactions/{{appending_reaction.name}}.py",
    )
    # A new key: the same one whenever this fact is answered.
    answer = {{appending_reaction.answer}}({{appending_reaction.answer_given}})
    return Append(answer{{appending_reaction.version}})
