from factfold_chassis import Reacting
from factfold_chassis.testing import Running

import service.reactions.{{reaction.name}} as reactions
{{reaction.imports}}

async def test_nothing_is_appended(running: Running) -> None:
    event = {{reaction.event}}({{reaction.given}})
    await running.publish(
        event,
{{reaction.versions}}    )
    facts = await running.facts("{{reaction.stream}}")
    fact = next(fact for fact, found in facts if found == event)
    call = Reacting(running.core, fact)
    outputs = await reactions.{{reaction.name}}(
        event,
        call,
    )
    assert outputs is None
