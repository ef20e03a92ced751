"""Options that several commands share, and how they read a scan and a mask."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from arcuate.gradients import B0_THRESHOLD, B_UNITS

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.volumes.resource import VolumeResource

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)


@dataclass(frozen=True)
class ScanFiles:
    """The files of one scan, as given on the command line, and which of their volumes are taken."""

    paths: tuple[Path, ...]  # images, or folders of one session
    bval: tuple[Path, ...]
    bvec: tuple[Path, ...]
    grad: tuple[Path, ...]
    b0_threshold: float
    b_unit: str
    exclude: str
    shells: str
    scale_parts: bool

    @cached_property
    def images(self) -> tuple[Path, ...]:
        """The images, folders replaced by those in them."""
        from arcuate.io import find_images

        return find_images(self.paths)

    @property
    def dwi(self) -> Path:
        """What outputs are named after: the image, or what the names of several parts have in common."""
        from arcuate.io import common_name

        return common_name(self.images)

    def read(self) -> Dwi:
        """The scan; read once, see :attr:`scan`."""
        return self.scan

    @cached_property
    def scan(self) -> Dwi:
        """The scan, gradient files found where not given; voxels stay on disk, the rest is checked."""
        from arcuate.dwi import Dwi

        scan = Dwi.from_files(
            self.images,
            self.bval or None,
            self.bvec or None,
            grad=self.grad or None,
            b0_threshold=self.b0_threshold,
            b_unit=self.b_unit,
            exclude=self.exclude,
            shells=self.shells,
        ).checked()
        return scan.scale_parts() if self.scale_parts else scan

    @property
    def inputs(self) -> dict[str, Path]:
        """Path of every file that is read, by its role; the parts of a scan are dwi, dwi2, ..."""
        from arcuate.io import find_gradients

        found: dict[str, Path] = {}
        for i, image in enumerate(self.images):
            given = {k: getattr(self, k)[i] if getattr(self, k) else None for k in ("bval", "bvec", "grad")}
            roles = ("dwi", "bval", "bvec") if not self.grad else ("dwi", "grad", "grad")
            for role, resource in zip(roles, find_gradients(image, **given), strict=True):
                path = getattr(resource, "path", None)
                if path is not None:
                    found[role if i == 0 else f"{role}{i + 1}"] = path
        return found

    def facts(self, **others: Path | None) -> dict[str, Any]:
        """What a sidecar says of the inputs: name and sha256 of every file by role, what was left out or joined."""
        from arcuate.study.bids import input_facts

        paths = self.inputs | {role: path for role, path in others.items() if path is not None}
        return {"Inputs": input_facts(paths), **self.scan.origin}


def scan_options(function: F) -> F:
    """DWI and its gradient files, which volumes are taken, and ``--threads``; passed on as ``scan``, a ScanFiles."""

    @functools.wraps(function)
    def with_scan(**given: Any) -> Any:
        files = ScanFiles(
            paths=given.pop("dwi"), **{f.name: given.pop(f.name) for f in fields(ScanFiles) if f.name != "paths"}
        )
        return function(scan=files, **given)

    command: Any = with_scan
    for decorate in (
        threads_option,
        click.option(
            "--scale-parts",
            is_flag=True,
            help="Bring parts that were acquired with another intensity scale to that of the first, by their b=0.",
        ),
        click.option(
            "--shells",
            default="",
            metavar="LIST",
            help="Take these shells only, s/mm², 0 for b=0: 0,1000. Default: all.",
        ),
        click.option(
            "--exclude",
            default="",
            metavar="LIST",
            help="Leave volumes out, counted from 0 (over all parts): 3,17-20, or last.",
        ),
        click.option(
            "--b-unit",
            type=click.Choice(list(B_UNITS)),
            default="s/mm2",
            show_default=True,
            help="Unit of the b-values in the files.",
        ),
        click.option(
            "--b0-threshold",
            type=float,
            default=B0_THRESHOLD,
            show_default=True,
            help="s/mm²; at or below it a volume is b=0.",
        ),
        click.option(
            "--grad",
            type=PATH,
            multiple=True,
            help="MRtrix table (x y z b) in place of b-values and b-vectors.",
        ),
        click.option("--bvec", type=PATH, multiple=True, help="FSL b-vectors; default: beside DWI, or as in BIDS."),
        click.option("--bval", type=PATH, multiple=True, help="b-values; default: beside DWI, or as in BIDS."),
        click.argument("dwi", type=PATH, nargs=-1, required=True, metavar="DWI..."),
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
    if value is not None:
        from arcuate.numerics.threads import set_threads

        set_threads(value)


def read_mask(path: Path | None) -> VolumeResource | None:
    """The mask behind ``--mask``, or None."""
    if path is None:
        return None
    from arcuate.io import NiftiVolumeResource

    return NiftiVolumeResource(path)
