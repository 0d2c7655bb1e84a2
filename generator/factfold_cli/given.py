"""The Redis that the user named in the environment, as services read it."""

import os
from pathlib import Path

from factfold_cli.errors import Refused

URL, URL_FILE = "FACTFOLD_REDIS_URL", "FACTFOLD_REDIS_URL_FILE"
# Of services alone: the same log as a user that reads other services' streams.
READ_URL, READ_URL_FILE = "FACTFOLD_REDIS_READ_URL", "FACTFOLD_REDIS_READ_URL_FILE"


def given_by() -> str | None:
    """The variable that names the server; URL goes before URL_FILE."""
    return next((name for name in (URL, URL_FILE) if os.environ.get(name)), None)


def given_url() -> str | None:
    """The URL in that variable, or in the file that it names; None if neither is set."""
    name = given_by()
    if name != URL_FILE:
        return os.environ[name] if name else None
    path = os.environ[name]
    try:
        url = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise Refused(f"{URL_FILE}: {path} cannot be read") from None
    if not url:
        # Not the default instead: it may be another log, and this file is often a secret's.
        raise Refused(f"{URL_FILE}: {path} is empty: write the log's URL into it")
    return url
