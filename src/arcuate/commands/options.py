"""Options that several commands share, and how they read a scan and a mask."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from arcuate.errors import InputError
from arcuate.gradients import B0_THRESHOLD

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.resource import VolumeResource

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)


def scan_options(function: F) -> F:
    """DWI and its gradient files, ``--b0-threshold`` and ``--threads``."""
    for decorate in (
        threads_option,
        click.option(
            "--b0-threshold",
            type=float,
            default=B0_THRESHOLD,
            show_default=True,
            help="s/mm²; at or below it a volume is b=0.",
        ),
        click.option("--grad", type=PATH, help="MRtrix gradient table (x y z b) in place of b-values and b-vectors."),
        click.option("--bvec", type=PATH, help="FSL b-vectors; default: beside DWI."),
        click.option("--bval", type=PATH, help="b-values, s/mm²; default: beside DWI."),
        click.argument("dwi", type=PATH),
    ):
        function = decorate(function)
    return function


def threads_option(function: F) -> F:
    """``--threads`` alone, for commands that do not start from a scan."""
    return click.option(
        "--threads", type=click.IntRange(1), callback=_set_threads, expose_value=False, help="Default: all cores."
    )(function)


def mask_option(function: F) -> F:
    """``--mask``, an image on the grid of the scan."""
    return click.option("--mask", type=PATH, help="Brain mask; voxels above 0 are fitted. Default: every voxel.")(
        function
    )


def out_option(what: str) -> Callable[[F], F]:
    """``--out``, required."""
    return click.option("--out", type=PATH, required=True, help=what)


def default_of(function: Callable[..., Any], name: str) -> Any:
    """Default that ``function`` gives to its parameter ``name``: a default is written once."""
    return inspect.signature(inspect.unwrap(function)).parameters[name].default


def _set_threads(_: click.Context, __: click.Parameter, value: int | None) -> None:
    if value is None:
        return
    import numba

    if value > numba.config.NUMBA_NUM_THREADS:
        raise InputError(
            f"--threads {value} was asked for, this machine offers {numba.config.NUMBA_NUM_THREADS}; give fewer."
        )
    numba.set_num_threads(value)


def read_scan(dwi: Path, bval: Path | None, bvec: Path | None, grad: Path | None, b0_threshold: float) -> Dwi:
    """The scan behind the paths, gradient files found beside it when not given; lazy, but checked."""
    from arcuate.dwi import Dwi
    from arcuate.io import NiftiVolumeResource, find_gradients

    volume = NiftiVolumeResource(dwi)
    affine = volume.get_affine()
    scan = Dwi(volume, *find_gradients(dwi, bval=bval, bvec=bvec, grad=grad).resources(affine), b0_threshold)
    _ = scan.gradients
    return scan


def read_mask(path: Path | None) -> VolumeResource | None:
    """The mask behind ``--mask``, or None."""
    if path is None:
        return None
    from arcuate.io import NiftiVolumeResource

    return NiftiVolumeResource(path)
