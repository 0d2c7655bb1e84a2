"""Every command says what it does, with an example, and is told of in the README."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from factfold_cli.main import cli

from .conftest import ROOT, User


def commands(group: click.Group = cli, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*words, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))


@pytest.mark.parametrize("words", [(), *commands()], ids=" ".join)
def test_help_has_an_example(user: User, words: tuple[str, ...]) -> None:
    done = user.factfold(*words, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: {' '.join(['factfold', *words])} ")
    assert re.search(r"\n  Examples?:\n    factfold ", done.stdout)


@pytest.mark.parametrize("words", [*commands()], ids=" ".join)
def test_the_readme_tells_of_every_command(words: tuple[str, ...]) -> None:
    assert " ".join(["factfold", *words]) in (ROOT / "README.md").read_text("utf-8")


def test_help_imports_no_command() -> None:
    """Nor what only a command needs: the start of `factfold` is quick."""
    program = (
        "import sys; from factfold_cli.main import cli; cli(['--help'], standalone_mode=False);"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = set(done.stderr.split())
    assert "click" in loaded
    assert not loaded & {"factfold_cli.new", "cookiecutter", "grpc", "jinja2", "rich", "requests"}


def test_a_shell_completes_commands_and_options(user: User) -> None:
    environment = user.environment() | {
        "_FACTFOLD_COMPLETE": "bash_complete",
        "COMP_WORDS": "factfold new --o",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-m", "factfold_cli"], env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == ["plain,--output", "plain,--organisation"]


def test_completing_a_command_imports_none(user: User) -> None:
    environment = user.environment() | {
        "_FACTFOLD_COMPLETE": "bash_complete",
        "COMP_WORDS": "factfold d",
        "COMP_CWORD": "1",
        "PYTHONVERBOSE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "factfold_cli"], env=environment, capture_output=True, text=True
    )
    assert "plain,demo" in done.stdout.split()
    assert "import 'factfold_cli.lazy'" in done.stderr
    assert "import 'factfold_cli.demo'" not in done.stderr


TRIES = {
    "bash": (
        'eval "$(factfold completion bash)"; COMP_WORDS=(factfold new --o); COMP_CWORD=2; '
        '_factfold_completion factfold; printf "%s\n" "${COMPREPLY[@]}"'
    ),
    "zsh": (
        "autoload -U compinit && compinit -u; compdef() { print -- compdef $@; }; "
        'eval "$(factfold completion zsh)"; (( $+functions[_factfold_completion] ))'
    ),
    "fish": 'factfold completion fish | source; complete -C "factfold new --o"',
}


@pytest.mark.parametrize("shell", TRIES)
def test_a_shell_takes_its_script(user: User, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    program = user.here / "factfold"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m factfold_cli "$@"\n')
    program.chmod(0o755)
    environment = user.environment()
    environment["PATH"] = f"{user.here}:{environment['PATH']}"
    done = subprocess.run(
        [shell, "-c", TRIES[shell]], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    wanted = "compdef _factfold_completion factfold" if shell == "zsh" else "--output"
    assert wanted in done.stdout.replace("\t", "\n").splitlines()


@pytest.mark.parametrize("words", [(), ("contract",)], ids=" ".join)
def test_a_group_alone_shows_its_help_as_it_is(user: User, words: tuple[str, ...]) -> None:
    done = user.factfold(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == user.factfold(*words, "--help").stdout


def test_an_unknown_command_is_refused_in_one_line(user: User) -> None:
    done = user.factfold("nwe")
    assert done.returncode == 2
    assert done.stderr == "factfold: No such command 'nwe'; see factfold --help\n"


def test_the_version_is_said(user: User) -> None:
    assert re.fullmatch(r"factfold \d+\.\d+\.\d+\n", user.factfold("--version").stdout)


def test_the_readme_starts_with_two_lines_to_run() -> None:
    """The first runs the demo, the second all tests; .ci/run finds the second as this does."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    assert [block.count("\n") for block in blocks[:2]] == [1, 1]
    assert blocks[0].endswith("factfold demo --exit\n")
    assert blocks[1].endswith("tox\n")
    found = subprocess.run(
        [
            "awk",
            r"/^```/ { inside = 0 } inside && n == 2; /^```sh$/ { n++; inside = 1 }",
            "README.md",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.stdout == blocks[1]
    assert "awk '/^```/ { inside = 0 } inside && n == 2;" in Path(ROOT, ".ci/run").read_text()
