"""Registration: images brought together by ANTs, and what lies in one brought to the other, directions turned along."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from arcuate.cache import cacheable, storable
from arcuate.errors import InputError
from arcuate.io.ants_images import require_ants, seeded, to_ants
from arcuate.io.atomic import write_text_atomically
from arcuate.io.transforms import read_transform, write_transform
from arcuate.models.reorient import reorient_fods, reorient_tensors, reorient_vectors
from arcuate.volumes.as_volume import as_volume
from arcuate.volumes.geometry import voxel_size
from arcuate.volumes.resample import interpolation_of, sample
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.scan import Scan, compute_mean_b0
from arcuate.volumes.transforms import Affine, Chain, Displacement, Transform, as_chain, jacobians
from arcuate.volumes.voxels import check_same_place

MANIFEST = "transform.json"
KINDS = ("scalar", "tensor", "fod", "peaks")
SEED = 20120801
LINEAR = ("Translation", "Rigid", "Similarity", "QuickRigid", "DenseRigid", "BOLDRigid", "Affine", "AffineFast",
          "BOLDAffine", "TRSAA")  # fmt: skip
_BLOCK = 1 << 16  # voxels resampled at once


@storable
@dataclass(frozen=True, eq=False)
class TransformResource:
    """A transform from one image to another.

    Parameters
    ----------
    matrices : (n, 4, 4) float, mm, scanner frame; NaN in the place of a field
        Links in the order in which points of the reference go through them on their way to the moving image.
    fields : displacement fields (x, y, z, 3), mm, scanner frame, in their order
    back_fields : fields of the inverse, each on its own grid; empty where they are not known

    Examples
    --------
    >>> warped, transform = register_volumes(fixed=t1, moving=fa)
    >>> transform.apply(md, t1)                                       # a map to the T1
    >>> transform.inverse.apply(labels, md, interpolation="label")    # labels of the T1 to the scan
    >>> transform.save("fa_to_t1")
    >>> TransformResource.load("sub-01_from-T1w_to-MNI152NLin2009cAsym_mode-image_xfm.h5")
    """

    matrices: np.ndarray
    fields: tuple[VolumeResource, ...] = ()
    back_fields: tuple[VolumeResource, ...] = ()

    @classmethod
    def of(cls, transform: Transform) -> TransformResource:
        """From a chain of affine maps and displacements."""
        chain = as_chain([transform])
        matrices, fields, back = [], [], []
        for link in chain.links:
            if isinstance(link, Affine):
                matrices.append(link.matrix)
                continue
            if not isinstance(link, Displacement):
                raise InputError("the inverse of this transform has no field of its own; keep the transform itself.")
            matrices.append(np.full((4, 4), np.nan))
            fields.append(InMemoryVolumeResource(link.vectors.astype(np.float32), link.affine))
            if link.back is not None:
                back.append(InMemoryVolumeResource(link.back.vectors.astype(np.float32), link.back.affine))
        is_known = len(back) == len(fields)
        return cls(np.array(matrices).reshape(-1, 4, 4), tuple(fields), tuple(back) if is_known else ())

    @property
    def transform(self) -> Chain:
        """The map of points of the reference to the moving image."""
        links: list[Transform] = []
        n_fields = 0
        for matrix in self.matrices:
            if np.isfinite(matrix).all():
                links.append(Affine(np.asarray(matrix, float)))
                continue
            back = _displacement(self.back_fields[n_fields]) if self.back_fields else None
            links.append(_displacement(self.fields[n_fields], back))
            n_fields += 1
        return Chain(tuple(links))

    @property
    def inverse(self) -> InverseTransform:
        """The way back: what lies in the reference brought to the moving image."""
        return InverseTransform(self)

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """Where the points (n, 3) of the reference lie in the moving image, scanner mm."""
        return self.transform.map(np.atleast_2d(np.asarray(points, dtype=np.float64)))

    def apply(
        self,
        volume: VolumeResource | None = None,
        reference: VolumeResource | None = None,
        interpolation: str = "linear",
        *,
        kind: str = "scalar",
        modulate: bool = False,
        invert: bool = False,
        fixed: VolumeResource | None = None,
        moving: VolumeResource | None = None,
    ) -> InMemoryVolumeResource:
        """A volume of the moving image on the grid of the reference.

        Parameters
        ----------
        volume : (x, y, z) or (x, y, z, n), what is brought over
        reference : (x, y, z[, n]), whose grid it is brought to
        interpolation : "linear", "nearest", "label", "cubic"
            Labels by "label" (the largest linear weight); ANTs' names are understood.
        kind : "scalar", "tensor", "fod" or "peaks"
            Tensors (x, y, z, 6), FODs (x, y, z, n_coef) and peaks (x, y, z, 3 n or n, 3), in the scanner frame, are
            turned with the tissue. Peaks are taken from the nearest voxel.
        modulate : densities of FODs follow shrinking and growing tissue
        invert : the way back, as ``transform.inverse.apply``
        fixed, moving : other names for reference and volume, as kwneuro has them

        Returns
        -------
        The volume on the grid of the reference: float32; labels keep their type. 0 beyond the volume.
        """
        volume, reference = moving if volume is None else volume, fixed if reference is None else reference
        if volume is None or reference is None:
            raise InputError("found no volume or no reference; expected both: what is brought over, and to which grid.")
        transform: Transform = self.transform.inverted() if invert else self.transform
        options = _Options(interpolation_of(interpolation), kind, modulate)
        return _resampled(transform, as_volume(volume), as_volume(reference), options)

    def save(self, path: str | os.PathLike[str]) -> TransformResource:
        """Write the transform to a folder, in files that ANTs reads, with a list of them; the transform.

        ``transform.json`` names the files in the order of ``antsApplyTransforms -t``.
        """
        folder = Path(path)
        names: list[str] = []
        inverse: list[dict[str, Any]] = []
        for n, link in enumerate(self.transform.links):
            if isinstance(link, Affine):
                names.append(write_transform(link, folder / f"{n}_affine.mat").name)
                inverse.insert(0, {"File": names[-1], "Invert": True})
                continue
            field = cast(Displacement, link)
            names.append(write_transform(field, folder / f"{n}_warp.nii.gz").name)
            if field.back is not None:
                back = write_transform(field.back, folder / f"{n}_inverse_warp.nii.gz").name
                inverse.insert(0, {"File": back, "Invert": False})
            else:
                inverse.insert(0, {"File": names[-1], "Invert": True})
        said = {"fwd": names, "inverse": inverse}
        write_text_atomically(folder / MANIFEST, json.dumps(said, indent=2) + "\n")
        return self

    @classmethod
    def load(cls, path: Any) -> TransformResource:
        """A transform from a folder of :meth:`save`, a file of ANTs or ITK, or a list of such files.

        Parameters
        ----------
        path : folder; ``.h5``, ``.mat``, ``.txt`` or a warp in NIfTI; or a list in the order of
            ``antsApplyTransforms -t``, in which ``(file, True)`` is inverted

        Raises
        ------
        InputError
            There is no such file, or it is no transform.
        """
        if isinstance(path, Sequence) and not isinstance(path, str):
            links = [
                read_transform(item)
                if isinstance(item, str | os.PathLike)
                else read_transform(item[0], inverted=item[1])
                for item in path
            ]
            return cls.of(as_chain(links))
        folder = Path(path)
        if folder.is_dir():
            return _load_folder(folder)
        return cls.of(read_transform(folder))


@dataclass(frozen=True, eq=False)
class InverseTransform:
    """The way back of a transform.

    Parameters
    ----------
    forward : the transform itself
    """

    forward: TransformResource

    @property
    def inverse(self) -> TransformResource:
        """The transform itself."""
        return self.forward

    @property
    def transform(self) -> Chain:
        """The map of points of the moving image to the reference."""
        return self.forward.transform.inverted()

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """Where the points (n, 3) of the moving image lie in the reference, scanner mm."""
        return self.transform.map(np.atleast_2d(np.asarray(points, dtype=np.float64)))

    def apply(
        self, volume: VolumeResource, reference: VolumeResource, interpolation: str = "linear", **options: Any
    ) -> InMemoryVolumeResource:
        """A volume (x, y, z[, n]) of the reference on the grid of the moving image; see there."""
        return self.forward.apply(volume, reference, interpolation, invert=True, **options)


@dataclass(frozen=True)
class _Options:
    interpolation: str
    kind: str
    modulate: bool


def _displacement(field: VolumeResource, back: Displacement | None = None) -> Displacement:
    return Displacement(np.asarray(field.get_array(), dtype=np.float64), field.get_affine(), back)


def _load_folder(folder: Path) -> TransformResource:
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"found no {MANIFEST} in {folder}; expected a folder that `arcuate register` wrote.")
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        names = [str(name) for name in said["fwd"]]
        backs = {item["File"] for item in said.get("inverse", ()) if not item["Invert"]}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no list of transforms ({error}); register again.") from error
    links: list[Transform] = []
    for name in names:
        file = folder / name
        if file.resolve().parent != folder.resolve():
            raise InputError(f"{path} names {name!r}; expected files of its own folder alone.")
        link = read_transform(file)
        back = folder / name.replace("_warp.nii.gz", "_inverse_warp.nii.gz")
        if isinstance(link, Displacement) and back.name in backs and back.is_file():
            link = Displacement(link.vectors, link.affine, cast(Displacement, read_transform(back)))
        links.append(link)
    return TransformResource.of(Chain(tuple(links)))


def _resampled(
    transform: Transform, volume: VolumeResource, reference: VolumeResource, options: _Options
) -> InMemoryVolumeResource:
    """The volume on the grid of the reference; block by block."""
    array = np.asarray(volume.get_array())
    interpolation = _check_kind(array, options)
    vectors = array.reshape(*array.shape[:3], -1) if array.ndim == 5 else array
    grid, affine = tuple(reference.shape[:3]), reference.get_affine()
    to_voxels = np.linalg.inv(volume.get_affine())
    n_vox = int(np.prod(grid))
    dtype = array.dtype if interpolation in {"nearest", "label"} and options.kind == "scalar" else np.dtype(np.float32)
    out = np.zeros((n_vox, *vectors.shape[3:]), dtype=dtype)
    step = 0.5 * min(voxel_size(affine))
    for start in range(0, n_vox, _BLOCK):
        rows = slice(start, min(start + _BLOCK, n_vox))
        index = np.stack(np.unravel_index(np.arange(rows.start, rows.stop), grid), axis=1)
        points = index @ affine[:3, :3].T + affine[:3, 3]
        mapped = transform.map(points)
        values = sample(vectors, mapped @ to_voxels[:3, :3].T + to_voxels[:3, 3], interpolation)
        if options.kind != "scalar":
            values = np.nan_to_num(values)
            inside = np.any(values != 0, axis=1)
            forward = np.linalg.inv(jacobians(transform, points[inside], step))
            values[inside] = _turned(values[inside], forward, options)
        out[rows] = values
    return InMemoryVolumeResource(out.reshape(*grid, *array.shape[3:]), affine, reference.get_metadata())


def _turned(values: np.ndarray, forward: np.ndarray, options: _Options) -> np.ndarray:
    if options.kind == "tensor":
        return reorient_tensors(values, forward)
    if options.kind == "fod":
        return reorient_fods(values, forward, modulate=options.modulate)
    return reorient_vectors(values.reshape(len(values), -1, 3).astype(np.float64), forward).reshape(len(values), -1)


def _check_kind(array: np.ndarray, options: _Options) -> str:
    """The interpolation to use for this kind of volume, or a refusal."""
    kind, last = options.kind, array.shape[3] if array.ndim == 4 else 0
    if kind not in KINDS:
        raise InputError(f"found the kind {kind!r}; expected one of {', '.join(KINDS)}.")
    if options.modulate and kind != "fod":
        raise InputError(f"found modulation for the kind {kind!r}; it is for FODs (kind fod). Leave it out.")
    fits = {
        "scalar": array.ndim in {3, 4},
        "tensor": last == 6,
        "fod": last in {1, 6, 15, 28, 45, 66, 91, 120},
        "peaks": (array.ndim == 5 and array.shape[4] == 3) or (last > 0 and last % 3 == 0),
    }
    if not fits[kind]:
        expected = {"scalar": "(x, y, z[, n])", "tensor": "(x, y, z, 6)", "fod": "(x, y, z, n_coef) of an even degree",
                    "peaks": "(x, y, z, 3 n)"}[kind]  # fmt: skip
        raise InputError(f"found a volume of shape {array.shape} for the kind {kind!r}; expected {expected}.")
    return "nearest" if kind == "peaks" else options.interpolation


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
    mask, moving_mask : (x, y, z), where to look in either image, on its grid
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
    dwi_mask, structural_mask : (x, y, z), brain masks
    phase_encoding : "i", "j" or "k" (with or without "-"), as BIDS' PhaseEncodingDirection
        For scans whose susceptibility distortion was not corrected: after the rigid part the mean b = 0 image is warped
        to the T1 along this axis alone.
    seed : of the random samples

    Returns
    -------
    TransformResource
        Brings what lies in the scan to the T1; ``.inverse`` brings labels of the T1 to the scan.
    """
    t1 = as_volume(getattr(structural, "volume", structural))
    b0 = compute_mean_b0(dwi)
    transform = _registered({"T1": t1}, {"b=0": b0}, type_of_transform, (structural_mask, dwi_mask), {"seed": seed})
    if phase_encoding is None:
        return transform
    return _along_axis(transform, b0, t1, phase_encoding, seed)


