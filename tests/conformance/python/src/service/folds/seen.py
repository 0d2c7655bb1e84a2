import zlib

from service import contract
from service.views import probe

from factfold_chassis import Fact, fold


def order(before: int, fact: Fact) -> int:
    place = fact.position
    return zlib.crc32(f"{place.ms}-{place.n}".encode(), before)


def _seen(row: contract.Seen | None, number: int, fact: Fact) -> contract.Seen:
    row = row or contract.Seen()
    return contract.Seen(
        facts=row.facts + 1,
        last_number=number,
        order=order(row.order, fact),
    )


@fold(contract.Input, into=probe.INPUTS)
def input_seen(row: contract.Seen | None, event: contract.Input, fact: Fact) -> contract.Seen:
    return _seen(row, event.number, fact)


@fold(contract.Output, into=probe.OUTPUTS)
def output_seen(row: contract.Seen | None, event: contract.Output, fact: Fact) -> contract.Seen:
    return _seen(row, event.number, fact)
