"""What the command line says of itself, and of words that it does not know."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from factfold_cli.main import cli

from .piped import piped


def groups(group: click.Group = cli, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    context = click.Context(group)
    for name in group.list_commands(context):
        if isinstance(command := group.get_command(context, name), click.Group):
            yield from groups(command, (*words, name))


@pytest.mark.parametrize("words", [*groups()], ids=" ".join)
def test_no_line_of_a_list_of_commands_is_cut(words: tuple[str, ...], tmp_path: Path) -> None:
    done = piped(*words, "--help", at=tmp_path)
    listed = done.stdout.partition("\nCommands:\n")[2].splitlines()
    assert listed
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


def test_words_that_are_like_others_are_named(tmp_path: Path) -> None:
    for words, said in (
        (
            ["dead-letters", "liste"],
            "No such command 'liste'. Did you mean 'list'? See factfold dead-letters --help",
        ),
        (
            ["dead-letters", "list", "--jsn"],
            "No such option '--jsn'. Did you mean '--json'? See factfold dead-letters list --help",
        ),
        (
            ["dead-letters", "xyz"],
            "No such command 'xyz'; see factfold dead-letters --help",
        ),
    ):
        done = piped(*words, at=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"factfold: {said}\n")


@pytest.mark.parametrize(
    "words",
    [("dead-letters", "list"), ("stream", "recreate"), ("tail",), ("doctor",)],
    ids=" ".join,
)
def test_help_names_all_that_says_which_log(words: tuple[str, ...], tmp_path: Path) -> None:
    text = " ".join(piped(*words, "--help", at=tmp_path).stdout.split())
    assert (
        "--redis URL The log; by default FACTFOLD_REDIS_URL, else what the file of "
        "FACTFOLD_REDIS_URL_FILE says, else redis://127.0.0.1:6379/0."
    ) in text
