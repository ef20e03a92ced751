"""What is drawn of one map: its values, colours and range; and which of its slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np

from arcuate.errors import InputError
from arcuate.figures.views import View


@dataclass(frozen=True, eq=False)
class Panel:
    """One map of a figure.

    Parameters
    ----------
    array : (x, y, z), or (x, y, z, 3) of colours in 0..1
    label : what it is, with its unit
    colormap : of matplotlib's; the default is told apart by all kinds of colour vision
    limits : lowest and highest value shown; the 1st and 99th percentile of what is not 0 if None
    contour : (x, y, z) mask, its outline drawn on top
    """

    array: np.ndarray
    label: str = ""
    colormap: str = "viridis"
    limits: tuple[float, float] | None = None
    contour: np.ndarray | None = None

    @property
    def is_color(self) -> bool:
        """Whether the array holds colours."""
        return self.array.ndim == 4 and self.array.shape[3] == 3

    @property
    def checked(self) -> np.ndarray:
        """The array.

        Raises
        ------
        InputError
            It is neither a map nor an image of colours.
        """
        array = np.asarray(self.array)
        if array.ndim != 3 and not self.is_color:
            raise InputError(f"found a map of shape {array.shape}; expected (x, y, z), or (x, y, z, 3) for colours.")
        return array


def robust_limits(array: np.ndarray) -> tuple[float, float]:
    """1st and 99th percentile of what, in (...), is finite and not 0; the lower one is 0 where nothing is negative."""
    known = array[np.isfinite(array) & (array != 0)]
    if not known.size:
        return 0.0, 1.0
    low, high = np.percentile(known, [1, 99])
    low = 0.0 if known.min() >= 0 else float(low)
    return low, float(high) if high > low else low + 1.0


def choose_slices(array: np.ndarray, view: View, slices: Sequence[int] | int) -> list[int]:
    """Slices of a canonical array: those that are named, or so many, spread over what is not empty."""
    n_slices = array.shape[view.axis]
    if not isinstance(slices, int):
        return [View(view.plane, int(at)).slice_of(n_slices) for at in slices]
    others = tuple(axis for axis in range(array.ndim) if axis != view.axis)
    filled = np.flatnonzero(np.any(np.nan_to_num(array) != 0, axis=others))
    low, high = (int(filled[0]), int(filled[-1])) if len(filled) else (0, n_slices - 1)
    wanted = np.linspace(low, high, slices + 2)[1:-1]
    return sorted({round(at) for at in wanted})


@lru_cache(maxsize=32)
def lookup_table(colormap: str) -> np.ndarray:
    """(256, 3) uint8 colours of a colormap of matplotlib's, by its name; ``blue-black-orange`` is our own.

    Raises
    ------
    InputError
        matplotlib knows no such colormap.
    """
    if colormap == "blue-black-orange":  # below and above 0 on a dark picture
        ends = np.array([(120, 200, 255), (10, 90, 160), (0, 0, 0), (190, 85, 0), (255, 215, 120)])
        table = np.stack([np.interp(np.arange(256), np.linspace(0, 255, 5), ends[:, k]) for k in range(3)], axis=1)
        return table.round().astype(np.uint8)
    with resources.as_file(resources.files("arcuate.figures") / "colormaps.npz") as path, np.load(path) as tables:
        if colormap in tables.files:
            return np.asarray(tables[colormap])
    import matplotlib

    try:
        mapped = matplotlib.colormaps[colormap]
    except KeyError:
        raise InputError(
            f"found the colormap {colormap!r}; expected a name that matplotlib knows, such as plasma or viridis."
        ) from None
    table = np.asarray(mapped(np.arange(256) / 255, bytes=True)[:, :3])
    table.setflags(write=False)
    return table
