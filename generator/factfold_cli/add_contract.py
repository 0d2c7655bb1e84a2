"""`factfold add rpc` and `add event`: what is put into the contract."""

from collections.abc import Sequence

from factfold_cli.additions import Adding
from factfold_cli.contract_edit import REQUEST_ID
from factfold_cli.errors import Refused
from factfold_cli.fields import all_named, types
from factfold_cli.languages.protocol import HANDLERS
from factfold_cli.part_names import check_camel, kind_of
from factfold_cli.repository import plain
from factfold_cli.watched import watched


def add_rpc(
    adding: Adding,
    name: str,
    *,
    kind: str | None,
    fields: Sequence[str],
    returns: Sequence[str],
    service: str | None,
) -> None:
    """An RPC and its messages; `fields` and `returns` are `name:type` each.

    `kind` is "command", "query" or "watch"; None: as its name says. Raises Refused or Failed.
    """
    check_camel("RPC", name, "CancelOrder", adding.language)
    path, at = _service(adding, service)
    for rpc in adding.known.rpcs:
        # The chassis finds a handler by the name of its RPC, whatever the service and the case.
        if plain(rpc.name) == plain(name):
            raise Refused(f"the RPC {rpc.full_name!r} is there already; choose another name")
    check_name(adding, f"{name}Request")
    check_name(adding, f"{name}Response")
    handler, test = adding.repository.language.handler_paths(name)
    handlers = [part for part in adding.repository.code.parts if part.kind in HANDLERS]
    if all(plain(part.name) != plain(name) for part in handlers):
        adding.check_absent(handler)
    adding.check_absent(test)
    edit = adding.edit(path)
    read = types(adding.own_files, edit.text.file.package).field
    request = all_named(map(read, fields))
    answer = all_named(map(read, returns))
    chosen = kind or kind_of(name)
    if kind is None:
        adding.notes.append(
            f"{name} is a {chosen}, by its name; --command, --query and --watch say otherwise"
        )
    if chosen == "command" and all(each.name != REQUEST_ID.name for each in request):
        request = [REQUEST_ID, *request]
    edit.rpc(at, name, chosen)
    edit.calls(name, request, answer)
    adding.write_contract(path, edit)


def add_event(adding: Adding, name: str, *, fields: Sequence[str], key: str | None) -> None:
    """An event of the service's stream, and a member of what its watch gives out.

    `fields` are `name:type` each; `key` is one of them or the name of a further string, None: the
    key of the stream's last event. Raises Refused or Failed.
    """
    check_camel("event", name, "OrderCancelled", adding.language)
    check_name(adding, name)
    adding.check_absent(*adding.repository.language.fold_paths(name))
    stream = adding.stream
    path = stream.file
    edit = adding.edit(path)
    read = types(adding.own_files, edit.text.file.package).field
    carried = all_named(map(read, fields))
    key = key or ([*stream.events.values()] or [""])[-1] or "id"
    if all(each.name != key for each in carried):
        carried = [read(f"{key}:string"), *carried]
    for each in carried:
        if each.name == key and (each.type, each.label) != ("string", ""):
            shown = f"{each.label} {each.type}".strip()
            raise Refused(f"the key {key!r} is of {shown}; a key is a string")
    edit.event(name, carried, key)
    found = watched(edit.text.file, edit.events, name)
    if found is not None:
        edit.member(name, found)
        adding.notes += [
            f"{rpc} can give out {name} as {found.name!r}: add its case to {_watch(adding, rpc)}"
            for rpc in found.rpcs
        ]
    elif any(rpc.kind == "watch" for rpc in adding.known.rpcs):
        adding.notes.append(
            f"no watch gives out {name}: there is no oneof of events alone to put it into"
        )
    adding.write_contract(path, edit)


def _watch(adding: Adding, rpc: str) -> str:
    """The file of the handler of `rpc`."""
    parts = adding.repository.code.parts
    paths = (part.path for part in parts if part.kind == "watch" and plain(part.name) == plain(rpc))
    return next(paths, "the handler")


def check_name(adding: Adding, name: str) -> None:
    """Raises Refused if the contract, or the module of its stubs, has a `name` already."""
    for path in adding.known.own:
        if adding.repository.language.in_stubs(adding.known.files[path], name):
            raise Refused(f"{name!r} is in {f'protos/{path}'!r} already; choose another name")


def _service(adding: Adding, name: str | None) -> tuple[str, int]:
    """The file of the service called `name`, of the only one if None, and its index there."""
    found = {
        service.name: (path, at)
        for path in adding.known.own
        for at, service in enumerate(adding.known.files[path].service)
    }
    known = ", ".join(found)
    if not found:
        name = f"{adding.answers['aggregate']}Service"
        raise Refused(
            f"the contract has no service; write 'service {name} {{}}' into"
            f" {f'protos/{adding.stream.file}'!r} first"
        )
    if name is None and len(found) > 1:
        raise Refused(f"the contract has several services; name one with --service: {known}")
    if name is not None and name not in found:
        raise Refused(f"the contract has no service {name!r}; there is {known}")
    return found[name] if name is not None else next(iter(found.values()))
