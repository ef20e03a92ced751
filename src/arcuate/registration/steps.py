"""Images brought together by ANTs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from arcuate.cache import cacheable
from arcuate.errors import InputError, warn
from arcuate.io.transforms import read_transform
from arcuate.registration.transforms import TransformResource
from arcuate.volumes.ants_images import mask_to_ants, require_ants, seeded, to_ants
from arcuate.volumes.as_volume import as_volume
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.scan import Scan, compute_mean_b0
from arcuate.volumes.transforms import Displacement, Transform, as_chain

SEED = 20120801
FEWEST_SLICES = 4  # measured: of 2 slices of a brain the rigid transform is 10 mm off, and SyN ends in an error
FEW_SLICES = 8


def register_volumes(
    fixed: VolumeResource,
    moving: VolumeResource,
    type_of_transform: str = "SyN",
    mask: VolumeResource | None = None,
    moving_mask: VolumeResource | None = None,
    *,
    seed: int = SEED,
    **options: Any,
) -> tuple[InMemoryVolumeResource, TransformResource]:
    """Bring one image to another by ANTs.

    Parameters
    ----------
    fixed : (x, y, z), the image that stays
    moving : (x, y, z), the image that is brought to it
    type_of_transform : ANTs' name: "Rigid", "Affine", "SyN", "SyNRA" ...
    mask, moving_mask : (x, y, z), where to look in either image, on its grid; give both or none
        With a mask of one image alone ANTs may end centimetres off.
    seed : of the random samples
    options : further ones of ``ants.registration``, as ``reg_iterations=(40, 20, 0)``

    Returns
    -------
    (x, y, z) float32, the moving image on the grid of the fixed one
    TransformResource

    Raises
    ------
    InputError
        An image is not 3-D or has no contrast, a mask lies elsewhere, or ANTs found no alignment.
    MissingExtraError
        ANTs is not installed.

    References
    ----------
    Avants et al., Symmetric diffeomorphic image registration with cross-correlation. Medical Image Analysis 12, 2008.
    """
    fixed, moving = as_volume(fixed), as_volume(moving)
    transform = _registered(
        {"image": fixed}, {"image": moving}, type_of_transform, (mask, moving_mask), {**options, "seed": seed}
    )
    return transform.apply(moving, fixed), transform


def register_volumes_multimetric(
    fixed: Mapping[str, VolumeResource],
    moving: Mapping[str, VolumeResource],
    weights: Mapping[str, float] | None = None,
    mask: VolumeResource | None = None,
    moving_mask: VolumeResource | None = None,
    *,
    seed: int = SEED,
    **options: Any,
) -> tuple[dict[str, InMemoryVolumeResource], TransformResource]:
    """Bring several images of one head to those of another together.

    Parameters
    ----------
    fixed, moving : {name: (x, y, z)}, the same names; the first leads the affine part, all of them the warp
    weights : of each in the warp, relative to the first; equal without it
    mask, moving_mask : (x, y, z), for the affine part
    seed, options : see :func:`register_volumes`

    Returns
    -------
    {name: (x, y, z) float32} on the grids of ``fixed``
    TransformResource
    """
    if set(fixed) != set(moving) or len(fixed) < 2:
        raise InputError(
            f"found the images {', '.join(fixed)} and {', '.join(moving)}; expected the same two or more of both heads."
        )
    still, moved = ({k: as_volume(images[k]) for k in fixed} for images in (fixed, moving))
    given = [float((weights or {}).get(name, 1.0)) for name in fixed]
    transform = _registered(
        still,
        moved,
        "SyN",
        (mask, moving_mask),
        {**options, "seed": seed},
        [w / given[0] for w in given],
    )
    return {name: transform.apply(moved[name], still[name]) for name in fixed}, transform


@cacheable(version=1)
def register_dwi_to_structural(
    dwi: Scan,
    structural: Any,
    type_of_transform: str = "Rigid",
    dwi_mask: VolumeResource | None = None,
    structural_mask: VolumeResource | None = None,
    *,
    phase_encoding: str | None = None,
    seed: int = SEED,
) -> TransformResource:
    """Bring a diffusion scan to the T1 image of the same head.

    Parameters
    ----------
    dwi : the scan; its mean b = 0 image is registered
    structural : :class:`arcuate.structural.StructuralImage`, or a volume (x, y, z)
    type_of_transform : ANTs' name; "Rigid" for one session
    dwi_mask, structural_mask : (x, y, z), brain masks; give both or none, see :func:`register_volumes`
    phase_encoding : "i", "j" or "k" (with or without "-"), as BIDS' PhaseEncodingDirection
        For scans whose susceptibility distortion was not corrected: after the rigid part the mean b = 0 image is warped
        to the T1 along this axis alone.
    seed : of the random samples

    Returns
    -------
    TransformResource
        Brings what lies in the scan to the T1; ``.inverse`` brings labels of the T1 to the scan.
    """
    axis = None if phase_encoding is None else _axis_of(phase_encoding)
    require_ants("registration")
    t1 = as_volume(getattr(structural, "volume", structural))
    b0 = compute_mean_b0(dwi)
    transform = _registered({"T1": t1}, {"b=0": b0}, type_of_transform, (structural_mask, dwi_mask), {"seed": seed})
    return transform if axis is None else _along_axis(transform, b0, t1, axis, seed)


def _axis_of(phase_encoding: str) -> int:
    """Axis of the grid, 0 to 2, of a direction as BIDS names it."""
    axis = "ijk".find(phase_encoding.strip("-+").lower())
    if axis < 0 or len(phase_encoding.strip("-+")) != 1:
        raise InputError(f"found the phase-encoding direction {phase_encoding!r}; expected i, j or k, as in BIDS.")
    return axis


def _along_axis(
    rigid: TransformResource, b0: VolumeResource, t1: VolumeResource, axis: int, seed: int
) -> TransformResource:
    """The rigid transform, and a warp of the scan along one axis of its grid."""
    along = np.abs(b0.get_affine()[:3, axis])
    kept = [1.0 if i == int(np.argmax(along)) else 0.0 for i in range(3)]
    t1_at_scan = rigid.inverse.apply(t1, b0)
    warp = _registered(
        {"b=0": b0}, {"T1": t1_at_scan}, "SyNOnly", (None, None), {"seed": seed, "restrict_transformation": kept}
    )
    return TransformResource.of(as_chain([rigid.transform, warp.transform.inverted()]))


def _registered(
    fixed: Mapping[str, VolumeResource],
    moving: Mapping[str, VolumeResource],
    type_of_transform: str,
    masks: tuple[VolumeResource | None, VolumeResource | None],
    options: dict[str, Any],
    weights: Sequence[float] = (),
) -> TransformResource:
    """The transform that ANTs finds; several images by an affine of the first and a warp of all."""
    ants = require_ants("registration")
    for which, images in (("fixed", fixed), ("moving", moving)):
        for name, volume in images.items():
            _check_extent(volume, f"the {which} {name}")
    still = [to_ants(volume, "registration", f"the fixed {name}") for name, volume in fixed.items()]
    moved = [to_ants(volume, "registration", f"the moving {name}") for name, volume in moving.items()]
    around = [
        None if mask is None else mask_to_ants(mask, next(iter(images.values())), what)
        for mask, images, what in zip(masks, (fixed, moving), ("the mask", "the moving mask"), strict=True)
    ]
    if (around[0] is None) != (around[1] is None):
        given, missing = ("fixed", "moving") if around[1] is None else ("moving", "fixed")
        warn(
            f"there is a mask of the {given} image and none of the {missing} one; ANTs may then end centimetres off. "
            "Give masks of both or of none."
        )
    seed = options.pop("seed")
    folder = tempfile.mkdtemp(prefix="arcuate-registration-")
    try:
        with seeded(seed):
            common = {"mask": around[0], "moving_mask": around[1], "outprefix": f"{folder}/t_"}
            if len(still) == 1:
                if type_of_transform == "SyNOnly":
                    options = {"initial_transform": "Identity", **options}
                result = _called(ants, still[0], moved[0], type_of_transform, {**common, **options})
                return _of_result(result["fwdtransforms"], result["invtransforms"])
            # the affine part as SyN does it: ANTs' "Affine" alone takes few points of a small image, and may go astray
            first = _called(ants, still[0], moved[0], "SyN", {**common, "reg_iterations": (0,)})
            extras = [["mattes", f, m, w, 1] for f, m, w in zip(still[1:], moved[1:], weights[1:], strict=True)]
            result = _called(ants, still[0], moved[0], "SyNOnly", {
                "outprefix": f"{folder}/w_", "multivariate_extras": extras,
                "initial_transform": first["fwdtransforms"][-1], **options,
            })  # fmt: skip
            warp, back = result["fwdtransforms"][0], [p for p in result["invtransforms"] if p.endswith(".nii.gz")]
            return _of_result([warp, first["fwdtransforms"][-1]], back)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_extent(volume: VolumeResource, what: str) -> None:
    """Refuse an image (x, y, z) of a slice or three, and warn of one of a few more: nothing holds it across them."""
    shape = tuple(volume.shape)
    if len(shape) != 3:  # refused where it is read
        return
    if min(shape) < FEWEST_SLICES:
        raise InputError(
            f"found {what} of shape {shape}; expected {FEWEST_SLICES} voxels or more along each axis: registration is "
            "in three dimensions, and so few slices hold nothing across them. Register the whole head."
        )
    if min(shape) < FEW_SLICES:
        warn(f"{what} has {min(shape)} slices, which hardly hold it across them: look at the result.")


def _called(ants: Any, fixed: Any, moving: Any, kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Result of ``ants.registration``; what goes wrong in it as one sentence."""
    try:
        found: dict[str, Any] = ants.registration(fixed=fixed, moving=moving, type_of_transform=kind, **options)
    except Exception as error:  # ANTs raises errors of many classes, with its log in them
        said = str(error).strip().splitlines()
        raise InputError(
            f"ANTs could not register the images with {kind!r} ({said[-1] if said else type(error).__name__}); check "
            "that both show the same head, and the name of the transform."
        ) from error
    if not found.get("fwdtransforms"):
        raise InputError(f"ANTs found no transform with {kind!r}; check that both images show the same head.")
    return found


def _of_result(forward: Sequence[str], back: Sequence[str]) -> TransformResource:
    """The transform in the files that ANTs wrote, with the field of its inverse where there is one."""
    fields = [path for path in back if path.endswith((".nii.gz", ".nii"))]
    links: list[Transform] = []
    for path in forward:
        link = read_transform(path)
        if isinstance(link, Displacement) and fields:
            link = Displacement(link.vectors, link.affine, cast(Displacement, read_transform(fields[0])))
        links.append(link)
    return TransformResource.of(as_chain(links))
