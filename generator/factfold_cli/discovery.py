"""Which services lie below a folder: those with a manifest of factfold."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from factfold_cli import manifest
from factfold_cli.errors import Refused

_NEVER = {"node_modules", "__pycache__"}


@dataclass(frozen=True)
class ServiceFolder:
    """A generated repository: the service's name, its folder and its language."""

    name: str
    path: Path
    language: str


def discover(folders: Sequence[Path]) -> list[ServiceFolder]:
    """The services in and below `folders`, by name.

    Raises Refused if there is none, if two have one name, or if a manifest cannot be read.
    """
    found: dict[str, ServiceFolder] = {}
    for path in sorted({path for folder in folders for path in _repositories(folder.resolve())}):
        service = _read(path)
        if service.name in found:
            raise Refused(
                f"two services are named {service.name}, in {found[service.name].path} and "
                f"{path}: give the folder of one of them"
            )
        found[service.name] = service
    if not found:
        names = ", ".join(str(folder) for folder in folders)
        raise Refused(f"no service below {names}: make one with `factfold new`")
    return [found[name] for name in sorted(found)]


def _repositories(folder: Path) -> Iterator[Path]:
    for at, below, _ in os.walk(folder):
        path = Path(at)
        if (path / manifest.PATH).is_file():
            below.clear()
            yield path
        else:
            below[:] = [name for name in below if name not in _NEVER and not name.startswith(".")]


def _read(path: Path) -> ServiceFolder:
    known = manifest.read(path)
    return ServiceFolder(known["answers"]["service_slug"], path, known["language"])
