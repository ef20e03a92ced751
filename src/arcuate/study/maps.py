"""What is written of each step's result: its volumes, what they are called, and what their sidecars say of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from arcuate.dti import TENSOR_ORDERS, in_tensor_order
from arcuate.errors import NotApplicable
from arcuate.study.bids import SCANNER_FRAME
from arcuate.volumes.resource import InMemoryVolumeResource

if TYPE_CHECKING:
    from arcuate.csd import FodPeaks, Fods
    from arcuate.dti import Dti
    from arcuate.freewater import FreeWater
    from arcuate.kurtosis import Dki
    from arcuate.noddi import Noddi
    from arcuate.volumes.resource import VolumeResource

_DIFFUSIVITY = "mm^2/s"
TENSOR_MAPS = ("fa", "md", "ad", "rd", "evals", "evecs", "diffusivity", "rmse", "outliers")
FREE_WATER_MAPS = ("fwf", "fa", "md", "ad", "rd", "diffusivity")
KURTOSIS_MAPS = ("mk", "ak", "rk", "kfa", "msk", "fa", "md", "ad", "rd", "diffusivity", "kurtosis")
INTEGRITY_MAPS = ("awf", "da", "dead", "derd", "tort", "aligned")  # of kurtosis too, where they were asked for
NODDI_MAPS = ("icvf", "odi", "isovf", "direction", "rmse", "s0", "dot")


@dataclass(frozen=True)
class Map:
    """One image to write.

    Parameters
    ----------
    param : BIDS label of the parameter, also the file name of the single commands
    volume : the image
    facts : what its sidecar says beyond what all images of the step say
    label : BIDS label of the tissue, where there are several
    """

    param: str
    volume: VolumeResource
    facts: dict[str, Any] = field(default_factory=dict)
    label: str | None = None


def tensor_maps(dti: Dti, order: str = "fsl") -> list[Map]:
    """Those of :meth:`arcuate.dti.Dti.get_maps`, with tensors in the order "fsl" or "mrtrix"."""
    own: dict[str, dict[str, Any]] = {
        "fa": {"Units": "1"},
        "evals": {"Units": _DIFFUSIVITY, "Order": "largest first"},
        "evecs": {"Order": "v1x v1y v1z v2x v2y v2z v3x v3y v3z", "ReferenceFrame": SCANNER_FRAME},
        "diffusivity": {"Units": _DIFFUSIVITY, "ReferenceFrame": SCANNER_FRAME},
        "rmse": {"Units": "1", "Description": "root mean square residual over the fitted signal without weighting"},
        "outliers": {"Units": "1", "Description": "volumes left out of the robust fit"},
    }
    return _in_order(dti.get_maps(), own, order)


def _in_order(maps: dict[str, VolumeResource], own: dict[str, dict[str, Any]], order: str) -> list[Map]:
    """Maps whose tensors have their elements in the order of "fsl" or "mrtrix", as their sidecar says."""
    own["diffusivity"]["Order"] = TENSOR_ORDERS[order][0]
    maps = {**maps, "diffusivity": in_tensor_order(maps["diffusivity"], order)}
    return [Map(name, volume, own.get(name, {"Units": _DIFFUSIVITY})) for name, volume in maps.items()]


def kurtosis_maps(dki: Dki, order: str = "fsl") -> list[Map]:
    """mk ak rk kfa msk fa md ad rd diffusivity kurtosis, and of tract integrity where it was asked for.

    msk is there only where the shells allow it.
    """
    elements = "xxxx yyyy zzzz xxxy xxxz xyyy yyyz xzzz yzzz xxyy xxzz yyzz xxyz xyyz xyzz"
    own: dict[str, dict[str, Any]] = {
        "mk": {"Units": "1", "Description": "mean kurtosis over all directions"},
        "ak": {"Units": "1", "Description": "axial kurtosis: along the first eigenvector"},
        "rk": {"Units": "1", "Description": "radial kurtosis: across the first eigenvector"},
        "kfa": {"Units": "1", "Description": "anisotropy of the kurtosis tensor"},
        "msk": {"Units": "1", "Description": "kurtosis of the signal averaged over directions"},
        "fa": {"Units": "1"},
        "diffusivity": {"Units": _DIFFUSIVITY, "ReferenceFrame": SCANNER_FRAME},
        "kurtosis": {"Units": "1", "Order": elements, "ReferenceFrame": SCANNER_FRAME},
        "awf": {"Units": "1", "Description": "axonal water fraction, where axons are aligned"},
        "da": {"Units": _DIFFUSIVITY, "Description": "diffusivity within axons, where they are aligned"},
        "dead": {"Units": _DIFFUSIVITY, "Description": "diffusivity outside axons, along them"},
        "derd": {"Units": _DIFFUSIVITY, "Description": "diffusivity outside axons, across them"},
        "tort": {"Units": "1", "Description": "tortuosity: dead over derd"},
        "aligned": {"Units": "1", "Description": "1 where axons are aligned, so that tract integrity is defined"},
    }
    return _in_order(dki.get_maps(), own, order)


def free_water_maps(water: FreeWater, order: str = "fsl") -> list[Map]:
    """fwf fa md ad rd diffusivity: the share of free water, and the tensor of the tissue beside it."""
    own: dict[str, dict[str, Any]] = {
        "fwf": {"Units": "1", "Description": "share of free water in the signal at b=0"},
        "fa": {"Units": "1", "Description": "of the tissue without its free water"},
        "diffusivity": {"Units": _DIFFUSIVITY, "ReferenceFrame": SCANNER_FRAME},
    }
    return _in_order(water.get_maps(), own, order)


def fod_maps(fods: Fods, *, is_multi_tissue: bool) -> Iterator[Map]:
    """FODs of each tissue, the total fibre density, and the share of each tissue where there are several.

    One after the other: FODs that come from a cache are written before anything looks into them, as the file they are.
    """
    from arcuate.csd import compute_fibre_density, compute_tissue_fractions

    tissues = list(fods.volumes)
    for name, volume in fods.volumes.items():
        yield Map("fod", volume, fod_facts(), name if is_multi_tissue else None)
    density = {"Units": "arbitrary", "Description": "total apparent fibre density: integral of the FOD over the sphere"}
    yield Map("afd", compute_fibre_density(fods.volumes[tissues[0]]), density)
    if len(tissues) > 1:
        shares = compute_tissue_fractions(fods)
        for i, name in enumerate(tissues):
            about = {"Units": "1", "Description": f"share of {name} in the sum of all tissues"}
            yield Map("fraction", shares.component(i), about, name)


def fod_facts() -> dict[str, Any]:
    """What the sidecar of an image of FODs says of its form."""
    return {
        "OrientationEncoding": {
            "Type": "spherical harmonics",
            "Basis": "MRtrix3: real, even, orthonormal, order l(l+1)/2+m",
            "ReferenceFrame": SCANNER_FRAME,
        }
    }


def peak_maps(peaks: FodPeaks) -> Iterator[Map]:
    """Peaks in the form that MRtrix3 and TractSeg read, and the fibre density along each."""
    yield Map("peaks", peaks.vectors, peak_facts())
    density = {
        "Units": "arbitrary",
        "Description": "apparent fibre density along each peak, strongest first: the amplitude of the FOD",
    }
    yield Map("peakafd", peaks.values, density)


def peak_facts() -> dict[str, Any]:
    """What the sidecar of an image of peaks says of its form."""
    return {
        "OrientationEncoding": {
            "Type": "3-vectors",
            "Order": "x y z per peak, strongest first; length is the amplitude, 0 where absent",
            "ReferenceFrame": SCANNER_FRAME,
        }
    }


def noddi_maps(noddi: Noddi) -> list[Map]:
    """icvf (NDI), odi, isovf (FWF), direction, rmse, s0, and dot where it was fitted."""
    own: dict[str, dict[str, Any]] = {
        "icvf": {"Units": "1", "Description": "neurite density index: share of the tissue inside neurites"},
        "odi": {"Units": "1", "Description": "orientation dispersion index, (2/pi) arctan(1/kappa)"},
        "isovf": {"Units": "1", "Description": "free water fraction"},
        "direction": {"Order": "x y z, unit length", "ReferenceFrame": SCANNER_FRAME},
        "rmse": {"Units": "1", "Description": "root mean square residual over the mean b=0 signal"},
        "s0": {"Units": "arbitrary", "Description": "fitted signal at b=0"},
        "dot": {"Units": "1", "Description": "fraction of water that does not move"},
    }
    return [Map(name, volume, own[name]) for name, volume in noddi.get_maps().items()]


def tract_maps(tracts: VolumeResource, output_type: str) -> list[Map]:
    """The 4-D image of all tracts, then each tract by itself, under TractSeg's names."""
    from arcuate.tractseg import tract_names

    names = tract_names(output_type)
    array = np.asarray(tracts.get_array())
    affine, metadata = tracts.get_affine(), tracts.get_metadata()
    width = array.shape[3] // len(names)  # 3 for orientation maps
    encoding: dict[str, Any] = {}
    if width == 3:
        encoding["OrientationEncoding"] = {"Type": "3-vectors", "Order": "x y z", "ReferenceFrame": SCANNER_FRAME}
    maps = [Map(output_type, tracts, {**encoding, "Tracts": list(names)})]
    for i, name in enumerate(names):
        own = array[..., 3 * i : 3 * i + 3] if width == 3 else array[..., i]
        volume = InMemoryVolumeResource(np.ascontiguousarray(own), affine, metadata)
        maps.append(Map(f"{name}_tom" if width == 3 else name, volume, {**encoding, "Tract": name}))
    return maps


def normalised(fods: Fods, mask: VolumeResource | None) -> Fods:
    """Tissues made comparable between places and subjects; as they are where there is one, or no sum to balance."""
    from arcuate.mtnormalise import mtnormalise

    if mask is None or len(fods.volumes) == 1:
        return fods
    try:
        result = mtnormalise(fods.volumes, mask)
    except NotApplicable as error:
        return replace(fods, parameters={**fods.parameters, "IntensityNormalisationLeftOut": str(error)})
    return replace(
        fods,
        volumes=result.volumes,
        parameters={**fods.parameters, "IntensityNormalisation": result.parameters},
    )
