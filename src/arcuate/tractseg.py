"""White-matter tracts by TractSeg's networks: segmentations, endings and orientation maps on the scan's own grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from arcuate.cache import cacheable
from arcuate.errors import InputError
from arcuate.fetch.checksums import checksum_of
from arcuate.fetch.weights import tractseg_weights
from arcuate.models.peak_rule import NETWORK
from arcuate.nets.bundle_names import ENDINGS, N_PARTS, TRACTS, get_bundle_names
from arcuate.nets.bundles import BATCH, INCOMPLETE, CroppedHead, Progress, close_gaps, look_up, main_axes, run_network
from arcuate.nets.unet import UNet, choose_device, load_unet, require_torch
from arcuate.numerics.threads import n_threads
from arcuate.volumes.geometry import Orientation, tilt, voxel_size
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.scan import Scan
from arcuate.volumes.voxels import check_mask

if TYPE_CHECKING:
    from arcuate.models.response import Response

__all__ = [
    "OUTPUT_TYPES",
    "extract_tractseg",
    "find_fod_tracts",
    "find_tracts",
    "get_bundle_names",
    "locate_fod_tracts",
    "locate_tracts",
    "mask_orientation_maps",
    "tract_names",
]

OUTPUT_TYPES = ("tract_segmentation", "endings_segmentation", "TOM")
TRAINED = "LAS"  # storage order of the heads that the networks were trained on
N_PEAKS = 3
THRESHOLD = 0.5


def extract_tractseg(
    dwi: Scan,
    mask: VolumeResource | None,
    response: Response | None = None,
    output_type: str = "tract_segmentation",
    csd_peaks: tuple[VolumeResource, VolumeResource] | None = None,
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "float32",
    progress: Progress | None = None,
) -> VolumeResource:
    """Tracts of a scan, from the three largest peaks of its fibre orientation distributions.

    Parameters
    ----------
    response : decides the model that the peaks come from, see :func:`arcuate.csd.compute_csd_peaks`
    csd_peaks : directions (x, y, z, n, 3) and values (x, y, z, n) of that function, where they are there already
    output_type, weights, device, precision, progress : see :func:`find_tracts`

    Returns
    -------
    (x, y, z, 72) uint8 for "tract_segmentation", (x, y, z, 144) uint8 for "endings_segmentation", (x, y, z, 216)
    float32 for "TOM"; on the grid of the scan, channels named by ``get_bundle_names("All")[1:]``.

    Raises
    ------
    MissingExtraError
        torch is not installed (extra ``[tractseg]``).
    InputError
        The weights are not on this machine; the message names the command that fetches them.
    """
    from arcuate.csd import combine_csd_peaks_to_vector_volume, compute_csd_peaks

    require_torch()
    tractseg_weights(output_type, weights)  # what is missing is said before the peaks are computed
    if csd_peaks is not None:
        directions, values = csd_peaks
    else:  # all local maxima, as sh2peaks gave them to the networks in training
        directions, values = compute_csd_peaks(dwi, mask, response, N_PEAKS, **NETWORK._asdict())
    peaks = combine_csd_peaks_to_vector_volume(directions, values)
    return find_tracts(peaks, output_type, weights=weights, device=device, precision=precision, progress=progress)


def find_tracts(
    peaks: VolumeResource,
    output_type: str = "tract_segmentation",
    *,
    mask: VolumeResource | None = None,
    probabilities: bool = False,
    single_orientation: bool | None = None,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "float32",
    batch: int = BATCH,
    progress: Progress | None = None,
) -> VolumeResource:
    """Tracts from an image of peaks.

    Parameters
    ----------
    peaks : (x, y, z, 3 n) float
        x y z of each peak in the scanner frame, strongest first, length = amplitude, 0 or NaN where absent: ours,
        MRtrix3's and TractSeg's. Any storage order and voxel size. The first three are used.
    output_type : "tract_segmentation", "endings_segmentation" or "TOM" (tract orientation maps)
    mask : (x, y, z), peaks outside are ignored
    probabilities : float32 probabilities in place of masks; no rule for single tracts is applied to them
    single_orientation : slices along the second axis only, three times faster. By default for orientation maps alone,
        whose networks were trained on those slices.
    weights : folder of the weight files; by default ``ARCUATE_WEIGHTS`` and TractSeg's own folders
    device : "auto", "cpu", "cuda"
    precision : "float32", or "bfloat16", which is faster and moves about 0.3 % of the voxels
    batch : slices that go through the network together
    progress : called with the slices done and the slices in all

    Returns
    -------
    (x, y, z, 72) uint8, (x, y, z, 144) uint8, or (x, y, z, 216) float32: x y z of each tract in the scanner frame,
    as the network gives them, neither masked nor normalised.

    Notes
    -----
    As TractSeg 2.10: crop to the peaks, pad to a cube, nearest-neighbour zoom to 144³, slices normalised to mean 0 and
    deviation 1, one U-Net over the slices of three directions, mean, threshold 0.5; for CA and FX a lower threshold
    where they fall apart, and a closing; nearest-neighbour zoom back. Unlike it, the storage order may be any, peaks
    of an oblique scan are turned into the frame of its axes (the networks were trained on heads that are not
    oblique), and voxels that are not cubes are resampled to cubes on the way.

    References
    ----------
    Wasserthal, Neher, Maier-Hein, TractSeg - Fast and accurate white matter tract segmentation. NeuroImage 183, 2018.
    Wasserthal, Neher, Hirjak, Maier-Hein, Combined tract segmentation and orientation mapping for bundle-specific
    tractography. Medical Image Analysis 58, 2019.
    """
    return locate_tracts(
        peaks, output_type, mask=mask, probabilities=probabilities, single_orientation=single_orientation,
        weights=weights, device=device, precision=precision, batch=batch, progress=progress,
    ).volume  # fmt: skip


@dataclass(frozen=True, eq=False)
class Tracts:
    """Tracts and how they were found."""

    volume: VolumeResource  # (x, y, z, n_channels), see find_tracts
    parameters: dict[str, Any]  # as a sidecar says them


def locate_tracts(
    peaks: VolumeResource,
    output_type: str = "tract_segmentation",
    *,
    mask: VolumeResource | None = None,
    probabilities: bool = False,
    single_orientation: bool | None = None,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "float32",
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Tracts:
    """Tracts from an image of peaks and how they were found; see :func:`find_tracts` for the arguments."""
    if probabilities and output_type == "TOM":
        raise InputError("orientation maps have no probabilities; leave probabilities out for the output type TOM.")
    require_torch()
    files = tractseg_weights(output_type, weights)
    if single_orientation is None:
        single_orientation = output_type == "TOM"
    digests = [checksum_of(file) for file in files]
    found = _find_tracts(
        peaks,
        output_type,
        mask=mask,
        probabilities=probabilities,
        single_orientation=single_orientation,
        precision=precision,
        weights_sha256=digests,
        files=files,
        device=choose_device(device),
        batch=batch,
        progress=progress,
    )
    used = {
        "Model": "TractSeg's U-Net",
        "OutputType": output_type,
        "Orientations": 1 if single_orientation else 3,
        "Precision": precision,
        "Probabilities": probabilities,
        "Weights": {file.name: digest for file, digest in zip(files, digests, strict=True)},
    }
    return Tracts(found, used)


@cacheable(version=1, ignore=("files", "batch", "device", "progress"))
def _find_tracts(
    peaks: VolumeResource,
    output_type: str,
    *,
    mask: VolumeResource | None,
    probabilities: bool,
    single_orientation: bool,
    precision: str,
    weights_sha256: list[str],
    files: Sequence[Path],
    device: str,
    batch: int,
    progress: Progress | None,
) -> VolumeResource:
    """:func:`find_tracts` with everything that decides the result among the arguments."""
    vectors = _three_peaks(peaks, mask)
    orientation = Orientation.towards(TRAINED, vectors.shape[:3], peaks.get_affine())
    rotation = tilt(orientation.affine, TRAINED)
    turned = _rotate(orientation.turn(vectors), rotation)
    head = CroppedHead.of(turned, voxel_size(orientation.affine))
    if head is None:
        raise InputError("found no peak in the image; expected peaks (x, y, z, 9) of a head, inside the mask.")
    directions = (1,) if single_orientation else (0, 1, 2)
    options: dict[str, Any] = {"directions": directions, "batch": batch, "progress": progress}
    unets = _networks(output_type, files, device, precision)
    with _as_many_threads_as_kernels():
        if output_type == "TOM":
            cropped = _orientation_maps(head, unets, options)
        else:
            cropped = _segment(head, next(unets), output_type, probabilities, options)
    found = np.zeros((len(cropped), *turned.shape[:3]), cropped.dtype)
    found[(slice(None), *head.box)] = cropped
    out = np.moveaxis(found, 0, -1)
    if output_type == "TOM":
        out = _rotate(out, rotation.T)
    stored = np.ascontiguousarray(orientation.turn_back(out))
    return InMemoryVolumeResource(stored, peaks.get_affine(), peaks.get_metadata())


def find_fod_tracts(fods: VolumeResource, mask: VolumeResource | None = None, **options: Any) -> VolumeResource:
    """Tracts from white-matter FODs (x, y, z, n_coef) in MRtrix3's basis; see :func:`find_tracts` for the options."""
    return locate_fod_tracts(fods, mask, **options).volume


