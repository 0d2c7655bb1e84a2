import random
import secrets

from service import contract
from service.reactions.told import obey, output

from factfold_chassis import Append, Outputs, Reacting, reaction


@reaction(contract.Input)
async def scatter(event: contract.Input, call: Reacting) -> Outputs:
    await obey(event, call, "scatter")
    run = secrets.token_bytes(8)
    outputs = []
    count = event.do.outputs or random.randint(1, 6)
    for index in range(count):
        made = output(event, call, "scatter", f"out-{secrets.token_hex(4)}")
        made.run, made.index, made.count = run, index, count
        made.content = secrets.token_bytes(random.randint(0, 64))
        outputs.append(Append(made))
    return outputs
