"""``arcuate phantom``: a BIDS data set of phantoms, to try a study on before its scans are there."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import command, threads_option
from arcuate.commands.paths import OutFolder
from arcuate.commands.shell import tell
from arcuate.errors import InputError
from arcuate.study.phantom_dataset import FAULTS, PhantomDataset, write_phantom_dataset


class _Shells(click.ParamType):
    """b-values, separated by commas."""

    name = "list"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(word) for word in str(value).split(","))
        except ValueError as error:
            raise InputError(
                f"found --shells {value}; expected b-values in s/mm² separated by commas: 1000,2500."
            ) from error


@command()
@click.argument("folder", metavar="BIDS_DIR", type=OutFolder())
@click.option(
    "--subjects", type=click.IntRange(1), default=PhantomDataset.n_subjects, show_default=True, help="How many."
)
@click.option(
    "--sessions", type=click.IntRange(1), default=1, show_default=True, help="Of every second subject; others have one."
)
@click.option(
    "--parts",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Images (runs) of one scan, of every second subject.",
)
@click.option("--broken-gradients", is_flag=True, help="One subject has a b-vector too few.")
@click.option("--truncated", is_flag=True, help="One subject has an image that was cut short.")
@click.option("--single-shell", is_flag=True, help="One subject has the lowest shell alone.")
@click.option("--inherited", is_flag=True, help="Gradient files once, at the top of the data set.")
@click.option(
    "--shape",
    type=click.IntRange(2),
    nargs=3,
    default=PhantomDataset.shape,
    show_default=True,
    metavar="X Y Z",
    help="Voxels along each axis.",
)
@click.option("--voxel-size", type=float, default=PhantomDataset.voxel_size, show_default=True, help="mm.")
@click.option(
    "--shells",
    type=_Shells(),
    default=PhantomDataset.bvals,
    show_default=True,
    metavar="LIST",
    help="b-values, s/mm², separated by commas.",
)
@click.option(
    "--directions",
    type=click.IntRange(1),
    default=PhantomDataset.n_directions,
    show_default=True,
    help="Of each shell.",
)
@click.option("--snr", type=float, default=PhantomDataset.snr, show_default=True, help="White matter at b=0 over σ.")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws heads, directions and noise.")
@threads_option
def phantom(
    folder: Path,
    subjects: int,
    sessions: int,
    parts: int,
    broken_gradients: bool,
    truncated: bool,
    single_shell: bool,
    inherited: bool,
    shape: tuple[int, int, int],
    voxel_size: float,
    shells: tuple[float, ...],
    directions: int,
    snr: float,
    seed: int,
) -> None:
    """Write a BIDS data set of phantoms to BIDS_DIR: a study to rehearse on, with faults if you ask for them.

    The last subjects have the faults; participants.tsv names them.
    """
    asked = {"single_shell": single_shell, "truncated": truncated, "broken_gradients": broken_gradients}
    dataset = PhantomDataset(
        n_subjects=subjects,
        n_sessions=sessions,
        n_parts=parts,
        faults=tuple(name for name in FAULTS if asked[name]),
        is_inherited=inherited,
        shape=shape,
        voxel_size=voxel_size,
        bvals=shells,
        n_directions=directions,
        n_b0=max(PhantomDataset.n_b0, parts),
        snr=snr,
        seed=seed,
    )
    images = write_phantom_dataset(folder, dataset)
    tell(f"{folder}: {subjects} subjects, {len(images)} diffusion images")
