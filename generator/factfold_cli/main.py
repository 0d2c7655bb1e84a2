"""`factfold`: the group of all commands, and how a command ends."""

import os
import sys
from typing import NoReturn

import click

from factfold_cli.lazy import LazyGroup
from factfold_cli.printable import printable

cli = LazyGroup(
    "factfold",
    """Makes services that share facts instead of databases, and runs them.

    \b
    Example:
      factfold new orders --language python
    """,
    {
        "new": ("factfold_cli.new", "Make the repository of a new service."),
        "add": ("factfold_cli.add", "Add something to the repository of a service."),
        "sync": ("factfold_cli.sync", "Write what the contract has and the code has not."),
        "contract": (
            "factfold_cli.contract_command",
            "Freeze the contract, and keep to what was frozen.",
        ),
        "up": ("factfold_cli.up", "Run services, with a Redis and a trace receiver."),
        "demo": ("factfold_cli.demo", "Make two services, run them and show one trace of both."),
        "tail": ("factfold_cli.tail", "Show the facts of a stream as they come."),
        "lag": ("factfold_cli.lag", "Show how far behind each view and reaction is."),
        "dead-letters": ("factfold_cli.dead_letters", "Look at facts that could not be answered."),
        "stream": ("factfold_cli.stream", "Look after a stream of the log."),
        "acl": ("factfold_cli.acl", "Write the users of the log, with their rights."),
        "trim": ("factfold_cli.trim", "Remove old facts of a stream that nobody needs."),
        "doctor": (
            "factfold_cli.doctor",
            "Look for what is missing or wrong, and say what mends it.",
        ),
        "redis": ("factfold_cli.redis_command", "Run a Redis server of one's own."),
        "completion": ("factfold_cli.completion", "Print what completes commands in a shell."),
    },
)
click.version_option(package_name="factfold", message="%(package)s %(version)s")(cli)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs `factfold` and ends the process: 0 done, 1 failed, 2 usage; errors are one line."""
    try:
        sys.exit(cli.main(arguments, prog_name="factfold", standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        # A group alone was asked for: its help, which is no line.
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _end(_one_line(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _end("interrupted", 1)
    except BrokenPipeError:
        # Whoever reads has seen enough; the interpreter must not try to flush to them again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _end(f"{error.filename or 'system'}: {error.strerror or error}", 1)


def _one_line(error: click.ClickException) -> str:
    words = " ".join(error.format_message().split())
    if isinstance(error, click.UsageError) and error.ctx is not None:
        help_ = f"{error.ctx.command_path} --help"
        # "Did you mean …?" is a sentence of its own.
        return (
            f"{words} See {help_}" if words.endswith("?") else f"{words.rstrip('.')}; see {help_}"
        )
    return words


def _end(message: str, code: int) -> NoReturn:
    # It may quote what somebody else wrote.
    click.echo(f"factfold: {printable(message)}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
