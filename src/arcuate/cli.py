"""The command line: finds the command, and turns what goes wrong into one sentence and an exit code."""

from __future__ import annotations

import contextlib
import errno
import importlib
import importlib.util
import io
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import click

from arcuate.commands.shell import show_version
from arcuate.commands.stopping import exit_status, stoppable
from arcuate.errors import InputError, InputWarning, MissingExtraError, did_you_mean

# What a folder, disk or device of the user's can answer; any other OSError that comes here is a fault of arcuate's.
_OF_THE_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EFBIG, errno.EIO, errno.ENAMETOOLONG}
_OF_THE_PLACE |= {getattr(errno, name) for name in ("EDQUOT", "ESTALE") if hasattr(errno, name)}
_PACKAGE = Path(__file__).parent


class Listed(NamedTuple):
    """A command as the list of commands shows it."""

    home: str  # "module:name" in arcuate.commands
    stage: str
    summary: str


COMMANDS = {
    "run": Listed("run:run", "From a scan to everything", "The whole pipeline on one scan, and a report."),
    "cohort": Listed("cohort:cohort", "From a scan to everything", "Every scan of a BIDS data set, and the group."),
    "demo": Listed("demo:demo", "From a scan to everything", "The pipeline on a phantom, against its truth."),
    "info": Listed("info:info", "Look and prepare", "What a scan is, and what looks wrong with it."),
    "denoise": Listed("denoise:denoise", "Look and prepare", "A scan with less noise, and a map of the noise."),
    "mask": Listed("mask:mask", "Look and prepare", "A brain mask from the b=0 volumes."),
    "dti": Listed("dti:dti", "Microstructure", "The diffusion tensor: FA, diffusivities, eigenvectors."),
    "dki": Listed("dki:dki", "Microstructure", "Kurtosis, and a tensor freed of its bias."),
    "freewater": Listed("freewater:freewater", "Microstructure", "Free water, and the tensor of the tissue beside it."),
    "noddi": Listed("noddi:noddi", "Microstructure", "Neurite density, orientation dispersion, free water."),
    "response": Listed("response:response", "Fibre orientations", "The response function that FODs are made with."),
    "fod": Listed("fod:fod", "Fibre orientations", "Fibre orientation distributions by (multi-tissue) CSD."),
    "mtnormalise": Listed("mtnormalise:mtnormalise", "Fibre orientations", "Tissues made comparable between scans."),
    "peaks": Listed("peaks:peaks", "Fibre orientations", "Peaks of FODs."),
    "fixels": Listed("fixels:fixels", "Fibre orientations", "Lobes of FODs with their fibre density."),
    "tracts": Listed("tracts:tracts", "Fibre orientations", "White-matter tracts, by TractSeg's networks."),
    "structural": Listed("structural:structural", "Over many subjects", "Bias field, brain and tissues of a T1 image."),
    "register": Listed("register:register", "Over many subjects", "One image brought to another, by ANTs."),
    "apply": Listed("apply:apply", "Over many subjects", "Maps, labels, FODs brought over by a known transform."),
    "template": Listed("template:template", "Over many subjects", "The mean head of a group."),
    "regions": Listed("regions:regions", "Over many subjects", "A table of maps in the regions of an atlas."),
    "harmonize": Listed("harmonize:harmonize", "Over many subjects", "Site effects out of tables and maps (ComBat)."),
    "report": Listed("report:report", "Around it", "The page of a run, made again."),
    "phantom": Listed("phantom:phantom", "Around it", "A BIDS data set of phantoms, to rehearse a study on."),
    "fetch": Listed("fetch:fetch", "Around it", "Public scans and network weights."),
    "compile": Listed("compile:compile_", "Around it", "Kernels made ready, for containers and cluster nodes."),
    "cache": Listed("cache:cache", "Around it", "Kept results: what there is, why a step was computed, cleaning up."),
    "completion": Listed("completion:completion", "Around it", "Completion of commands and options by the shell."),
}
# What people of other tools type, and what it is here.
ELSEWHERE = {
    "mrinfo fslinfo fslhd mrstats": "arcuate info DWI",
    "dwidenoise": "arcuate denoise DWI --method mppca --out DENOISED",
    "patch2self dipy_denoise_patch2self": "arcuate denoise DWI --out DENOISED",
    "dwi2mask bet bet2 hd-bet hdbet median_otsu dipy_median_otsu": "arcuate mask DWI --out MASK",
    "dwi2tensor tensor2metric dtifit tensor fa dipy_fit_dti": "arcuate dti DWI --mask MASK --out FOLDER",
    "dipy_fit_dki kurtosis": "arcuate dki DWI --mask MASK --out FOLDER",
    "amico": "arcuate noddi DWI --mask MASK --out FOLDER",
    "dwi2response": "arcuate response DWI --algorithm dhollander --out FOLDER",
    "dwi2fod csd msmt_csd ss3t_csd_beta1 dipy_fit_csd odf": "arcuate fod DWI --response wm.txt --response gm.txt "
    "--response csf.txt --out FOLDER",
    "sh2peaks": "arcuate peaks FOD --out PEAKS",
    "fod2fixel": "arcuate fixels FOD --out FOLDER",
    "tractseg TractSeg": "arcuate tracts PEAKS --out FOLDER",
    "participant qsiprep qsirecon": "arcuate cohort BIDS_DIR OUT participant",
    "version": "arcuate info --version",
    "view mrview fsleyes": "arcuate report DIR, whose page has a viewer",
}
_MEANT = {word: here for words, here in ELSEWHERE.items() for word in words.split()}


