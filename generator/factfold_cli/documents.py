"""The documents of a repository that follow from its contracts."""

from collections.abc import Mapping
from typing import Any

from factfold_cli.asyncapi import asyncapi
from factfold_cli.declared import Declared, subscribed
from factfold_cli.described import described
from factfold_cli.reference import reference


def documents(manifest: Mapping[str, Any], known: Declared) -> dict[str, bytes]:
    """By path within the repository that `manifest` is of."""
    service = manifest["answers"]["service_slug"]
    own = [described(known, path) for path in known.documented]
    read = {name: described(known, path) for name, path in subscribed(manifest, known).items()}
    return {
        "docs/api.md": reference(service, own, read).encode(),
        "docs/asyncapi.json": asyncapi(service, own, read).encode(),
    }
