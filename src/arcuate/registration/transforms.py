"""A transform between two images as a thing to keep, apply, invert and save."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from arcuate._version import __version__
from arcuate.cache import storable
from arcuate.errors import InputError
from arcuate.io.atomic import write_text_atomically
from arcuate.io.transforms import read_transform, write_transform
from arcuate.registration.resampling import Options, resampled
from arcuate.volumes.as_volume import as_volume
from arcuate.volumes.resample import interpolation_of
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.transforms import Affine, Chain, Displacement, Transform, as_chain

MANIFEST = "transform.json"


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
    def warp_fields(self) -> list[VolumeResource]:
        """The displacement fields (x, y, z, 3), mm, scanner frame; none in an affine transform."""
        return list(self.fields)

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
        if not isinstance(interpolation, str):
            raise InputError(
                f"found {interpolation!r} in place of an interpolation; expected (volume, reference, interpolation). "
                "The order (fixed, moving, invert) of kwneuro is that of arcuate.reg; or write invert=True."
            )
        options = Options(interpolation_of(interpolation), kind, modulate)
        return resampled(transform, as_volume(volume), as_volume(reference), options)

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
        said = {"fwd": names, "inverse": inverse, "GeneratedBy": [{"Name": "arcuate", "Version": __version__}]}
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
            return cls.of(_load_folder(folder))
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
        return self.forward.apply(
            volume=volume, reference=reference, interpolation=interpolation, invert=True, **options
        )


def _displacement(field: VolumeResource, back: Displacement | None = None) -> Displacement:
    return Displacement(np.asarray(field.get_array(), dtype=np.float64), field.get_affine(), back)


def _load_folder(folder: Path) -> Chain:
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
    return Chain(tuple(links))
