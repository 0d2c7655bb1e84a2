"""What the code has and the contract has no longer, or not so."""

from collections.abc import Iterator

from factfold_cli.languages.protocol import HANDLERS
from factfold_cli.repository import Repository, plain


def leftovers(repository: Repository) -> Iterator[str]:
    """One line on each handler, fold and reaction that fits nothing in the contract."""
    rpcs = {plain(rpc.name): rpc for rpc in repository.known.rpcs}
    events = {name for stream in repository.known.streams.values() for name in stream.events}
    for part in repository.code.parts:
        if part.kind in HANDLERS:
            if (rpc := rpcs.get(plain(part.name))) is None:
                yield (
                    f"{part.path}: the handler {part.name} answers no RPC of the contract;"
                    " remove it, or name it after one"
                )
            elif rpc.kind is not None and part.kind not in (rpc.kind, "handler"):
                yield (
                    f"{part.path}: the handler {part.name} is a"
                    f" {repository.language.shown_kind(part.kind)}, and {rpc.name} needs a"
                    f" {repository.language.needed_kind(rpc.kind)}; change it"
                )
            continue
        for event in part.events:
            name = event.rpartition(".")[2]
            message = repository.message(event)
            if message and message not in events:
                yield (
                    f"{part.path}: the {part.kind} {part.name} is of {name}, which is no event of"
                    " the contract; remove it, or mark the message as one"
                )
            elif not message and repository.of_a_contract(repository.code.origin(event)):
                yield (
                    f"{part.path}: the {part.kind} {part.name} is of {name}, which the contract"
                    " no longer has; remove it, or take the message back"
                )
