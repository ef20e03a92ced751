"""Options that several commands share, and how they read a scan and a mask."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import numpy as np

from arcuate.commands.shell import ArcuateCommand, Choice, is_asked_for, long_name
from arcuate.commands.written import check_outputs, own_facts
from arcuate.errors import InputError
from arcuate.gradients import B0_THRESHOLD, B_UNITS
from arcuate.numerics.user_folders import as_path
from arcuate.volumes.series import VolumeMadeLater

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.study.maps import Map
    from arcuate.volumes.resource import VolumeResource

F = TypeVar("F", bound=Callable[..., Any])


class GivenPath(click.Path):
    """A path that was given; no empty word, which would be the folder one is in."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value).strip():
            name = "path" if param is None else long_name(param)
            raise InputError(
                f"found an empty {name}; expected a path ('.' is this folder). Is a variable of the shell not set?"
            )
        return as_path(value)


PATH = GivenPath()


class TemplatePath(GivenPath):
    """An image, or the name of a file that was fetched from TemplateFlow."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from arcuate.fetch.templateflow import is_template_name, template_path

        path = super().convert(value, param, ctx)
        return template_path(path) if is_template_name(path) and not path.exists() else path


TEMPLATE = TemplatePath()
command = functools.partial(click.command, cls=ArcuateCommand)


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

        return _without_single_volumes(find_images(self.paths))

    @property
    def dwi(self) -> Path:
        """What outputs are named after: the image, or what the names of several parts have in common."""
        from arcuate.io import common_name

        return common_name(self.images)

    def read(self) -> Dwi:
        """The scan for a step, which checks its gradients first: the voxels stay on disk until they are asked for.

        So they do where parts are to be scaled by their voxels; how they were is then in :attr:`scan`.
        """
        if self.scale_parts:
            return self.checked.with_volume(VolumeMadeLater(self.checked.volume, lambda: self.scan.volume))
        return self.checked

    @cached_property
    def checked(self) -> Dwi:
        """The scan, gradient files found where not given; no voxel is read, the rest is checked.

        Its parts have the scales that they come with: what is planned before :meth:`read` reads the voxels.
        """
        from arcuate.dwi import Dwi
        from arcuate.io.sidecars import warn_of_unlike_parts
        from arcuate.volumes.scale_steps import check_parts

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
        warn_of_unlike_parts(self.images)
        if self.scale_parts:
            check_parts(scan.gradients, scan.origin.get("Parts", ()))
        if is_asked_for("verbose"):
            self._tell_what_was_found(scan)
        return scan

    def check_whole(self) -> None:
        """Refuse images that were cut short, of which hardly any has to be read for that."""
        from arcuate.io import open_volume

        for path in self.images:
            open_volume(path).check_whole()

    @cached_property
    def scan(self) -> Dwi:
        """The scan that is used and what became of it; where parts are to be scaled, their voxels are read."""
        return self.checked.scale_parts() if self.scale_parts else self.checked

    def _tell_what_was_found(self, scan: Dwi) -> None:
        for role, path in self.inputs.items():
            click.echo(f"{role:6} {path}", err=True)
        click.echo(f"scan   {' x '.join(map(str, scan.volume.shape))}, {scan.gradients!r}", err=True)

    @property
    def inputs(self) -> dict[str, Path]:
        """Path of every file that is read, by its role; the parts of a scan are dwi, dwi2, ..."""
        from arcuate.io import find_gradients_of_parts

        found: dict[str, Path] = {}
        roles = ("dwi", "bval", "bvec") if not self.grad else ("dwi", "grad", "grad")
        parts = find_gradients_of_parts(self.images, bval=self.bval, bvec=self.bvec, grad=self.grad)
        for i, resources in enumerate(parts):
            for role, resource in zip(roles, resources, strict=True):
                path = getattr(resource, "path", None)
                if path is not None:
                    found[role if i == 0 else f"{role}{i + 1}"] = path
        return found

    def inputs_with(self, **others: Path | None) -> dict[str, Path]:
        """Path of every file that is read, other inputs of the command among them, by its role."""
        return self.inputs | {role: path for role, path in others.items() if path is not None}

    def facts(self, **others: Path | None) -> dict[str, Any]:
        """What a sidecar says of the inputs (name and sha256 by role, what was left out or joined) and the command."""
        from arcuate.study.bids import input_facts

        return {**own_facts(), "Inputs": input_facts(self.inputs_with(**others)), **self.scan.origin}


def scan_options(function: F) -> F:
    """DWI and its gradient files, which volumes are taken, and ``--threads``; passed on as ``scan``, a ScanFiles."""

    @functools.wraps(function)
    def with_scan(**given: Any) -> Any:
        paths = _sort_out_gradients(given.pop("dwi"), given)
        files = ScanFiles(paths=paths, **{f.name: given.pop(f.name) for f in fields(ScanFiles) if f.name != "paths"})
        return function(scan=files, **given)

    decorated: Any = with_scan
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
            type=Choice(list(B_UNITS)),
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
        decorated = decorate(decorated)
    return decorated


def threads_option(function: F) -> F:
    """``--threads`` alone, for commands that do not start from a scan."""
    return click.option(
        "--threads",
        "--nthreads",
        type=click.IntRange(1),
        callback=_set_threads,
        expose_value=False,
        help="Default: all cores.",
    )(function)


def tensor_order_option(function: F) -> F:
    """``--tensor-order``."""
    return click.option(
        "--tensor-order",
        type=Choice(["fsl", "mrtrix"]),
        default="fsl",
        show_default=True,
        help="Of the six elements in diffusivity: xx xy xz yy yz zz, or xx yy zz xy xz yz as tensor2metric reads them.",
    )(function)


def second_pass_option(function: F) -> F:
    """``--second-pass/--no-second-pass``, see :func:`arcuate.csd.estimate_fods`; None without either."""
    return click.option(
        "--second-pass/--no-second-pass",
        default=None,
        help="Fit crossings of FODs once more, sharper, wherever that may help, or nowhere, as MRtrix3. Default: where "
        "the signals ask for it.",
    )(function)


def mask_option(function: F, default: str = "every voxel") -> F:
    """``--mask``, an image on the grid of the scan; ``default`` says what is taken without it."""
    return click.option("--mask", type=PATH, help=f"Brain mask, 0 and 1, on the grid of the scan. Default: {default}.")(
        function
    )


def _sort_out_gradients(paths: tuple[Path, ...], given: dict[str, Any]) -> tuple[Path, ...]:
    """The images among names without an option; b-values and b-vectors among them become those of the scan.

    Raises
    ------
    InputError
        A word that is no file, and a choice of one of the options.
    """
    kinds = {"bval": ("bval", "bvals"), "bvec": ("bvec", "bvecs")}
    images = list(paths)
    for kind, endings in kinds.items():
        own = tuple(p for p in images if p.is_file() and p.name.lower().replace("_", ".").rpartition(".")[2] in endings)
        if own and not given[kind]:
            given[kind] = own
            images = [p for p in images if p not in own]
    context = click.get_current_context()
    for path in images:
        for param in context.command.params:
            if isinstance(param.type, click.Choice) and str(path) in param.type.choices and not path.exists():
                raise InputError(
                    f"found the word {path} where an image is expected; it is a choice of {long_name(param)}. Type "
                    f"{long_name(param)} {path}."
                )
    return tuple(images) or paths


def _without_single_volumes(images: tuple[Path, ...]) -> tuple[Path, ...]:
    """The same images; a mask, or another single volume, after the first is refused."""
    for path in images[1:]:
        if path.is_file() and len(read_image(path).shape) == 3:
            raise InputError(
                f"found {path}, a single volume, after the scan; expected parts of one scan there. If it is the mask, "
                f"type --mask {path}."
            )
    return images


def default_of(function: Callable[..., Any], name: str) -> Any:
    """Default that ``function`` gives to its parameter ``name``: a default is written once."""
    return inspect.signature(inspect.unwrap(function)).parameters[name].default


def step_option(step: Callable[..., Any], flag: str, help: str, *, type: Any = None) -> Callable[[F], F]:  # noqa: A002
    """An option by the name of a parameter of ``step``, with the default that it has there, which help shows."""
    default = default_of(step, flag.partition("/")[0].removeprefix("--").replace("-", "_"))
    return click.option(flag, type=type, default=default, show_default=True, help=help)


def least_squares_options(estimate: Callable[..., Any], b_max_help: str) -> Callable[[F], F]:
    """``--b-max``, ``--n-reweight`` and ``--nonnegative`` with the defaults of the step ``estimate``."""
    options = (
        step_option(estimate, "--b-max", b_max_help, type=float),
        step_option(estimate, "--n-reweight", "0 is OLS, 1 WLS, more IWLS.", type=click.IntRange(0)),
        step_option(
            estimate, "--nonnegative/--no-nonnegative", "Raise negative eigenvalues of the tensor to (nearly) zero."
        ),
    )

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def write_maps(out: Path, maps: Iterable[Map], facts: Mapping[str, Any]) -> str:
    """Write maps of a step to ``out`` under their names; the counts of voxels by status, for the last line."""
    from arcuate.models.status import counts_in_words
    from arcuate.study.bids import write_map

    for image in maps:
        write_map(image.volume, out / f"{image.param}.nii.gz", {**image.facts, **facts})
    return counts_in_words(facts["VoxelsByStatus"])


def _set_threads(_: click.Context, __: click.Parameter, value: int | None) -> None:
    if value is not None:
        from arcuate.numerics.threads import set_threads

        set_threads(value)


def check_images(images: Iterable[Path], inputs: Mapping[str, Path]) -> None:
    """Refuse images to be written that are inputs or other people's, or whose sidecars are; see ``check_outputs``."""
    from arcuate.study.bids import sidecar_of

    check_outputs([path for image in images for path in (image, sidecar_of(image))], inputs)


def read_image(path: Path) -> VolumeResource:
    """The image behind an argument; it is there and its header says what it is, the voxels stay on disk."""
    from arcuate.io import open_volume

    image = open_volume(path)
    _ = image.shape
    return image


def read_mask(path: Path | None, image: VolumeResource | None = None) -> VolumeResource | None:
    """The mask behind ``--mask``, or None; checked against the ``image`` (x, y, z, n) that it belongs to, if given."""
    if path is None:
        return None
    from arcuate.io import open_volume
    from arcuate.volumes.voxels import check_mask

    mask = open_volume(path)
    if image is None:
        return mask
    return image.with_array(check_mask(image, mask).astype(np.uint8))
