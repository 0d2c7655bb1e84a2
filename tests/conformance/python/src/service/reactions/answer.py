from service import contract
from service.reactions.told import obey, output

from factfold_chassis import Append, Outputs, Reacting, reaction


@reaction(contract.Input)
async def answer(event: contract.Input, call: Reacting) -> Outputs:
    await obey(event, call, "answer")
    outputs = [Append(output(event, call, "answer", event.key))]
    if event.do.moves:
        moved = contract.Moved(key=event.key, number=event.number)
        outputs.append(Append(moved, expected_version=event.do.expected))
    return outputs
