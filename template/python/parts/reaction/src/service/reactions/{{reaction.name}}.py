"""What is done about {{reaction.event_name}}{{reaction.whose}}. It may happen again after a crash."""

from factfold_chassis import Outputs, Reacting, reaction

{{reaction.imports}}

@reaction(
    {{reaction.event}},
)
async def {{reaction.name}}(
    event: {{reaction.event}},
    call: Reacting,
) -> Outputs:
    raise NotImplementedError(
        "{{reaction.name}} does nothing yet: write src/service/reactions/{{reaction.name}}.py",
    )
