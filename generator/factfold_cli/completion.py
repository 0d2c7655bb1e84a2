"""`factfold completion`: what a shell needs to complete commands, options and folders."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_FACTFOLD_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the script that completes `factfold` in SHELL.

    \b
    Examples:
      factfold completion bash    # ~/.bashrc: eval "$(factfold completion bash)"
      factfold completion zsh     # ~/.zshrc: eval "$(factfold completion zsh)"
      factfold completion fish    # config.fish: factfold completion fish | source
    """
    made = get_completion_class(shell)
    assert made is not None
    root = click.get_current_context().find_root().command
    click.echo(made(root, {}, "factfold", VARIABLE).source())
