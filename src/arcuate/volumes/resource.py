"""Volumes, b-values and b-vectors, in memory or on disk: one interface, read when asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from arcuate.errors import InputError, MissingExtraError
from arcuate.volumes.display import figures
from arcuate.volumes.geometry import voxel_size


class Resource(ABC):
    """What may lie in memory or on disk, and is read when asked for."""

    is_loaded: ClassVar[bool] = False
    """Whether it lies in memory."""

    @abstractmethod
    def load(self) -> Resource:
        """The same in memory; itself if it is there already."""


class VolumeResource(Resource):
    """An image: an array, the affine to scanner mm, and header entries."""

    is_read_anew: ClassVar[bool] = False
    """Whether :meth:`get_array` gives an array that nobody else holds, each time."""

    @abstractmethod
    def load(self) -> InMemoryVolumeResource:
        """The same volume in memory; itself if it is there already."""

    @abstractmethod
    def get_array(self) -> np.ndarray:
        """Voxel values, (x, y, z) or (x, y, z, n)."""

    @abstractmethod
    def get_affine(self) -> np.ndarray:
        """(4, 4) float64, voxel indices to scanner mm (RAS+)."""

    @abstractmethod
    def get_metadata(self) -> dict[str, Any]:
        """Header entries as plain numbers and strings; a volume derived from this one may be saved with them."""

    def get_volume(self, index: int) -> np.ndarray:
        """One volume (x, y, z) of a 4-D image."""
        return self.get_array()[..., index]

    def read_into(self, out: np.ndarray) -> bool:
        """Read the voxels into an array of their shape, if that is done without a second one; whether it was."""
        return False

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the array, known without reading the voxels."""

    def encoded_file(self) -> Path | None:
        """A ``.nii.gz`` that holds the very bytes that saving the volume would write, None where there is none."""
        return None

    def known_digests(self) -> dict[str, str] | None:
        """SHA-256 of voxels, affine and header entries where they are known without reading the voxels, else None."""
        return None

    def with_array(self, array: np.ndarray) -> InMemoryVolumeResource:
        """Another array on the same grid, with the header entries of this volume."""
        return InMemoryVolumeResource(array, self.get_affine(), self.get_metadata())

    def component(self, k: int) -> InMemoryVolumeResource:
        """One number per voxel of several, (x, y, z), on the same grid."""
        return self.with_array(np.ascontiguousarray(self.get_array()[..., k].T).T)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The voxel values, so that NumPy's functions take a volume."""
        array = np.asarray(self.get_array(), dtype=dtype)
        return array.copy() if copy else array

    def to_nibabel(self) -> Any:
        """The image as a nibabel ``Nifti1Image``.

        Its header is that which :meth:`arcuate.io.NiftiVolumeResource.save` would write.
        """
        import nibabel as nib

        array = np.asarray(self.get_array())
        array = array.astype(np.uint8) if array.dtype == bool else array
        if array.dtype.kind == "f" and array.dtype.itemsize != 4:
            array = array.astype(np.float32)
        elif array.dtype in (np.int64, np.uint64):
            array = array.astype(np.int32 if np.abs(array).max(initial=0) < 2**31 else np.float64)
        image = nib.Nifti1Image(array, self.get_affine())
        metadata = self.get_metadata()
        for name, place in (("sform_code", image.set_sform), ("qform_code", image.set_qform)):
            code = metadata.get(name)
            place(self.get_affine(), int(code) if isinstance(code, int) and 0 < code < 6 else 1)
        image.header.set_xyzt_units("mm")
        return image

    def plot(self, *, over: VolumeResource | None = None, **options: Any) -> Any:
        """Slices of the image as a matplotlib Figure; a mask is outlined on the image it is drawn ``over``.

        ``options`` are those of :func:`arcuate.figures.plotting.plot_volume`: plane, slices, volume, label ...
        """
        below = None
        if over is not None:
            below = np.asarray(over.get_array())
            below = below[..., 0] if below.ndim == 4 else below
        return figures().plot_volume(self.get_array(), self.get_affine(), over=below, **options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({describe_grid(self)})"

    def _repr_html_(self) -> str:
        """For notebooks: the facts, and a picture; of a 4-D image that is not in memory, of its first volume alone."""
        size = " x ".join(f"{s:.3g}" for s in voxel_size(self.get_affine()))
        facts = {"volume": type(self).__name__, "shape": self.shape, "voxel size": f"{size} mm"}
        is_at_hand = isinstance(self, InMemoryVolumeResource) or len(self.shape) == 3
        try:
            shown = self if is_at_hand else self.with_array(self.get_volume(0))  # one volume alone is read quickly
            if len(self.shape) == 5:  # peaks: the strongest
                shown = self.with_array(np.asarray(self.get_array())[:, :, :, 0])
            figure = shown.plot(slices=5) if len(shown.shape) in {3, 4} else None
        except MissingExtraError:
            figure = None
        return figures().html_of(facts, figure, f"slices of a volume of shape {self.shape}")


def describe_grid(volume: VolumeResource) -> str:
    """Shape (x, y, z) or (x, y, z, n), type and voxel size in words; no voxel is read from disk."""
    try:
        shape, size = volume.shape, voxel_size(volume.get_affine())
    except (InputError, OSError) as error:
        return str(error)
    kind = f" {volume.array.dtype}" if isinstance(volume, InMemoryVolumeResource) else ""
    return f"{' x '.join(map(str, shape))}{kind}, voxels of {' x '.join(f'{s:.3g}' for s in size)} mm"


@dataclass(frozen=True, eq=False, repr=False)
class InMemoryVolumeResource(VolumeResource):
    """A volume held as an array.

    Parameters
    ----------
    array : (x, y, z) or (x, y, z, n)
    affine : (4, 4) float, voxel indices to scanner mm; identity by default
    metadata : header entries

    Raises
    ------
    InputError
        The affine has another shape, or values of the array are masked (``numpy.ma``).
    """

    is_loaded: ClassVar[bool] = True

    array: np.ndarray
    affine: np.ndarray = field(default_factory=lambda: np.eye(4))
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if np.ma.is_masked(self.array):
            n_masked = np.count_nonzero(np.ma.getmaskarray(self.array))
            raise InputError(
                f"found an array in which {n_masked} values are masked; expected values alone, "
                "since an image has no place for that. Give array.filled(0), and a mask as an image of its own."
            )
        object.__setattr__(self, "array", np.asarray(self.array))
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4):
            raise InputError(f"found an affine of shape {affine.shape}; expected (4, 4), voxel indices to scanner mm.")
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "metadata", dict(self.metadata))

    def load(self) -> InMemoryVolumeResource:
        return self

    def get_array(self) -> np.ndarray:
        return self.array

    def get_affine(self) -> np.ndarray:
        return self.affine.copy()

    def get_metadata(self) -> dict[str, Any]:
        return dict(self.metadata)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def to_ants_image(self) -> Any:
        """The image (x, y, z) as ``ants.ANTsImage``, coordinates turned to LPS; floats of 16 bits as float32.

        Raises
        ------
        InputError
            Its axes are not orthogonal, which ITK cannot represent.
        MissingExtraError
            ANTs is not installed.
        """
        from arcuate.volumes.ants_images import image_of

        kind = self.array.dtype
        known = {"uint8", "uint32", "float32", "float64"}
        array = self.array if kind.name in known else self.array.astype(np.uint8 if kind.kind == "b" else np.float32)
        return image_of(array, self.affine)

    @staticmethod
    def from_ants_image(ants_image: Any) -> InMemoryVolumeResource:
        """A volume from ``ants.ANTsImage``, coordinates turned to RAS."""
        from arcuate.volumes.ants_images import affine_of

        millimetres = {"xyzt_units": 2}
        return InMemoryVolumeResource(np.asarray(ants_image.numpy()), affine_of(ants_image), millimetres)


