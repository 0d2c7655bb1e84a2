from service import contract

from factfold_chassis import Append, Outputs, Reacting, reaction


@reaction(contract.Output)
async def confirm(event: contract.Output, call: Reacting) -> Outputs:
    moved = contract.Moved(key=event.key, number=event.number)
    return [Append(moved, expected_version=0)]
