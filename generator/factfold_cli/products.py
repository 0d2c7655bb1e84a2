"""The files of a repository that are made from its contract alone, and belong to the tool."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factfold_cli.declared import Declared
from factfold_cli.documents import documents
from factfold_cli.languages import of
from factfold_cli.placing import same


def products(root: Path, manifest: Mapping[str, Any], known: Declared) -> dict[str, bytes]:
    """Paths and contents of those that `root` has not, or not so.

    Raises Refused if the contract cannot be one of the repository's language.
    """
    made = of(manifest["language"]).wiring(manifest, known) | documents(manifest, known)
    return {path: content for path, content in made.items() if not same(root / path, content)}