class LazyGroup(click.Group):
    """Group whose commands are imported when they are called, so that ``arcuate --help`` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        homes = {name: f"arcuate.commands.{listed.home.split(':')[0]}" for name, listed in COMMANDS.items()}
        return [name for name, home in homes.items() if importlib.util.find_spec(home) is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module, name = COMMANDS[cmd_name].home.split(":")
        command = getattr(importlib.import_module(f"arcuate.commands.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if word == "help":
            args = [*args[1:], "--help"]
            if args == ["--help"]:
                click.echo(ctx.get_help())
                ctx.exit()
            word = args[0]
        if self.get_command(ctx, word) is None and not word.startswith("-"):
            here = _MEANT.get(word, _MEANT.get(word.lower(), ""))
            meant = f" Here it is: {here}." if here else did_you_mean(word, COMMANDS)
            raise click.UsageError(f"found no command {word}.{meant} `arcuate --help` lists all.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        known = self.list_commands(ctx)
        stages = dict.fromkeys(COMMANDS[name].stage for name in known)
        width = max(map(len, known))
        for stage in stages:
            with formatter.section(stage):
                rows = [(name.ljust(width), COMMANDS[name].summary) for name in known if COMMANDS[name].stage == stage]
                formatter.write_dl(rows)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=show_version, help="Print it.")
def app() -> None:
    """From a diffusion MRI scan to maps of microstructure and fibre orientation.

    Give arcuate a scan whose distortions were corrected (Gibbs, topup, eddy); start with `arcuate run`. Images are
    NIfTI or MRtrix3's .mif. `arcuate COMMAND --help` ends with examples, what is written, and what to cite.
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

    for stream in (sys.stdout, sys.stderr):  # a name or a unit that the terminal has no letters for ends nothing
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():  # puts back how they are shown, too
        warnings.showwarning = show_once
        # doubts of the scan are told whatever PYTHONWARNINGS says, which is meant for those of Python programs
        warnings.filterwarnings("default", category=InputWarning)
        try:
            code = _run(argv)
            sys.stdout.flush()
        except BrokenPipeError:
            code = _close_pipe()
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
        if type(error).__name__ == "NoArgsIsHelpError":  # of click 8.2 and later; 8.1 prints help itself
            click.echo(error.format_message())
            return 0
        click.echo(f"error: {_in_one_line(error)}", err=True)
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
        remedy = "take shorter names" if error.errno == errno.ENAMETOOLONG else "check permissions and free space"
        click.echo(f"error: {error.strerror}{where}; {remedy}", err=True)
    except MemoryError as error:
        click.echo(f"error: not enough memory ({error}); close other programs or use a machine with more", err=True)
    return 2


def _close_pipe() -> int:
    """Exit status of a command whose output nobody reads any more (``arcuate info SCAN | head -1``)."""
    with contextlib.suppress(OSError, ValueError):  # what is still buffered would raise once more at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # type: ignore[union-attr]
    return 141  # 128 + SIGPIPE, as other programs


def _in_one_line(error: click.ClickException) -> str:
    """What click has to say, and where help is."""
    context = getattr(error, "ctx", None)
    text = " ".join(error.format_message().split())
    if isinstance(error, click.MissingParameter) and context is not None and error.param is not None:
        if error.param.name == "out":
            text = "found no --out; expected where the results go: --out NAME."
        elif isinstance(error.param, click.Argument):
            name = (error.param.metavar or str(error.param.name).upper()).rstrip(".")
            text = f"found no {name}; expected: {context.get_usage().removeprefix('Usage: ')}"
    if isinstance(error, click.UsageError) and context is not None and context.parent is not None:
        text = f"{text.removesuffix('.')}. `{context.command_path} --help` shows how."
    return text
