"""The modules by which a service calls the contracts that it subscribes to."""

import re

from factfold_cli.contract import stubs
from factfold_cli.parts import rendered


def ident(package: str) -> str:
    """The name of the module for a contract of that proto package, "" if it can have none."""
    words = [word for word in package.split(".") if not re.fullmatch(r"v\d+\w*", word)]
    return words[-1] if words else ""


def shim(language: str, service: str, path: str, package: str) -> dict[str, bytes]:
    """The module for the contract at `path` of the service called `service`."""
    theirs = {"ident": ident(package), "name": service, "stubs": stubs(path)}
    return rendered(language, "shim", {"theirs": theirs})
