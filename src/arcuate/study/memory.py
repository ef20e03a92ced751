"""Memory that a run will take, from its plan and the scan's header, so that it can be refused before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arcuate.errors import InputError
from arcuate.models.response_voxels import ROWS
from arcuate.models.tensor import B_MAX
from arcuate.numerics.sh import n_coefs
from arcuate.numerics.threads import n_threads
from arcuate.volumes.series import bytes_beside
from arcuate.volumes.voxels import BLOCK

if TYPE_CHECKING:
    from arcuate.gradients import GradientTable
    from arcuate.study.plan import Plan
    from arcuate.volumes.resource import VolumeResource

MIB = 1 << 20
DRAWN_EARLY = 256 * MIB  # of a scan as float32, up to which sections of the page are drawn while later steps compute
MARGIN = 1.1  # what the allocator holds beside what is counted
_FLOAT = 4  # bytes
# MiB whatever the size, measured on scans of a few voxels (LOG.md)
_PROGRAM = 190  # packages
_KERNELS = {"kurtosis": 20, "noddi": 15, "response": 25, "fod": 25}  # of a stage, compiled before; ...
_OTHER_KERNELS = 10  # ... and of the others
_COMPILING = 330  # of a first run: the compiler, in this process and the one that compiles ahead
_PICTURES, _GLYPHS = 60, 120  # of a report, and of its pictures of FODs, two at a time
_PER_THREAD = 16  # what a thread hashes or compresses at a time
_NETWORKS = {"hdbet": 2900, "tracts": 1500}
_BRAIN = 0.5  # part of an image that is brain, where no mask was given; a narrow field of view has so much
# Numbers that are kept per voxel of the image, and of the brain, until a stage has written them
_KEPT = {"dti": 25, "kurtosis": 46, "freewater": 14, "noddi": 14, "peaks": 14}
_AFTER_MAPS = {"kurtosis", "freewater", "noddi", "response", "fod"}  # stages beside which sections are drawn early
_DRAWN = 75  # numbers per voxel of the image that a report holds beside the FODs
_EARLY = 25  # and those of a section that is drawn while a later step computes
_DEGREE = 8  # of FODs at most


@dataclass(frozen=True)
class Size:
    """What memory depends on."""

    n_vox: int  # of the image
    n_inside: int  # of the brain
    n_meas: int

    @property
    def image(self) -> float:
        """Bytes of the scan as float32."""
        return float(_FLOAT * self.n_vox * self.n_meas)

    @property
    def both(self) -> int:
        """Rows of the brain, and the image that they are put back into."""
        return self.n_vox + self.n_inside


def expected_memory(
    plan: Plan,
    volume: VolumeResource,
    gradients: GradientTable,
    mask: VolumeResource | None = None,
    *,
    with_report: bool,
    compiles: bool = False,
) -> int:
    """Bytes that a run may take at its peak, resident memory; on the safe side by up to two thirds.

    Parameters
    ----------
    plan : the steps that the run does
    volume : (x, y, z, n_meas); its shape counts
    gradients : of the scan
    mask : (x, y, z), if one was given; else half of the image is taken for brain
    with_report : whether a page is drawn
    compiles : whether kernels have to be compiled

    Notes
    -----
    The scan is in memory from the first step to the FODs, twice in denoising; beside it what the largest of these
    stages needs, and while it is read, what its volumes are taken from. After the FODs it is gone: then there are the
    FODs before and after normalisation, or the maps of a report. What a stage needs is counted from its arrays: the
    maps it makes, as rows and as images, and the blocks in double precision that it works on.
    """
    n_vox = int(np.prod(volume.shape[:3]))
    inside = (
        int(np.ceil(_BRAIN * n_vox)) if mask is None else int(np.count_nonzero(np.asarray(mask.get_array()) >= 0.5))
    )
    size = Size(n_vox, inside, len(gradients))
    is_low = gradients.bvals <= B_MAX + 100
    n_low = int(is_low.sum()) if is_low.sum() > 6 else size.n_meas
    beside = {name: _beside_scan(name, step.how, size, n_low) for name, step in plan.steps.items()}
    beside["reading"] = float(bytes_beside(volume))
    if with_report and size.image <= DRAWN_EARLY:
        for name in beside.keys() & _AFTER_MAPS:
            beside[name] += _FLOAT * _EARLY * size.n_vox
    if with_report:
        beside["checks"] = _checks(size, n_low)
    after = [_after_scan(stage, size) for stage in plan.steps]
    if with_report:
        n_drawn = _DRAWN + n_coefs(_DEGREE) * ("fod" in plan)
        pictures = _PICTURES + _GLYPHS * ("fod" in plan)
        after.append(pictures * MIB + _FLOAT * n_drawn * size.n_vox)
    kernels = sum(_KERNELS.get(stage, _OTHER_KERNELS) for stage in plan.steps)
    at_once = min(n_threads(), size.image / (_PER_THREAD * MIB) + 1)
    fixed = MIB * (_PROGRAM + kernels + _COMPILING * compiles + _PER_THREAD * at_once)
    return int(MARGIN * (fixed + max(size.image + max(beside.values()), *after)))


def check_memory(needed: int, allowed_mb: int) -> None:
    """Refuse a run that may take more than ``allowed_mb`` MiB.

    Raises
    ------
    InputError
        It names the figure that would be needed.
    """
    if needed > allowed_mb * MIB:
        raise InputError(
            f"the run may take {int(np.ceil(needed / MIB))} MB of memory, and --mem-mb allows {allowed_mb}; give it "
            "that much, fewer steps (--steps), or a scan of fewer volumes (--shells)."
        )


def _beside_scan(stage: str, how: str, size: Size, n_low: int) -> float:
    """Bytes that a stage takes beside the scan."""
    if stage == "denoise":
        return size.image + 100.0 * size.n_vox + _block(size, BLOCK, 8 * size.n_meas)
    if stage == "mask":
        return 100.0 * size.n_vox + MIB * _NETWORKS.get(how, 0)
    if stage in ("dti", "kurtosis", "freewater", "noddi"):
        n_used = n_low if stage == "dti" else size.n_meas
        return _FLOAT * _KEPT[stage] * size.both + _block(size, BLOCK, n_used * _FLOAT + 8 * 64)
    if stage == "response":
        return _FLOAT * size.n_inside * size.n_meas + _block(size, ROWS * n_threads(), 5 * 8 * size.n_meas)
    if stage == "fod":
        n = n_coefs(_DEGREE) + 2
        return _FLOAT * (n + 2) * size.both + _block(size, BLOCK, _FLOAT * size.n_meas + 4 * 8 * n)
    return 0.0


def _after_scan(stage: str, size: Size) -> float:
    """Bytes that a stage takes once the scan is gone, FODs included."""
    fods = float(_FLOAT * (n_coefs(_DEGREE) + 2) * size.n_vox)
    if stage == "fod":
        return 2 * fods + _FLOAT * n_coefs(_DEGREE) * size.n_inside + 8 * 40 * size.n_inside
    if stage == "peaks":
        return fods + _FLOAT * _KEPT["peaks"] * size.both + _block(size, BLOCK, 8 * n_coefs(_DEGREE) * 2)
    if stage == "tracts":
        return fods + _NETWORKS["tracts"] * MIB + 520.0 * size.n_vox
    return 0.0


def _checks(size: Size, n_low: int) -> float:
    """The rows of a tensor, and the fit."""
    return float(size.n_inside * (_FLOAT * n_low + 220) + 32 * size.n_vox)


def _block(size: Size, n_rows: int, per_row: float) -> float:
    return min(n_rows, size.n_inside) * per_row
