"""The T1 image of a head: bias field, brain, tissues."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.cache import cacheable, storable
from arcuate.errors import InputError
from arcuate.io.images import save_volume
from arcuate.io.labels import read_image
from arcuate.masks import resolve_method, structural_mask
from arcuate.volumes.ants_images import from_ants, mask_to_ants, require_ants, to_ants
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource

TISSUES = ("csf", "gm", "wm")  # in the order of their brightness in T1, labels 1, 2, 3


@storable
@dataclass(frozen=True, eq=False)
class Tissues:
    """Tissues of a T1 image.

    Parameters
    ----------
    labels : (x, y, z) uint8, 1 CSF, 2 grey matter, 3 white matter, 0 outside the mask
    probabilities : (x, y, z, 3) float32, of CSF, grey matter, white matter
    """

    labels: VolumeResource
    probabilities: VolumeResource

    def probability(self, tissue: str) -> InMemoryVolumeResource:
        """Probability (x, y, z) of one tissue: "csf", "gm" or "wm"."""
        if tissue not in TISSUES:
            raise InputError(f"found the tissue {tissue!r}; expected one of {', '.join(TISSUES)}.")
        array = np.asarray(self.probabilities.get_array())[..., TISSUES.index(tissue)]
        return self.probabilities.with_array(np.ascontiguousarray(array))


@storable
@dataclass(frozen=True, eq=False)
class StructuralImage:
    """A structural image, T1-weighted for the segmentation of tissues.

    Parameters
    ----------
    volume : (x, y, z)
    parameters : what was done to it

    Examples
    --------
    >>> t1 = read_structural("sub-01_T1w.nii.gz").correct_bias()
    >>> mask = t1.extract_brain()
    >>> labels = t1.segment_tissues(mask=mask)                  # 1 CSF, 2 GM, 3 WM
    >>> wm = t1.estimate_tissues(mask).probability("wm")
    """

    volume: VolumeResource
    parameters: dict[str, Any] = field(default_factory=dict)

    def load(self) -> StructuralImage:
        """The same image in memory."""
        return StructuralImage(self.volume.load(), self.parameters)

    def save(self, path: str | os.PathLike[str], basename: str | None = None) -> StructuralImage:
        """Write the image to ``path``, or to ``<basename>.nii.gz`` in the folder ``path``; backed by that file."""
        target = Path(path) if basename is None else Path(path) / f"{basename}.nii.gz"
        return StructuralImage(save_volume(self.volume, target), self.parameters)

    def correct_bias(self, mask: VolumeResource | None = None) -> StructuralImage:
        """The image without the slow change of intensity that coils make (N4), with ANTs' defaults.

        Parameters
        ----------
        mask : (x, y, z), where to estimate the field; ANTs' own rule without it

        Raises
        ------
        InputError
            The image is not 3-D, is constant, or has axes that ANTs cannot represent.
        MissingExtraError
            ANTs is not installed.

        References
        ----------
        Tustison et al., N4ITK: improved N3 bias correction. IEEE TMI 29, 2010.
        """
        return correct_bias(self.volume, mask)

    def extract_brain(self, *, method: str = "auto") -> VolumeResource:
        """Brain mask (x, y, z) uint8.

        Parameters
        ----------
        method : "hdbet", "otsu", or "auto": HD-BET where it is installed, else otsu, the embedded method

        Notes
        -----
        HD-BET was made for structural images and is the one to take. The embedded method is one threshold with
        openings; in T1 images it keeps parts of the scalp: look at the mask.
        """
        return structural_mask(self.volume, method=resolve_method(method))

    def segment_tissues(self, mask: VolumeResource | None = None, method: str = "atropos") -> VolumeResource:
        """Labels (x, y, z) uint8: 1 CSF, 2 grey matter, 3 white matter; see :meth:`estimate_tissues`."""
        if method != "atropos":
            raise InputError(
                f"found the method {method!r}; expected 'atropos'. Networks for tissues and parcellation run in "
                "FastSurfer and SynthSeg, whose labels arcuate reads (`arcuate regions --labels`)."
            )
        return self.estimate_tissues(mask).labels

    def estimate_tissues(self, mask: VolumeResource | None = None) -> Tissues:
        """Tissues by Atropos: k-means of three classes, then a mixture with neighbours in mind, as kwneuro does it.

        Parameters
        ----------
        mask : (x, y, z), the brain; ANTs' own mask without it, which is for images without a skull

        Raises
        ------
        InputError
            The image or the mask cannot be used.
        MissingExtraError
            ANTs is not installed.

        References
        ----------
        Avants et al., An open source multivariate framework for n-tissue segmentation. Neuroinformatics 9, 2011.
        """
        return estimate_tissues(self.volume, mask)

    def parcellate(self, method: str = "dkt") -> VolumeResource:
        """Not offered: (x, y, z) labels of the cortex come from FreeSurfer, FastSurfer or SynthSeg, and are read."""
        raise InputError(
            f"arcuate makes no parcellation (found the method {method!r}); expected labels of FastSurfer, FreeSurfer "
            "or SynthSeg. Run one of them on the T1 image and give its aparc+aseg.mgz to `arcuate regions --labels`."
        )


def read_structural(path: str | os.PathLike[str]) -> StructuralImage:
    """A structural image (x, y, z) from a file, NIfTI or FreeSurfer's ``.mgz``."""
    return StructuralImage(read_image(path))


@cacheable(version=1)
def correct_bias(volume: VolumeResource, mask: VolumeResource | None = None) -> StructuralImage:
    """A volume (x, y, z) without its bias field; see :meth:`StructuralImage.correct_bias`."""
    ants = require_ants("bias correction (N4)")
    image = to_ants(volume, "bias correction (N4)")
    inside = None if mask is None else mask_to_ants(mask, volume, "a mask")
    corrected = ants.n4_bias_field_correction(image, mask=inside)
    return StructuralImage(from_ants(corrected, volume), {"BiasCorrection": "N4", "ANTs": str(ants.__version__)})


@cacheable(version=1)
def estimate_tissues(volume: VolumeResource, mask: VolumeResource | None = None) -> Tissues:
    """Tissues of a T1 volume (x, y, z); see :meth:`StructuralImage.estimate_tissues`."""
    ants = require_ants("segmentation of tissues (Atropos)")
    image = to_ants(volume, "segmentation of tissues (Atropos)")
    inside = ants.get_mask(image) if mask is None else mask_to_ants(mask, volume, "a mask")
    try:
        result = ants.atropos(a=image, m="[0.2,1x1x1]", c="[5,0]", i="kmeans[3]", x=inside)
    except Exception as error:  # ANTs raises errors of many classes
        raise InputError(
            f"Atropos found no three tissues in the image ({type(error).__name__}); check that the mask holds the "
            "brain of this image."
        ) from error
    labels = from_ants(result["segmentation"], volume)
    shares = np.stack([p.numpy() for p in result["probabilityimages"]], axis=-1).astype(np.float32)
    return Tissues(volume.with_array(np.rint(labels.array).astype(np.uint8)), volume.with_array(shares))
