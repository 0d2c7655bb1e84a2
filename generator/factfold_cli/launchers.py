"""The launcher of each language that `factfold up` runs."""

from collections.abc import Callable, Mapping

from factfold_cli.discovery import ServiceFolder
from factfold_cli.environments import PythonLauncher
from factfold_cli.errors import Refused
from factfold_cli.go_builds import GoLauncher
from factfold_cli.launching import Launcher

_LAUNCHERS: Mapping[str, Callable[[ServiceFolder], Launcher]] = {
    "go": GoLauncher,
    "python": PythonLauncher,
}


def launcher(service: ServiceFolder) -> Launcher:
    """Raises Refused for a language that does not run here."""
    if made := _LAUNCHERS.get(service.language):
        return made(service)
    raise Refused(
        f"{service.name} is written in {service.language}: only {' and '.join(_LAUNCHERS)} run here"
    )