def locate_fod_tracts(fods: VolumeResource, mask: VolumeResource | None = None, **options: Any) -> Tracts:
    """Tracts from white-matter FODs and how they were found; see :func:`find_fod_tracts`."""
    from arcuate.csd import combine_csd_peaks_to_vector_volume, find_fod_peaks

    require_torch()
    tractseg_weights(options.get("output_type", "tract_segmentation"), options.get("weights"))
    peaks = find_fod_peaks(fods, mask, n_peaks=N_PEAKS, **NETWORK._asdict())
    return locate_tracts(combine_csd_peaks_to_vector_volume(*peaks), **options)


def tract_names(output_type: str) -> tuple[str, ...]:
    """Name of each channel of an output; of each three channels for orientation maps."""
    return ENDINGS if output_type == "endings_segmentation" else TRACTS


def mask_orientation_maps(maps: VolumeResource, tracts: VolumeResource, *, dilation: int = 1) -> VolumeResource:
    """Orientation maps (x, y, z, 216) as unit vectors inside each tract, dilated by some voxels, and 0 elsewhere.

    The form in which TractSeg writes them. ``tracts`` is the segmentation (x, y, z, 72) of the same scan.
    """
    vectors, inside = np.asarray(maps.get_array()), np.asarray(tracts.get_array())
    if vectors.shape[3:] != (3 * len(TRACTS),) or inside.shape != (*vectors.shape[:3], len(TRACTS)):
        raise InputError(
            f"found orientation maps of shape {vectors.shape} and tracts of shape {inside.shape}; expected "
            "(x, y, z, 216) and (x, y, z, 72) on one grid."
        )
    out = np.zeros_like(vectors)
    for i in range(len(TRACTS)):
        near = (
            scipy.ndimage.binary_dilation(inside[..., i] > 0, iterations=dilation) if dilation else inside[..., i] > 0
        )
        picked = vectors[near][:, 3 * i : 3 * i + 3]
        lengths = np.linalg.norm(picked, axis=1, keepdims=True)
        out[near, 3 * i : 3 * i + 3] = np.divide(picked, lengths, out=np.zeros_like(picked), where=lengths > 0)
    return InMemoryVolumeResource(out, maps.get_affine(), maps.get_metadata())


