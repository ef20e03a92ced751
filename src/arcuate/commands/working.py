"""What a person sees of a command that computes: how far it is, or that kernels are compiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, cast

import click

from arcuate.commands.shell import is_asked_for

if TYPE_CHECKING:
    from arcuate.study.stages import Stage

_WATCHED = "arcuate.working"
_SAID_AFTER = 3.0  # seconds of compiling after which it is said where no person watches


def show_work() -> None:
    """From here to the end of the command, or until it tells its result, show how far it is."""
    context = click.get_current_context(silent=True)
    if context is None:
        return
    shown = ExitStack()
    shown.enter_context(working(context.info_name or "arcuate"))
    context.meta[_WATCHED] = shown
    context.call_on_close(shown.close)


def hide_work() -> None:
    """Take away what :func:`show_work` shows: the command has something to say."""
    context = click.get_current_context(silent=True)
    if context is not None and _WATCHED in context.meta:
        context.meta.pop(_WATCHED).close()


@contextmanager
def working(name: str) -> Iterator[None]:
    """Show on standard error how far the block is, unless the command was asked to be quiet.

    A person sees per cent, seconds, or how many kernels were compiled; where nobody watches one line says that kernels
    are compiled, if that takes long.
    """
    if is_asked_for("quiet"):
        yield
        return
    from rich.console import Console

    from arcuate.commands.stage_lines import StageLines
    from arcuate.numerics.progress import progress_told_to
    from arcuate.study.stages import Stage, compiling_noted

    console, stage = Console(stderr=True), Stage(name)
    lines = StageLines(console)
    with ExitStack() as stack:
        stack.enter_context(compiling_noted(stage))
        stack.enter_context(progress_told_to(stage.hear))
        if console.is_terminal:
            stack.callback(lines.stop)
            lines.begin(stage)
        else:
            stack.enter_context(_compiling_said(stage))
        yield


def _compiling_said(stage: Stage) -> AbstractContextManager[None]:
    """Within the block a line says once that kernels are compiled, as the next one begins after some seconds of it."""
    from numba.core import event

    class Said(event.Listener):  # type: ignore[misc]
        is_said = False

        def on_start(self, _: object) -> None:
            if not self.is_said and stage.compiling_so_far() > _SAID_AFTER:
                self.is_said = True
                click.echo("compiling kernels, as in every first call on a machine; later calls find them", err=True)

        def on_end(self, _: object) -> None: ...

    return cast(AbstractContextManager[None], event.install_listener("numba:compile", Said()))
