"""What the generator knows of the languages that it writes code in."""

from factfold_cli.languages.protocol import Language


def of(language: str) -> Language:
    """That of the language which a manifest names; raises KeyError if no code is written in it."""
    # Here, because they need modules that need this one.
    from factfold_cli.languages.go import Go
    from factfold_cli.languages.python import Python

    written: dict[str, Language] = {"go": Go(), "python": Python()}
    return written[language]
