"""What a command says in one line before it ends.

click.ClickException
├── Refused   exit code 2: what was asked for cannot be done as asked; nothing was changed
└── Failed    exit code 1: it was tried and did not work; nothing was left behind
"""

import click


class Refused(click.ClickException):
    """The question was wrong. The message names what, and what to ask instead."""

    exit_code = 2


class Failed(click.ClickException):
    """The question was right, the answer did not come. The message says what to do next."""

    exit_code = 1
