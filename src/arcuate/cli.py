"""The command line: finds the command, and turns what goes wrong into one sentence and an exit code."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
import warnings
from typing import Any

import click

from arcuate.commands.stopping import STOPPED, raised_surely
from arcuate.errors import InputError, MissingExtraError

COMMANDS = {
    "run": "arcuate.commands.run:run",
    "demo": "arcuate.commands.demo:demo",
    "info": "arcuate.commands.info:info",
    "denoise": "arcuate.commands.denoise:denoise",
    "mask": "arcuate.commands.mask:mask",
    "dti": "arcuate.commands.dti:dti",
    "noddi": "arcuate.commands.noddi:noddi",
    "response": "arcuate.commands.response:response",
    "fod": "arcuate.commands.fod:fod",
    "mtnormalise": "arcuate.commands.mtnormalise:mtnormalise",
    "peaks": "arcuate.commands.peaks:peaks",
    "tracts": "arcuate.commands.tracts:tracts",
    "report": "arcuate.commands.report:report",
    "cohort": "arcuate.commands.cohort:cohort",
    "fetch": "arcuate.commands.fetch:fetch",
    "cache": "arcuate.commands.cache:cache",
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
    """Run the command line; exits 0 when done, 2 on the user's mistake (one line), 1 on a bug (traceback), or 130."""
    shown: set[str] = set()

    def show_once(message: Warning | str, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if text not in shown:  # several steps may have the same to say of one scan
            shown.add(text)
            click.echo(f"warning: {text}", err=True)

    show_before, warnings.showwarning = warnings.showwarning, show_once
    debug = bool(os.environ.get("ARCUATE_DEBUG"))
    try:
        with raised_surely():
            code = app.main(args=argv, prog_name="arcuate", standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"error: {' '.join(error.format_message().split())}", err=True)
        code = 2
    except (InputError, MissingExtraError) as error:
        if debug:
            traceback.print_exc()
        click.echo(f"error: {' '.join(str(error).split())}", err=True)
        code = 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped; what is finished is kept, start the same command again to go on", err=True)
        code = STOPPED
    except OSError as error:
        if debug or error.strerror is None:
            traceback.print_exc()
        where = f" ({error.filename})" if error.filename else ""
        click.echo(f"error: {error.strerror or error}{where}; check permissions and free space", err=True)
        code = 2
    except MemoryError as error:
        click.echo(f"error: not enough memory ({error}); close other programs or use a machine with more", err=True)
        code = 2
    finally:
        warnings.showwarning = show_before
    sys.stdout.flush()
    raise SystemExit(code if isinstance(code, int) else 0)