def _three_peaks(peaks: VolumeResource, mask: VolumeResource | None) -> np.ndarray:
    """(x, y, z, 9) float32, 0 where absent or outside the mask."""
    array = np.asarray(peaks.get_array())
    if array.ndim == 5 and array.shape[4] == 3:
        array = array.reshape(*array.shape[:3], -1)
    if array.ndim != 4 or array.shape[3] == 0 or array.shape[3] % 3:
        raise InputError(
            f"found an image of shape {array.shape}; expected peaks (x, y, z, 9): x y z of three peaks, as "
            "`arcuate peaks` writes them."
        )
    vectors = np.zeros((*array.shape[:3], 3 * N_PEAKS), np.float32)
    n = min(array.shape[3], 3 * N_PEAKS)
    vectors[..., :n] = array[..., :n]
    vectors[~np.isfinite(vectors)] = 0
    if mask is not None:
        vectors[~check_mask(peaks, mask)] = 0
    return vectors


def _rotate(vectors: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Each x y z of (x, y, z, 3 n) turned by a rotation."""
    if np.array_equal(rotation, np.eye(3)):
        return vectors
    triples = vectors.reshape(*vectors.shape[:3], -1, 3)
    return np.asarray(triples @ rotation.T.astype(np.float32), dtype=np.float32).reshape(vectors.shape)


def _networks(output_type: str, files: Sequence[Path], device: str, precision: str) -> Iterator[UNet]:
    """The networks of an output, one in memory at a time."""
    for file in files:
        if output_type == "TOM":
            n_classes = 3 * len(TRACTS) // N_PARTS
            yield load_unet(
                file, n_classes, upsampling="nearest", has_sigmoid=False, device=device, precision=precision
            )
        else:
            yield load_unet(file, len(tract_names(output_type)), device=device, precision=precision)


def _segment(
    head: CroppedHead, unet: UNet, output_type: str, probabilities: bool, options: dict[str, Any]
) -> np.ndarray:
    """Masks (n_classes, x, y, z) uint8 of the cropped head, or probabilities float32."""
    has_rules = output_type == "tract_segmentation" and not probabilities
    ruled = [TRACTS.index(name) for name in INCOMPLETE] if has_rules else []
    here, cube = run_network(head, unet, whole=ruled, **options)
    if probabilities:
        return here
    # as TractSeg: a probability of exactly 0.5 is inside an ending and outside a tract
    masks = (here >= THRESHOLD if output_type == "endings_segmentation" else here > THRESHOLD).astype(np.uint8)
    for probability, (name, rule) in zip(cube, INCOMPLETE.items() if has_rules else (), strict=True):
        masks[TRACTS.index(name)] = look_up(close_gaps(probability, *rule), head.axes)
    return masks


def _orientation_maps(head: CroppedHead, unets: Iterator[UNet], options: dict[str, Any]) -> np.ndarray:
    """Vectors (216, x, y, z) float32 of the cropped head; of three directions fused through tensors."""
    is_fused = len(options["directions"]) > 1
    progress = options.pop("progress")
    parts = []
    for part, unet in enumerate(unets):
        tell = None if progress is None else lambda k, n, part=part: progress(part * n + k, N_PARTS * n)
        maps, _ = run_network(head, unet, tensors=is_fused, progress=tell, **options)
        parts.append(main_axes(maps) if is_fused else maps)
    return np.concatenate(parts)


@contextmanager
def _as_many_threads_as_kernels() -> Iterator[None]:
    """torch works with the threads that were allowed to the kernels (``--threads``)."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(min(before, n_threads()))
    try:
        yield
    finally:
        torch.set_num_threads(before)
