"""Events without a fold: a file for each, and a test that fails until it is written."""

from collections.abc import Iterator

from factfold_cli.declared import Stream
from factfold_cli.languages.protocol import NewFold, Part
from factfold_cli.repository import Repository


def unfolded(repository: Repository) -> list[tuple[Stream, str]]:
    """The own events that no fold is of, each with its stream."""
    folded = {
        repository.message(event)
        for part in repository.code.parts
        if part.kind == "fold"
        for event in part.events
    }
    return [
        (stream, event)
        for stream in repository.own_streams
        for event in stream.events
        if event not in folded
    ]


def missing_folds(
    repository: Repository, wanted: list[tuple[Stream, str]], notes: list[str]
) -> Iterator[NewFold]:
    """Those of the events of `wanted`; what cannot be made is one of `notes`."""
    folds = [part for part in repository.code.parts if part.kind == "fold"]
    unclear = [
        part
        for part in folds
        if not all(
            repository.message(event) or repository.of_a_contract(repository.code.origin(event))
            for event in part.events
        )
    ]
    for stream, event in wanted:
        path, _ = repository.language.fold_paths(event.rpartition(".")[2])
        tables = _tables(repository, folds, stream)
        row = repository.code.row_of(tables[0]) if len(tables) == 1 else ""
        if unclear:
            why = f"it cannot be told which event the fold in {unclear[0].path} is of"
        elif len(tables) > 1:
            why = f"the folds of stream {stream.name} go to several tables"
        elif not tables:
            why = f"stream {stream.name} has no other fold whose table it could go to"
        elif not tables[0]:
            why = f"it cannot be told which table the folds of stream {stream.name} go to"
        elif not row or (repository.of_a_contract(row) and not repository.message(row)):
            why = f"it cannot be told what the rows of {tables[0]} are"
        elif (repository.root / path).exists():
            why = f"{path} exists"
        else:
            fold = NewFold(stream, event, _first(repository, folds, stream), tables[0], row)
            if not (why := repository.language.no_fold(repository, fold)):
                yield fold
                continue
        notes.append(f"{event} has no fold, and {why}; write one, if it changes a table")


def _first(repository: Repository, folds: list[Part], stream: Stream) -> str:
    """The first event of the stream that has a fold."""
    folded = {repository.message(name) for part in folds for name in part.events}
    return next(event for event in stream.events if event in folded)


def _tables(repository: Repository, folds: list[Part], stream: Stream) -> list[str]:
    """Those that folds of the stream write, as dotted names."""
    return sorted(
        {
            repository.code.origin(part.into)
            for part in folds
            if any(repository.message(event) in stream.events for event in part.events)
        }
    )
