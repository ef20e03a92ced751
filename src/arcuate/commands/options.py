"""Options that several commands share, and how they read a scan and a mask."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from arcuate.errors import InputError
from arcuate.gradients import B0_THRESHOLD

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.volumes.resource import VectorResource, VolumeResource

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)


@dataclass(frozen=True)
class ScanFiles:
    """The files of one scan, as given on the command line."""

    dwi: Path
    bval: Path | None
    bvec: Path | None
    grad: Path | None
    b0_threshold: float

    def read(self) -> Dwi:
        """The scan, gradient files found beside it when not given; voxels stay on disk, the rest is checked."""
        from arcuate.dwi import Dwi

        scan = Dwi(*self._found(), b0_threshold=self.b0_threshold)
        _ = scan.gradients
        return scan

    @property
    def inputs(self) -> dict[str, Path]:
        """Path of every file that is read, by its role."""
        roles = ("dwi", "bval", "bvec") if self.grad is None else ("dwi", "grad", "grad")
        paths = (getattr(resource, "path", None) for resource in self._found())
        return {role: path for role, path in zip(roles, paths, strict=True) if path is not None}

    def _found(self) -> tuple[VolumeResource, VectorResource, VectorResource]:
        from arcuate.io import find_gradients

        return find_gradients(self.dwi, bval=self.bval, bvec=self.bvec, grad=self.grad)


def scan_options(function: F) -> F:
    """DWI and its gradient files, ``--b0-threshold`` and ``--threads``; passed on as ``scan``, a ScanFiles."""

    @functools.wraps(function)
    def with_scan(**given: Any) -> Any:
        files = ScanFiles(**{name: given.pop(name) for name in ("dwi", "bval", "bvec", "grad", "b0_threshold")})
        return function(scan=files, **given)

    command: Any = with_scan
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
        command = decorate(command)
    return command


def threads_option(function: F) -> F:
    """``--threads`` alone, for commands that do not start from a scan."""
    return click.option(
        "--threads", type=click.IntRange(1), callback=_set_threads, expose_value=False, help="Default: all cores."
    )(function)


def mask_option(function: F) -> F:
    """``--mask``, an image on the grid of the scan."""
    return click.option(
        "--mask", type=PATH, help="Brain mask, 0 and 1, on the grid of the scan. Default: every voxel."
    )(function)


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


def read_mask(path: Path | None) -> VolumeResource | None:
    """The mask behind ``--mask``, or None."""
    if path is None:
        return None
    from arcuate.io import NiftiVolumeResource

    return NiftiVolumeResource(path)
