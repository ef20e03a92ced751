"""The command line: finds the command, and turns what goes wrong into one sentence and an exit code."""

from __future__ import annotations

import contextlib
import errno
import importlib
import importlib.util
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import click

from arcuate.commands.stopping import exit_status, stoppable
from arcuate.errors import InputError, MissingExtraError

# What a folder, disk or device of the user's can answer; any other OSError that comes here is a fault of arcuate's.
_OF_THE_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EFBIG, errno.EIO, errno.ENAMETOOLONG}
_OF_THE_PLACE |= {getattr(errno, name) for name in ("EDQUOT", "ESTALE") if hasattr(errno, name)}
_PACKAGE = Path(__file__).parent

COMMANDS = {
    "run": "arcuate.commands.run:run",
    "demo": "arcuate.commands.demo:demo",
    "phantom": "arcuate.commands.phantom:phantom",
    "info": "arcuate.commands.info:info",
    "denoise": "arcuate.commands.denoise:denoise",
    "mask": "arcuate.commands.mask:mask",
    "dti": "arcuate.commands.dti:dti",
    "dki": "arcuate.commands.dki:dki",
    "noddi": "arcuate.commands.noddi:noddi",
    "response": "arcuate.commands.response:response",
    "fod": "arcuate.commands.fod:fod",
    "mtnormalise": "arcuate.commands.mtnormalise:mtnormalise",
    "peaks": "arcuate.commands.peaks:peaks",
    "fixels": "arcuate.commands.fixels:fixels",
    "tracts": "arcuate.commands.tracts:tracts",
    "regions": "arcuate.commands.regions:regions",
    "harmonize": "arcuate.commands.harmonize:harmonize",
    "report": "arcuate.commands.report:report",
    "cohort": "arcuate.commands.cohort:cohort",
    "fetch": "arcuate.commands.fetch:fetch",
    "cache": "arcuate.commands.cache:cache",
    "compile": "arcuate.commands.compile:compile_",
}


class LazyGroup(click.Group):
    """Group whose commands are imported when they are called, so that ``arcuate --help`` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if importlib.util.find_spec(COMMANDS[name].split(":")[0]) is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from arcuate._version import __version__

        click.echo(f"arcuate {__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Print it.")
def app() -> None:
    """From a diffusion MRI scan to maps of microstructure and fibre orientation.

    Give arcuate a scan whose distortions were corrected (Gibbs, topup, eddy); start with `arcuate run`.
    """


def main(argv: list[str] | None = None) -> None:
    """Run the command line.

    Exits with 0 when done, 2 on the user's mistake (one line), 1 on a bug (traceback), 130 or 143 when it was stopped,
    and 141 when nobody reads what it prints any more.
    """
    shown: set[str] = set()

    def show_once(message: Warning | str, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if text not in shown:  # several steps may have the same to say of one scan
            shown.add(text)
            click.echo(f"warning: {text}", err=True)

    show, warnings.showwarning = warnings.showwarning, show_once
    try:
        code = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        code = _close_pipe()
    finally:
        warnings.showwarning = show
    raise SystemExit(code)


def _run(argv: list[str] | None) -> int:
    debug = bool(os.environ.get("ARCUATE_DEBUG"))
    came: list[int] = []
    streams = sys.stdout, sys.stderr
    try:
        with stoppable() as came:
            code = app.main(args=argv, prog_name="arcuate", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        click.echo(f"error: {' '.join(error.format_message().split())}", err=True)
    except (InputError, MissingExtraError) as error:
        if debug:
            traceback.print_exc()
        click.echo(f"error: {' '.join(str(error).split())}", err=True)
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped; what is finished is kept, start the same command again to go on", err=True)
        return exit_status(came)
    except SystemExit:
        if sys.stdout is streams[0]:
            raise
        sys.stdout, sys.stderr = streams  # click replaces them, and exits, when a pipe is broken
        return _close_pipe()
    except OSError as error:
        if error.errno not in _OF_THE_PLACE or _PACKAGE in Path(str(error.filename)).parents:
            raise
        if debug:
            traceback.print_exc()
        where = f" ({error.filename})" if error.filename else ""
        click.echo(f"error: {error.strerror}{where}; check permissions and free space", err=True)
    except MemoryError as error:
        click.echo(f"error: not enough memory ({error}); close other programs or use a machine with more", err=True)
    return 2


def _close_pipe() -> int:
    """Exit status of a command whose output nobody reads any more (``arcuate info SCAN | head -1``)."""
    with contextlib.suppress(OSError, ValueError):  # what is still buffered would raise once more at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # type: ignore[union-attr]
    return 141  # 128 + SIGPIPE, as other programs
