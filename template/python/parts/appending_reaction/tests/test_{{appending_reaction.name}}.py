from factfold_chassis import Append, Reacting
from factfold_chassis.testing import Running

import service.reactions.{{appending_reaction.name}} as reactions
{{appending_reaction.imports}}

async def test_the_fact_is_answered(running: Running) -> None:
    event = {{appending_reaction.event}}({{appending_reaction.given}})
    await running.publish(
        event,
{{appending_reaction.versions}}    )
    facts = await running.facts("{{appending_reaction.stream}}")
    fact = next(fact for fact, found in facts if found == event)
    call = Reacting(running.core, fact)
    output = await reactions.{{appending_reaction.name}}(
        event,
        call,
    )
    assert isinstance(output, Append)
    assert output.event == {{appending_reaction.answer}}({{appending_reaction.answer_expected}})