def from_nibabel(image: Any) -> InMemoryVolumeResource:
    """A volume (x, y, z) or (x, y, z, n) from a nibabel image, scaled as its header says; floats as float32."""
    values = np.asanyarray(image.dataobj)
    values = values.astype(np.float32) if values.dtype == np.float64 else values
    header = getattr(image, "header", {})
    codes = {name: int(header[name]) for name in ("sform_code", "qform_code") if name in header}
    affine = np.eye(4) if image.affine is None else image.affine
    return InMemoryVolumeResource(np.asarray(values), affine, codes)


class VectorResource(Resource):
    """b-values (n_meas,) or b-vectors (n_meas, 3), as their file holds them."""

    @abstractmethod
    def load(self) -> VectorResource:
        """The same numbers in memory."""

    @abstractmethod
    def get(self) -> np.ndarray:
        """The numbers, float64."""


@dataclass(frozen=True, eq=False)
class _InMemoryVectors(VectorResource):
    is_loaded: ClassVar[bool] = True

    array: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "array", np.asarray(self.array, dtype=np.float64))

    def load(self) -> Self:
        return self

    def get(self) -> np.ndarray:
        return self.array


@dataclass(frozen=True, eq=False, repr=False)
class InMemoryBvalResource(_InMemoryVectors):
    """b-values (n_meas,), s/mm²."""

    def __repr__(self) -> str:
        low, high = (self.array.min(), self.array.max()) if self.array.size else (0, 0)
        return f"InMemoryBvalResource({self.array.size} b-values from {low:g} to {high:g} s/mm²)"


@dataclass(frozen=True, eq=False, repr=False)
class InMemoryBvecResource(_InMemoryVectors):
    """b-vectors (n_meas, 3) in FSL's convention for the image they belong to."""

    def __repr__(self) -> str:
        return f"InMemoryBvecResource({len(self.array)} b-vectors, FSL's convention)"
