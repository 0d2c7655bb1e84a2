"""The part of a subscription that is Go: a table, a join, a fold, a reaction, and their wiring."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from factfold_cli.contract import Contract
from factfold_cli.errors import Refused
from factfold_cli.languages import go_app
from factfold_cli.parts import rendered
from factfold_cli.render import variables
from factfold_cli.shims import ident


def parts(
    root: Path, ours: Mapping[str, Any], theirs: Mapping[str, Any], contract: Contract
) -> dict[str, bytes]:
    """The files that a subscription adds or changes, by path, under names that are free in `root`.

    Raises Refused if they cannot be written.
    """
    # The folder's last two names make the package's, and without them there is none.
    if len(PurePosixPath(contract.path).parts) < 3 or not ident(contract.package):
        raise Refused(f"{contract.path!r} is in no folder such as acme/orders/v1; move it there")
    for prefix in ("", f"{ident(contract.package)}_"):
        names = _names(theirs, contract, prefix)
        made = rendered("go", "subscription", {"cookiecutter": _our(ours), "theirs": names})
        taken = [path for path in made if (root / path).exists()]
        if not taken:
            made = {path: _in_order(text.decode()).encode() for path, text in made.items()}
            return made | {go_app.PATH: _wired(root, _our(ours), names)}
    raise Refused(f"{taken[0]!r} exists and stays as it is; rename it first")


def _our(ours: Mapping[str, Any]) -> dict[str, Any]:
    return variables("go", ours["answers"])


def _names(theirs: Mapping[str, Any], contract: Contract, prefix: str) -> dict[str, str]:
    their = variables("go", theirs["answers"])
    folder = PurePosixPath(contract.path).parent
    one, many = their["__aggregate_snake"], their["__plural_snake"]
    upper = "".join(word.capitalize() for word in prefix.split("_"))
    return {
        "aggregate": their["__go_aggregate"],
        "alias": (folder.parent.name + folder.name).replace("_", ""),
        "descriptor": "File_" + re.sub(r"\W", "_", contract.path),
        "file_many": (prefix + many).replace("_", ""),
        "file_one": (prefix + one).replace("_", ""),
        "go_many": upper + their["__go_plural"],
        "go_one": upper + their["__go_aggregate"],
        "many": prefix + many,
        "name": their["service_slug"],
        "one": prefix + one,
        "stubs": f"service/gen/{folder}",
    }


def _wired(root: Path, our: Mapping[str, Any], names: Mapping[str, str]) -> bytes:
    """The file that puts the service together, with the new parts in it."""
    one, ours = names["go_one"], our["__go_aggregate"]
    app = go_app.read(root, "Fold", "Reaction")
    app.add_subscription(f"{names['stubs']}.{names['descriptor']}", names["alias"])
    app.add_fold(
        f"service/internal/views.{names['go_many']}", f"service/internal/folds.{one}Created"
    )
    app.add_reaction(
        f"create_{our['__aggregate_snake']}_for_{names['one']}",
        f"service/internal/reactions.Create{ours}For{one}",
    )
    return app.text.encode()


def _in_order(text: str) -> str:
    """With imports as gofmt sorts them, which depends on the names in their paths."""

    def by_path(block: re.Match[str]) -> str:
        return "".join(sorted(block[0].splitlines(keepends=True), key=lambda at: at.split()[-1]))

    return re.sub(r'(?m)(?:^\t(?:\w+ )?"[^"\n]+"\n)+', by_path, text)
