"""Groups whose commands are imported only when they run, so that `--help` stays quick."""

from collections.abc import Mapping
from importlib import import_module

import click
from click.shell_completion import CompletionItem


class LazyGroup(click.Group):
    """A group of commands, each the `command` of a module of its own.

    `modules` maps a command's name to its module and its line in the group's help.
    """

    def __init__(self, name: str, help: str, modules: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(name=name, help=help, context_settings={"max_content_width": 100})
        self.modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.modules:
            return None
        command = import_module(self.modules[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.modules.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        commands = [
            CompletionItem(name, help=line)
            for name, (_, line) in self.modules.items()
            if name.startswith(incomplete)
        ]
        # Not of click.Group, which would import each command for its line.
        return commands + click.Command.shell_complete(self, ctx, incomplete)