def _along_axis(
    rigid: TransformResource, b0: VolumeResource, t1: VolumeResource, phase_encoding: str, seed: int
) -> TransformResource:
    """The rigid transform, and a warp of the scan along one axis of its grid."""
    axis = "ijk".find(phase_encoding.strip("-+").lower())
    if axis < 0 or len(phase_encoding.strip("-+")) != 1:
        raise InputError(f"found the phase-encoding direction {phase_encoding!r}; expected i, j or k, as in BIDS.")
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
    still = [to_ants(volume, "registration", f"the fixed image {name}") for name, volume in fixed.items()]
    moved = [to_ants(volume, "registration", f"the moving image {name}") for name, volume in moving.items()]
    around = [
        _mask(mask, next(iter(images.values())), what)
        for mask, images, what in zip(masks, (fixed, moving), ("the mask", "the moving mask"), strict=True)
    ]
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
            first = _called(ants, still[0], moved[0], "Affine", common)
            extras = [["mattes", f, m, w, 1] for f, m, w in zip(still[1:], moved[1:], weights[1:], strict=True)]
            result = _called(ants, still[0], moved[0], "SyNOnly", {
                "outprefix": f"{folder}/w_", "multivariate_extras": extras,
                "initial_transform": first["fwdtransforms"][-1], **options,
            })  # fmt: skip
            warp, back = result["fwdtransforms"][0], [p for p in result["invtransforms"] if p.endswith(".nii.gz")]
            return _of_result([warp, first["fwdtransforms"][-1]], back)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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


def _mask(mask: VolumeResource | None, image: VolumeResource, what: str) -> Any:
    if mask is None:
        return None
    volume = as_volume(mask, like=image)
    if tuple(volume.shape[:3]) != tuple(image.shape[:3]):
        raise InputError(
            f"found {what} of shape {tuple(volume.shape)}; expected {tuple(image.shape[:3])}, the grid of its image."
        )
    check_same_place(image, volume, what)
    inside = np.asarray(volume.get_array()).reshape(image.shape[:3]) >= 0.5
    return to_ants(image.with_array(inside.astype(np.float32)), "registration", what)
