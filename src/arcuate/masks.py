"""Brain masks: the embedded method, which needs no network, and the choice among methods."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from arcuate.cache import cacheable
from arcuate.errors import InputError, MissingExtraError, NotApplicable, warn
from arcuate.io.nifti import NiftiVolumeResource
from arcuate.nets.brain import BrainFinder, choose_network, is_installed
from arcuate.numerics.filters import median_filter, otsu_threshold, smooth_field
from arcuate.volumes.geometry import Orientation, voxel_size
from arcuate.volumes.resource import InMemoryVolumeResource, describe_grid
from arcuate.volumes.scan import Scan, compute_mean_least_weighted

if TYPE_CHECKING:
    from arcuate.volumes.resource import VolumeResource

METHODS = ("auto", "hdbet", "otsu")
SLAB_MM = 30.0  # an image of a human head thinner than this is treated slice by slice
SLAB_SHARE = 0.2  # and one of any head thinner than this share of its other extents
HEAD_MM = 100.0  # an image that is nowhere longer holds no human head
N_MEDIAN = 4
HEAD_RADIUS_MM = 60.0  # of what is bright; in smaller heads the next two lengths shrink with it
SHADING_MM = 25.0  # width of the Gaussian that estimates coil shading
OTSU_FRACTION = 0.9
BRIDGE_MM = 9.0  # tissue bridges (optic nerves, neck) up to twice this wide are cut


@dataclass(frozen=True, eq=False)
class BrainMask:
    """A brain mask and how it was made."""

    volume: VolumeResource  # (x, y, z) uint8 of 0 and 1
    parameters: dict[str, Any]  # as its sidecar says them

    def __repr__(self) -> str:
        facts = self.parameters
        return f"BrainMask({facts.get('VolumeMl', 0):.4g} ml, {facts.get('Method', '')}; {describe_grid(self.volume)})"

    def _repr_html_(self) -> str:
        """For notebooks: slices of the mask."""
        return self.volume._repr_html_()


@dataclass(frozen=True)
class MaskQuality:
    """Whether a mask can be a brain."""

    volume_ml: float
    n_components: int
    largest_share: float  # share of the largest component

    @property
    def facts(self) -> dict[str, Any]:
        """For a sidecar."""
        return {"VolumeMl": float(f"{self.volume_ml:.4g}"), "Parts": self.n_components}

    def doubts(self, is_slab: bool, is_human: bool = True) -> list[str]:
        """What speaks against a brain, with numbers; empty if nothing does."""
        found = []
        if is_human and not is_slab and not 300 <= self.volume_ml <= 2500:
            found.append(f"its volume is {self.volume_ml:.3g} ml (a human brain has 300 to 2500)")
        if not is_slab and self.largest_share < 0.95:
            found.append(f"it falls into {self.n_components} parts, the largest {self.largest_share:.0%} of it")
        return found


def extract_brain(
    dwi: Scan, *, method: str = "auto", folds: int = 1, augmentation: bool = False, device: str = "auto"
) -> VolumeResource:
    """Brain mask from the mean b = 0 image, or from that of the lowest shell where there is none.

    Parameters
    ----------
    dwi : scan
    method : "auto", "hdbet", "otsu"
        "hdbet" is the network HD-BET: release 2 where the package hd-bet and its weights (``arcuate fetch hd-bet``)
        are on the machine, else release 1 (extra ``[hdbet]``, its weights included). "otsu" is the embedded method,
        see :func:`otsu_mask`. "auto" is the network where one is there and the scan a whole head in which it finds a
        brain, else the embedded method. The sidecar says which it was.
    folds : networks of HD-BET 1 whose answers are averaged, 1 (fast) to 5 (what HD-BET calls accurate); release 2 has
        one network
    augmentation : average over the eight mirror images as well, eight times slower
    device : "auto", "cpu", "cuda"; for the network

    Returns
    -------
    (x, y, z) uint8 of 0 and 1

    Raises
    ------
    InputError
        An unknown method, or nothing that stands out from the background.
    MissingExtraError
        The method hdbet without the extra that brings it.

    Notes
    -----
    HD-BET was trained on structural contrasts (T1, T2, FLAIR); b = 0 images are off its label. It works on whole
    heads; of a truncated slab, whose outer slices are repeated before the network sees it, look at the mask. A mask
    ends where the image ends: volumes of one head compare only between scans that hold the same part of it.

    References
    ----------
    Isensee et al., Automated brain extraction of multisequence MRI using artificial neural networks.
    Human Brain Mapping 40, 2019.
    """
    return find_brain(dwi, method=method, folds=folds, augmentation=augmentation, device=device).volume


def find_brain(
    dwi: Scan, *, method: str = "auto", folds: int = 1, augmentation: bool = False, device: str = "auto"
) -> BrainMask:
    """Brain mask of a scan and how it was made; see :func:`extract_brain`."""
    return find_brains([dwi], method=method, folds=folds, augmentation=augmentation, device=device)[0]


def find_brains(
    scans: Iterable[Scan], *, method: str = "auto", folds: int = 1, augmentation: bool = False, device: str = "auto"
) -> list[BrainMask]:
    """Brain masks of many scans and how they were made, the network loaded once; see :func:`extract_brain`."""
    network = choose_network(folds, augmentation, device)
    masks = []
    for dwi in scans:
        # "auto" is resolved before the cached step: what is installed decides the result, so it belongs in the key
        resolved = resolve_method(method, dwi)
        if resolved == "hdbet":
            inside = network_mask(dwi, facts=network.facts, network=network)
            if not np.any(inside.get_array()):
                resolved = _without_network(method)
        if resolved != "hdbet":
            inside = brain_mask(dwi, method=resolved)
        mask = np.asarray(inside.get_array()) > 0
        zooms = voxel_size(inside.get_affine())
        quality = mask_quality(mask, zooms)
        is_slab = thin_axis(mask.shape, zooms) is not None
        is_human = can_hold_a_human_head(mask.shape, zooms)
        off_label = [] if is_human or resolved != "hdbet" else [_not_for_hdbet(mask.shape, zooms)]
        _warn_of([*off_label, *quality.doubts(is_slab, is_human=is_human)])
        facts = {
            "Type": "Brain",
            "Method": resolved,
            **(network.facts if resolved == "hdbet" else {}),
            **_facts_of_image(dwi),
            **quality.facts,
        }
        masks.append(BrainMask(inside, facts))
    return masks


def _without_network(method: str) -> str:
    """The method that takes over where HD-BET found no brain; refuses where the network was asked for by name."""
    if method == "hdbet":
        raise NotApplicable(
            "HD-BET found no brain in the mean b=0 image; try the method otsu, or give a mask (--mask)."
        )
    warn("HD-BET found no brain in the mean b=0 image; the mask is made by the method otsu. Look at it.")
    return "otsu"


def describe_mask(inside: VolumeResource) -> BrainMask:
    """A mask (x, y, z) of 0 and 1 that was given, with what its sidecar says."""
    quality = mask_quality(np.asarray(inside.get_array()) > 0, voxel_size(inside.get_affine()))
    return BrainMask(inside, {"Type": "Brain", "Method": "given", **quality.facts})


def resolve_method(method: str, dwi: Scan | None = None) -> str:
    """The method that "auto" stands for on this machine and for this scan; other names as they are."""
    if method not in METHODS:
        raise InputError(f"found the mask method {method!r}; expected one of {', '.join(METHODS)}.")
    if method != "auto":
        return method
    if dwi is not None and not can_hold_a_human_head(dwi.volume.shape[:3], voxel_size(dwi.volume.get_affine())):
        return "otsu"  # the network knows human heads: no slices that may not be neighbours, and no animals
    return "hdbet" if is_installed() else "otsu"


@cacheable(version=4)
def brain_mask(dwi: Scan, *, method: str) -> VolumeResource:
    """Brain mask (x, y, z) uint8 from the mean b = 0 image, by one of the methods without a network."""
    mean_b0 = compute_mean_least_weighted(dwi)
    affine = mean_b0.get_affine()
    inside = otsu_mask(mean_b0.get_array(), voxel_size(affine))
    return InMemoryVolumeResource(inside.astype(np.uint8), affine, mean_b0.get_metadata())


@cacheable(version=3, ignore=("network",))
def network_mask(dwi: Scan, *, facts: Mapping[str, Any], network: BrainFinder) -> VolumeResource:
    """Brain mask (x, y, z) uint8 from the mean b = 0 image, by HD-BET, empty where it finds none.

    ``facts`` are those of the network.
    """
    return _by_network(network, compute_mean_least_weighted(dwi), "the mean b=0 image")


@cacheable(version=1)
def structural_mask(volume: VolumeResource, *, method: str) -> VolumeResource:
    """Brain mask (x, y, z) uint8 of a structural volume by one method: "hdbet" or "otsu"."""
    if len(volume.shape) != 3:
        raise InputError(f"found an image of shape {tuple(volume.shape)}; expected (x, y, z). Take one volume.")
    if method == "hdbet":
        if not is_installed():
            raise MissingExtraError("HD-BET", "hdbet", "the mask method hdbet")
        inside = _by_network(choose_network(1, False, "auto"), volume, "the image")
        if not np.any(inside.get_array()):
            raise InputError("HD-BET found no brain in the image; try the method otsu, or give a mask.")
        return inside
    array = np.asarray(volume.get_array(), dtype=np.float32)
    return volume.with_array(otsu_mask(array, voxel_size(volume.get_affine())).astype(np.uint8))


def _by_network(network: BrainFinder, volume: VolumeResource, what: str) -> InMemoryVolumeResource:
    """Brain mask (x, y, z) uint8 of an image by HD-BET, empty where it finds none."""
    image = np.asarray(volume.get_array())
    image = np.where(np.isfinite(image), image, 0).astype(np.float32)
    if image.max() == image.min():
        raise InputError(f"{what} is constant; expected a head. Check the image, or give a mask (--mask).")
    orientation = Orientation.towards(network.axes, image.shape, volume.get_affine())
    x, y, z = voxel_size(orientation.affine)
    head = np.ascontiguousarray(orientation.turn(image).transpose(2, 1, 0))
    inside = network.find_brain(head, (z, y, x)).transpose(2, 1, 0)
    return volume.with_array(np.ascontiguousarray(orientation.turn_back(inside)).astype(np.uint8))


def brain_extract(
    volume: VolumeResource, output_path: str | os.PathLike[str], *, method: str = "auto", sequential: bool = False
) -> NiftiVolumeResource:
    """Brain mask (x, y, z) of a structural volume, written to a file, as kwneuro has it.

    ``method``: "hdbet", "otsu", or "auto" for HD-BET where it is installed. ``sequential`` has no effect: no process is
    ever started.
    """
    inside = structural_mask(volume, method=resolve_method(method))
    return NiftiVolumeResource.save(inside, output_path)


def brain_extract_dwi_batch(
    cases: Sequence[tuple[Scan, str | os.PathLike[str]]], *, method: str = "auto", sequential: bool = False
) -> list[NiftiVolumeResource]:
    """Brain masks of scans, each with the file it is written to; see :func:`brain_extract`."""
    masks = [found.volume for found in find_brains([dwi for dwi, _ in cases], method=method)]
    return [NiftiVolumeResource.save(mask, path) for mask, (_, path) in zip(masks, cases, strict=True)]


def brain_extract_structural_batch(
    cases: Sequence[tuple[Any, str | os.PathLike[str]]], *, method: str = "auto", sequential: bool = False
) -> list[NiftiVolumeResource]:
    """Brain masks of structural images, each with the file it is written to; see :func:`brain_extract`."""
    return [brain_extract(getattr(image, "volume", image), path, method=method) for image, path in cases]


def otsu_mask(mean_b0: np.ndarray, voxel_size: tuple[float, float, float]) -> np.ndarray:
    """Brain mask by a threshold: coil shading divided out, median filter, Otsu, bridges cut, holes closed.

    Parameters
    ----------
    mean_b0 : (x, y, z) float
    voxel_size : mm along each axis

    Returns
    -------
    (x, y, z) bool

    Raises
    ------
    InputError
        The image is constant or holds no finite positive value.

    Notes
    -----
    Slabs and single slices (thinner than 30 mm and than a fifth of their other extents) are treated slice by slice
    across their thinnest axis: their slices may not be neighbours, and a brain cut by the slab has no shape to close.
    The widths of shading and bridges are those of a human head; in a smaller one, whose bright part has a radius under
    60 mm, they shrink with it.
    """
    image = np.where(np.isfinite(mean_b0), np.maximum(mean_b0, 0), 0).astype(np.float32)
    if image.ndim != 3:
        raise InputError(f"found an image of shape {image.shape}; expected the 3-D mean of the b=0 volumes.")
    if not image.max() > 0 or image.max() == image.min():
        what = "is constant" if image.max() > 0 else "is nowhere above 0"
        raise InputError(f"the mean b=0 image {what}; expected a head. Check the image, or give a mask (--mask).")
    thin = thin_axis(image.shape, voxel_size)
    axis = 2 if thin is None else thin
    order = [i for i in range(3) if i != axis] + [axis]
    turned = np.transpose(image, order)
    zooms = tuple(voxel_size[i] for i in order)
    is_whole = thin is None
    scale = min(1.0, _bright_radius(turned, zooms, is_whole) / HEAD_RADIUS_MM)
    shading, bridge = SHADING_MM * scale, BRIDGE_MM * scale
    inside = _head_of(_without_shading(turned, zooms, is_whole, shading), zooms, is_whole, bridge)
    if not inside.any():
        raise InputError("found nothing that stands out from the background; give a mask (--mask).")
    return np.transpose(inside, np.argsort(order))


def _bright_radius(image: np.ndarray, zooms: tuple[float, ...], is_whole: bool) -> float:
    """Radius, mm, of a ball as large as what stands out in the image, or of a disc as large as in its fullest slice."""
    bright = image > otsu_threshold(image)
    if is_whole:
        return float((0.75 / np.pi * bright.sum() * np.prod(zooms)) ** (1 / 3))
    return float(np.sqrt(bright.sum(axis=(0, 1)).max() * zooms[0] * zooms[1] / np.pi))


def _without_shading(image: np.ndarray, zooms: tuple[float, ...], is_whole: bool, width: float) -> np.ndarray:
    smooth = median_filter(image, 1, across_slices=is_whole)
    bright = smooth > otsu_threshold(smooth)
    if not bright.any():
        return image
    floor = 1e-3 * float(image[bright].mean())
    sigma = [width / z for z in zooms]
    if not is_whole:
        sigma[2] = 0.0
    field = smooth_field(np.maximum(image, floor), bright, (sigma[0], sigma[1], sigma[2]))
    return (image / field).astype(np.float32)


def _head_of(image: np.ndarray, zooms: tuple[float, ...], is_whole: bool, bridge: float) -> np.ndarray:
    smooth = median_filter(image, N_MEDIAN, across_slices=is_whole)
    raw = smooth > OTSU_FRACTION * otsu_threshold(smooth)
    if is_whole:
        return _main_part(raw, zooms, bridge)
    return np.stack([_main_part(raw[..., k], zooms[:2], bridge) for k in range(raw.shape[2])], axis=2)


def _main_part(raw: np.ndarray, zooms: tuple[float, ...], bridge: float) -> np.ndarray:
    """The largest part once bridges up to twice ``bridge`` (mm) wide are cut, holes closed."""
    # distances, not a structuring element: a ball of 9 mm at 1 mm would cost 3000 look-ups a voxel
    padded = np.pad(raw, 1)
    core = scipy.ndimage.distance_transform_edt(padded, sampling=zooms) > bridge
    if not core.any():
        core = padded
    labels, n_parts = scipy.ndimage.label(core)
    if n_parts == 0:
        return raw
    core = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1
    near = scipy.ndimage.distance_transform_edt(~core, sampling=zooms) <= bridge
    part = scipy.ndimage.binary_fill_holes(near & padded)
    return part[tuple(slice(1, -1) for _ in zooms)]


def thin_axis(shape: tuple[int, ...], zooms: tuple[float, ...]) -> int | None:
    """Axis along which the image is a slab, or None for a whole head, however small."""
    extent = _extents(shape, zooms)
    axis = int(np.argmin(extent))
    others = float(np.sqrt(np.prod(extent) / extent[axis]))
    return axis if extent[axis] < min(SLAB_MM, SLAB_SHARE * others) else None


def can_hold_a_human_head(shape: tuple[int, ...], zooms: tuple[float, ...]) -> bool:
    """Whether the image is no slab and large enough for a human head."""
    extent = _extents(shape, zooms)
    return bool(extent.min() >= SLAB_MM and extent.max() >= HEAD_MM)


def _not_for_hdbet(shape: tuple[int, ...], zooms: tuple[float, ...]) -> str:
    size = " x ".join(f"{length:.3g}" for length in _extents(shape, zooms))
    return f"HD-BET knows whole human heads, and the image measures {size} mm"


def _extents(shape: tuple[int, ...], zooms: tuple[float, ...]) -> np.ndarray:
    """(3,) mm."""
    return np.multiply(shape[:3], zooms)


def mask_quality(inside: np.ndarray, zooms: tuple[float, float, float]) -> MaskQuality:
    """Volume and parts of a mask (x, y, z) bool."""
    labels, n_parts = scipy.ndimage.label(inside)
    sizes = np.bincount(labels.ravel())[1:]
    total = int(inside.sum())
    share = float(sizes.max() / total) if total else 0.0
    return MaskQuality(total * float(np.prod(zooms)) / 1000, int(n_parts), share)


def _facts_of_image(dwi: Scan) -> dict[str, Any]:
    """Which volumes a mask was made from."""
    bvals = dwi.gradients.bvals[dwi.gradients.least_weighted]
    return {"B0Threshold": dwi.b0_threshold, "BValuesOfImage": sorted({float(round(b)) for b in bvals})}


def _warn_of(doubts: list[str]) -> None:
    """Warn, with numbers, about a mask that cannot be a brain."""
    if doubts:
        warn(f"the mask may not be a brain: {' and '.join(doubts)}. Look at it; if it is wrong, give one (--mask).")
