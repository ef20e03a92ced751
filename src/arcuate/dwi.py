"""A diffusion scan: volume, b-values and b-vectors together, and the steps that start from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arcuate.errors import InputError
from arcuate.gradients import B0_THRESHOLD, GradientTable
from arcuate.volumes.resource import (
    InMemoryBvalResource,
    InMemoryBvecResource,
    InMemoryVolumeResource,
    VectorResource,
    VolumeResource,
)
from arcuate.volumes.scan import compute_mean_b0

if TYPE_CHECKING:
    from arcuate.dti import Dti
    from arcuate.noddi import Noddi


@dataclass(frozen=True, eq=False)
class Dwi:
    """A diffusion scan.

    Every method returns a new object; nothing is read from disk before it is needed.

    Parameters
    ----------
    volume : (x, y, z, n_meas), any unit
    bval : (n_meas,), s/mm²
    bvec : (n_meas, 3), FSL's convention for the axes of ``volume``
    b0_threshold : float, s/mm²
        Volumes with ``b <= b0_threshold`` count as b = 0.
    """

    volume: VolumeResource
    bval: VectorResource
    bvec: VectorResource
    b0_threshold: float = B0_THRESHOLD

    @classmethod
    def from_arrays(
        cls, array: np.ndarray, affine: np.ndarray, gradients: GradientTable, metadata: dict[str, Any] | None = None
    ) -> Dwi:
        """A scan in memory from an array (x, y, z, n_meas), its affine and a gradient table in the scanner frame."""
        bvals, bvecs = gradients.to_fsl(affine)
        volume = InMemoryVolumeResource(array, np.asarray(affine, dtype=np.float64), metadata or {})
        return cls(volume, InMemoryBvalResource(bvals), InMemoryBvecResource(bvecs), gradients.b0_threshold)

    @classmethod
    def from_files(
        cls,
        dwi: str | Path,
        bval: str | Path | None = None,
        bvec: str | Path | None = None,
        *,
        grad: str | Path | None = None,
        b0_threshold: float = B0_THRESHOLD,
    ) -> Dwi:
        """A scan on disk: FSL's gradient files, found beside the image when not given, or MRtrix3's table ``grad``.

        Raises
        ------
        InputError
            No gradient files were given and none lie beside the image.
        """
        from arcuate.io import find_gradients

        return cls(*find_gradients(dwi, bval=bval, bvec=bvec, grad=grad), b0_threshold)

    @cached_property
    def gradients(self) -> GradientTable:
        """b-values and directions in the scanner frame.

        Raises
        ------
        InputError
            The volume is not 4-D, or b-values, b-vectors and volumes do not fit together.
        """
        shape = self.volume.shape
        if len(shape) != 4:
            raise InputError(
                f"found a {len(shape)}-D image of shape {shape}; a diffusion scan is 4-D, one volume per b-value. "
                "If the volumes lie in several files, join them first (mrcat, fslmerge)."
            )
        bvals = self.bval.get()
        if len(bvals) != shape[3]:
            raise InputError(
                f"found {len(bvals)} b-values for {shape[3]} volumes; expected as many of one as of the other. "
                "Check that the b-value file belongs to this scan."
            )
        return GradientTable.from_fsl(bvals, self.bvec.get(), self.volume.get_affine(), self.b0_threshold)

    def load(self) -> Dwi:
        """The same scan in memory, checked for consistency."""
        loaded = Dwi(self.volume.load(), self.bval.load(), self.bvec.load(), self.b0_threshold)
        _ = loaded.gradients
        return loaded

    def save(self, folder: str | Path, basename: str = "dwi") -> Dwi:
        """Write ``<basename>.nii.gz``, ``.bval`` and ``.bvec`` to ``folder``; the scan backed by those files."""
        from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource

        folder = Path(folder)
        _ = self.gradients
        return Dwi(
            NiftiVolumeResource.save(self.volume, folder / f"{basename}.nii.gz"),
            FslBvalResource.save(self.bval, folder / f"{basename}.bval"),
            FslBvecResource.save(self.bvec, folder / f"{basename}.bvec"),
            self.b0_threshold,
        )

    @staticmethod
    def concatenate(scans: Sequence[Dwi]) -> Dwi:
        """One scan from several of the same head on the same grid, volumes in the order given.

        Raises
        ------
        InputError
            Grids or affines differ, or the list is empty.
        """
        if not scans:
            raise InputError("found no scans to join; expected at least one.")
        first = scans[0]
        affine = first.volume.get_affine()
        for i, scan in enumerate(scans[1:], start=1):
            if scan.volume.shape[:3] != first.volume.shape[:3]:
                raise InputError(
                    f"scan {i} has the grid {scan.volume.shape[:3]}, the first {first.volume.shape[:3]}; "
                    "expected one grid. Resample them to the same space first."
                )
            if not np.allclose(scan.volume.get_affine(), affine, atol=1e-3):
                raise InputError(
                    f"scan {i} has another affine than the first (largest difference "
                    f"{np.abs(scan.volume.get_affine() - affine).max():.4g}); expected the same head position. "
                    "Register them first."
                )
            if scan.b0_threshold != first.b0_threshold:
                raise InputError("the scans have different b=0 thresholds; give all the same.")
        arrays = [scan.volume.get_array() for scan in scans]
        dtype = np.result_type(*arrays)
        joined = np.concatenate([a.astype(dtype, copy=False) for a in arrays], axis=3)
        bvecs = np.concatenate([scan.gradients.to_fsl(affine)[1] for scan in scans])
        bvals = np.concatenate([scan.bval.get() for scan in scans])
        return Dwi(
            InMemoryVolumeResource(joined, affine, first.volume.get_metadata()),
            InMemoryBvalResource(bvals),
            InMemoryBvecResource(bvecs),
            first.b0_threshold,
        )

    def compute_mean_b0(self) -> InMemoryVolumeResource:
        """Mean of the b = 0 volumes, (x, y, z) float32.

        Raises
        ------
        InputError
            There is no b = 0 volume.
        """
        return compute_mean_b0(self)

    def denoise(self, **options: Any) -> Dwi:
        """Denoised scan; see :func:`arcuate.denoise.denoise_dwi` for the options."""
        from arcuate.denoise import denoise_dwi

        return denoise_dwi(self, **options)

    def extract_brain(self, **options: Any) -> VolumeResource:
        """Brain mask, (x, y, z) of 0 and 1; see :func:`arcuate.masks.extract_brain` for the options."""
        from arcuate.masks import extract_brain

        return extract_brain(self, **options)

    def estimate_dti(self, mask: VolumeResource | None = None, **options: Any) -> Dti:
        """Tensors; see :meth:`arcuate.dti.Dti.estimate_dti` for the options."""
        from arcuate.dti import Dti

        return Dti.estimate_dti(self, mask, **options)

    def estimate_noddi(self, mask: VolumeResource | None = None, **options: Any) -> Noddi:
        """NODDI maps; see :meth:`arcuate.noddi.Noddi.estimate_noddi` for the options."""
        from arcuate.noddi import Noddi

        return Noddi.estimate_noddi(self, mask, **options)


def subsample_dwi(dwi: Dwi, factor: int) -> Dwi:
    """Every ``factor``-th voxel along x, y and z, as a scan of larger voxels whose centres stay where they were.

    Meant for quick looks: voxels are picked, not averaged, so the noise per voxel stays the same.
    """
    if int(factor) != factor or factor < 1:
        raise InputError(f"found the subsampling factor {factor}; expected a whole number, 1 or above.")
    step = int(factor)
    array = np.asarray(dwi.volume.get_array())[::step, ::step, ::step].copy(order="K")
    affine = dwi.volume.get_affine().copy()
    affine[:3, :3] *= step
    volume = InMemoryVolumeResource(array, affine, dwi.volume.get_metadata())
    return Dwi(volume, dwi.bval.load(), dwi.bvec.load(), dwi.b0_threshold)
