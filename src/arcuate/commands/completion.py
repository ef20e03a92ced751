"""``arcuate completion``: commands, options and choices completed by the shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from arcuate.commands.options import command
from arcuate.commands.shell import Choice


@command()
@click.argument("shell", type=Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options and choices of arcuate with the Tab key.

    For bash and zsh append it to ~/.bashrc or ~/.zshrc, for fish write it to
    ~/.config/fish/completions/arcuate.fish.
    """
    maker = get_completion_class(shell)
    assert maker is not None
    click.echo(maker(click.get_current_context().find_root().command, {}, "arcuate", "_ARCUATE_COMPLETE").source())
