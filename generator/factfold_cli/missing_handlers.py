"""RPCs without a handler: a file for each, and a test that fails until it is written."""

from collections.abc import Iterator

from factfold_cli.declared import Rpc
from factfold_cli.repository import Repository, plain


def missing_handlers(repository: Repository, notes: list[str]) -> Iterator[dict[str, bytes]]:
    """The files for each RPC without handler; what cannot be made is one of `notes`."""
    seen = {plain(name) for name in repository.code.answering()}
    wanted: dict[str, Rpc] = {}
    for rpc in repository.known.rpcs:
        name = plain(rpc.name)
        if (other := wanted.setdefault(name, rpc)) is not rpc:
            notes.append(
                f"{rpc.full_name}: the handler of {other.full_name} has the same name;"
                " rename one of the RPCs"
            )
        elif rpc.kind is None:
            notes.append(
                f"{rpc.full_name}: streams of requests are not supported; let it take one request"
            )
        elif name not in seen:
            yield _handler(repository, rpc, rpc.kind, notes)


def _handler(repository: Repository, rpc: Rpc, kind: str, notes: list[str]) -> dict[str, bytes]:
    language = repository.language
    handler = language.handler_paths(rpc.name)[0]
    if (repository.root / handler).exists():
        notes.append(
            f"{handler}: exists and has no handler of {rpc.full_name};"
            f" write {language.to_write(rpc, kind)} there"
        )
    elif why := language.no_handler(repository, rpc):
        notes.append(f"{rpc.full_name} has no handler, and {why}")
    else:
        return language.handler(repository, rpc, kind)
    return {}
