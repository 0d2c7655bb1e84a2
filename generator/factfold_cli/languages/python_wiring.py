"""The modules of a Python repository that follow from its contracts."""

from collections.abc import Mapping
from keyword import iskeyword
from typing import Any

from factfold_cli.contract import stubs
from factfold_cli.declared import Declared, subscribed
from factfold_cli.errors import Refused
from factfold_cli.parts import rendered
from factfold_cli.render import variables
from factfold_cli.shims import shim


def wiring(manifest: Mapping[str, Any], known: Declared) -> dict[str, bytes]:
    """Paths and contents; raises Refused if the contract cannot be one of Python."""
    return _contract(manifest, known) | _shims(manifest, known)


def aliases(modules: list[str]) -> dict[str, str]:
    """A short name for each module, unlike those of the others."""
    last = [module.rpartition(".")[2] for module in modules]
    return {
        module: word if last.count(word) == 1 else module.replace(".", "_")
        for module, word in zip(modules, last, strict=True)
    }


def _contract(manifest: Mapping[str, Any], known: Declared) -> dict[str, bytes]:
    """`service.contract`, which passes on what protoc makes of the service's own files."""
    _check(known)
    ours = variables(manifest["language"], manifest["answers"])
    modules = {stubs(path): path for path in known.passed_on}
    short = aliases(sorted(modules))
    lines = [f"import {module} as {alias}" for module, alias in short.items()]
    for module, path in sorted(modules.items()):
        lines.append(f"from {module} import *")
        # Others have no stubs that are typed.
        if known.files[path].service:
            lines.append(f"from {module}_grpc import *")
    found = [f"{alias}.DESCRIPTOR" for alias in short.values()]
    descriptors = f"DESCRIPTORS = [{', '.join(found)}]"
    if len(found) > 1:
        main = short[stubs(_main(ours["__package_path"], known))]
        rows = "".join(f"    {each},\n" for each in found)
        # Each file has one, and the last would hide the others.
        descriptors = f"DESCRIPTOR = {main}.DESCRIPTOR\nDESCRIPTORS = [\n{rows}]"
    context = {
        "cookiecutter": ours,
        "wiring": {"imports": "\n".join(lines) + "\n", "descriptors": descriptors},
    }
    return rendered(manifest["language"], "wiring", context)


def _shims(manifest: Mapping[str, Any], known: Declared) -> dict[str, bytes]:
    """The module for each contract that the service subscribes to."""
    made: dict[str, bytes] = {}
    for name, path in subscribed(manifest, known).items():
        made |= shim(manifest["language"], name, path, known.files[path].package)
    return made


def _main(package: str, known: Declared) -> str:
    """The file that `contract.DESCRIPTOR` is of: the starter's, else the first with a stream."""
    starter = f"{package}/contract.proto"
    streams = [path for path in known.passed_on if path in known.streams]
    return starter if starter in known.passed_on else [*streams, *known.passed_on][0]


def _check(known: Declared) -> None:
    if not known.passed_on:
        raise Refused(
            "no .proto file below protos/ declares a stream or a service of this repository; take"
            " its contract back from git"
        )
    seen: dict[str, str] = {}
    for path in known.passed_on:
        if not _importable(stubs(path)):
            raise Refused(f"{f'protos/{path}'!r} is no path of a Python module; rename it")
        file = known.files[path]
        values = [value for enum in file.enum_type for value in enum.value]
        for each in (*file.message_type, *file.enum_type, *file.service, *values):
            if (other := seen.setdefault(each.name, path)) != path:
                raise Refused(
                    f"{each.name!r} is in {f'protos/{other}'!r} and in {f'protos/{path}'!r}, and"
                    " service.contract can have one of that name; rename one"
                )


def _importable(module: str) -> bool:
    return all(word.isidentifier() and not iskeyword(word) for word in module.split("."))
