from service import contract
from service.folds.seen import order
from service.views import probe

from factfold_chassis import Fact, fold


@fold(contract.Moved, into=probe.MOVES)
def moved(row: contract.Move | None, event: contract.Moved, fact: Fact) -> contract.Move:
    return contract.Move(
        group=event.group,
        amount=event.amount,
        to=event.to,
        version=fact.version,
        order=order(row.order if row else 0, fact),
    )
