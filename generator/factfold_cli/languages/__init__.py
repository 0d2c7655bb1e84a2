"""What the generator knows of the languages that it writes code in."""

from factfold_cli.errors import Refused
from factfold_cli.languages.protocol import Language
from factfold_cli.templates import title


def of(language: str) -> Language:
    """That of the language which a manifest names; raises Refused if no code is written in it."""
    # Here, because they need modules that need this one.
    from factfold_cli.languages.go import Go
    from factfold_cli.languages.python import Python

    written: dict[str, Language] = {"go": Go(), "python": Python()}
    if language not in written:
        raise Refused(f"no code is written in {title(language)} yet; write it by hand")
    return written[language]
