"""A series of volumes made from parts of others: volumes left out, parts joined, parts scaled; read when asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from arcuate.errors import InputError, warn
from arcuate.volumes.geometry import MOST_APART, ROUNDING, Orientation, corners_apart, voxel_size
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource


@dataclass(frozen=True, eq=False)
class Piece:
    """Volumes of one image that a series takes over."""

    source: VolumeResource  # (x, y, z, n)
    index: np.ndarray  # (m,) int, volumes of the source in the order taken
    scale: float = 1.0  # what their values are multiplied with

    @classmethod
    def whole(cls, source: VolumeResource, scale: float = 1.0) -> Piece:
        """All volumes of an image."""
        return cls(source, np.arange(source.shape[3]), scale)

    @property
    def is_whole(self) -> bool:
        """Whether every volume is taken, in order."""
        return np.array_equal(self.index, np.arange(self.source.shape[3]))

    @property
    def can_be_cut(self) -> bool:
        """Whether volumes, in their order, are left out of an image that is read for it, as it is."""
        return self.source.is_read_anew and self.scale == 1 and bool(np.all(np.diff(self.index) > 0))


@dataclass(frozen=True, eq=False, repr=False)
class SeriesVolume(VolumeResource):
    """Image (x, y, z, n_meas) made of pieces of others on one grid; nothing is read before it is asked for.

    Parameters
    ----------
    pieces : one or more; grid, affine and header are those of the first
    """

    pieces: tuple[Piece, ...]

    def __post_init__(self) -> None:
        if not self.pieces or not sum(len(piece.index) for piece in self.pieces):
            raise InputError("found no volumes to take; expected one at least.")

    def load(self) -> InMemoryVolumeResource:
        return InMemoryVolumeResource(self.get_array(), self.get_affine(), self.get_metadata())

    def get_array(self) -> np.ndarray:
        if len(self.pieces) == 1 and self.pieces[0].is_whole:
            return _scaled(self.pieces[0].source.get_array(), self.pieces[0].scale)
        if len(self.pieces) == 1 and self.pieces[0].can_be_cut:
            return _cut(self.pieces[0])
        if (whole := self._read_in_place()) is not None:
            return whole
        out: np.ndarray | None = None
        place = 0
        for piece in self.pieces:  # one after the other: at most the result and one source are in memory
            array = piece.source.get_array()
            if out is None:
                dtype = np.float32 if any(p.scale != 1 for p in self.pieces) else array.dtype
                out = np.empty(self.shape, dtype, order="F" if array.flags.f_contiguous else "C")
            elif np.result_type(out, array) != out.dtype:
                out = out.astype(np.result_type(out, array), order="K")
            for i in piece.index:
                out[..., place] = _scaled(array[..., i], piece.scale)
                place += 1
        assert out is not None
        return out

    def _read_in_place(self) -> np.ndarray | None:
        """Images joined without a second array in memory, None where one of them cannot be read so."""
        if not all(piece.is_whole and piece.scale == 1 and piece.source.is_read_anew for piece in self.pieces):
            return None
        out, start = np.empty(self.shape, np.float32, order="F"), 0
        for piece in self.pieces:
            stop = start + len(piece.index)
            if not piece.source.read_into(out[..., start:stop]):
                return None
            start = stop
        return out

    def get_volume(self, index: int) -> np.ndarray:
        if not -self.shape[3] <= index < self.shape[3]:
            raise InputError(f"the series has {self.shape[3]} volumes; it has no volume {index}.")
        at = index % self.shape[3]
        for piece in self.pieces:
            if at < len(piece.index):
                return _scaled(piece.source.get_volume(int(piece.index[at])), piece.scale)
            at -= len(piece.index)
        raise AssertionError("a volume of the series lies in no piece")

    def get_affine(self) -> np.ndarray:
        return self.pieces[0].source.get_affine()

    def get_metadata(self) -> dict[str, Any]:
        return self.pieces[0].source.get_metadata()

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.pieces[0].source.shape[:3], sum(len(piece.index) for piece in self.pieces))


@dataclass(frozen=True, eq=False, repr=False)
class TurnedVolume(VolumeResource):
    """An image with its axes exchanged and flipped; nothing is read before it is asked for.

    Parameters
    ----------
    source : (x', y', z') or (x', y', z', n)
    turn : made of its shape and affine
    """

    source: VolumeResource
    turn: Orientation

    def load(self) -> InMemoryVolumeResource:
        return InMemoryVolumeResource(self.get_array(), self.get_affine(), self.get_metadata())

    def get_array(self) -> np.ndarray:
        return self.turn.turn(np.asarray(self.source.get_array()))

    def get_volume(self, index: int) -> np.ndarray:
        return self.turn.turn(self.source.get_volume(index))

    def get_affine(self) -> np.ndarray:
        return self.turn.affine.copy()

    def get_metadata(self) -> dict[str, Any]:
        return self.source.get_metadata()

    @property
    def shape(self) -> tuple[int, ...]:
        stored = self.source.shape
        return (*(stored[axis] for axis in self.turn.order), *stored[3:])

    @property
    def path(self) -> Any:
        """File of the image as it is stored, None for one in memory."""
        return getattr(self.source, "path", None)


class VolumeMadeLater(VolumeResource):
    """An image on the grid of another, made when its voxels are asked for.

    Parameters
    ----------
    like : gives shape, affine and header
    make : gives the image; called once
    """

    def __init__(self, like: VolumeResource, make: Callable[[], VolumeResource]) -> None:
        self._like, self._make = like, make
        self._made: InMemoryVolumeResource | None = None

    def load(self) -> InMemoryVolumeResource:
        self._made = self._made or self._make().load()
        return self._made

    def get_array(self) -> np.ndarray:
        return self.load().get_array()

    def get_affine(self) -> np.ndarray:
        return self._like.get_affine()

    def get_metadata(self) -> dict[str, Any]:
        return self._like.get_metadata()

    @property
    def shape(self) -> tuple[int, ...]:
        return self._like.shape


def bytes_beside(volume: VolumeResource) -> int:
    """Bytes that are in memory beside an image while it is made from its sources: the largest of them, as float32."""
    if isinstance(volume, VolumeMadeLater):
        return max(bytes_beside(volume._like), 4 * math.prod(volume.shape))
    if not isinstance(volume, SeriesVolume):
        return 0
    first = volume.pieces[0]
    if len(volume.pieces) == 1 and first.is_whole and first.scale == 1:
        return 0
    largest = max(4 * math.prod(piece.source.shape) for piece in volume.pieces)
    return largest - 4 * math.prod(volume.shape) if len(volume.pieces) == 1 and first.can_be_cut else largest


def _cut(piece: Piece) -> np.ndarray:
    """The volumes of a piece moved to the front of the array that was read for it: no second one is in memory."""
    array = piece.source.get_array()
    for place, i in enumerate(piece.index):
        if place != i:
            array[..., place] = array[..., i]
    return array[..., : len(piece.index)]


def _scaled(array: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return array
    return np.asarray(array * np.asarray(scale, np.result_type(array.dtype, np.float32)))


def pick(volume: VolumeResource, index: np.ndarray) -> SeriesVolume:
    """The volumes ``index`` (m,) of an image (x, y, z, n), in this order."""
    index = np.asarray(index, dtype=np.int64)
    if isinstance(volume, SeriesVolume):
        starts = np.cumsum([0, *(len(piece.index) for piece in volume.pieces)])
        owner = np.searchsorted(starts, index, side="right") - 1
        cuts = np.flatnonzero(np.diff(owner)) + 1
        pieces = []
        for run, owners in zip(np.split(index, cuts), np.split(owner, cuts), strict=True):
            if len(run):
                piece = volume.pieces[owners[0]]
                pieces.append(Piece(piece.source, piece.index[run - starts[owners[0]]], piece.scale))
        return SeriesVolume(tuple(pieces))
    return SeriesVolume((Piece(volume, index),))


def chain(volumes: list[VolumeResource]) -> SeriesVolume:
    """Images (x, y, z, n) one after the other along the last axis; series among them are taken apart."""
    pieces: list[Piece] = []
    for volume in volumes:
        pieces += volume.pieces if isinstance(volume, SeriesVolume) else [Piece.whole(volume)]
    return SeriesVolume(tuple(pieces))


def check_same_grid(volumes: list[VolumeResource]) -> None:
    """Refuse images that do not lie on one grid, and name the first that does not; warn of a twentieth of a voxel."""
    first = volumes[0]
    affine = first.get_affine()
    names = [getattr(getattr(volume, "path", None), "name", f"scan {i}") for i, volume in enumerate(volumes)]
    apart = "They are no parts of one scan: run each on its own, or resample them to one grid first."
    for i, volume in enumerate(volumes):
        if len(volume.shape) != 4:
            raise InputError(
                f"{names[i]} is a {len(volume.shape)}-D image of shape {tuple(volume.shape)}; a diffusion scan is 4-D, "
                "one volume per b-value."
            )
        if volume.shape[:3] != first.shape[:3]:
            raise InputError(
                f"{names[i]} has the grid {volume.shape[:3]}, {names[0]} {first.shape[:3]}; expected one grid. {apart}"
            )
        moved, smallest = corners_apart(tuple(first.shape[:3]), affine, volume.get_affine()), min(voxel_size(affine))
        if not moved < MOST_APART * smallest:
            raise InputError(
                f"{names[i]} lies elsewhere than {names[0]} (their corners are up to {moved:.3g} mm apart, voxels "
                f"{smallest:.3g} mm); expected one place of the head. {apart}"
            )
        if moved >= ROUNDING * smallest:
            warn(
                f"the affine of {names[i]} differs from that of {names[0]}: its corners are up to {moved:.2g} mm off; "
                "joined voxel by voxel."
            )
