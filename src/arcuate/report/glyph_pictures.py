"""Still pictures of FODs and peaks, for readers without the viewer and for slides."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from arcuate.figures.views import Canonical, View
from arcuate.report.arrays import Arrays
from arcuate.report.section import png_bytes

_WIDTH = 44  # voxels across: more are too small to be seen as shapes
_SIZE = (900, 900)


def fod_pictures(arrays: Arrays) -> Iterator[tuple[bytes, str, str, str]]:
    """PNG, description, caption and name of each picture; none if the run made no FODs."""
    from arcuate.figures import render_fods, render_peaks
    from arcuate.volumes.resource import InMemoryVolumeResource

    subject, affine = arrays.subject, arrays.affine
    fods = subject.get_map(subject.csd_model, "fod") if subject.csd_model else None
    if fods is None or affine is None or arrays.inside is None:
        return
    fa = subject.get_map("tensor", "fa")
    background = None if fa is None else arrays.of(fa)
    coefs = arrays.of(fods)
    for plane in [p for p in arrays.planes if p != "sagittal"]:
        box = middle_box(coefs[..., 0] != 0, affine, plane)
        part = InMemoryVolumeResource(coefs[box], affine)  # only its axes matter to the picture
        below = None if background is None else background[box]
        image = render_fods(part, view=View(plane), background=below, size=_SIZE)
        alt = f"FOD glyphs of the middle {plane} slice, coloured by direction."
        yield (
            png_bytes(image),
            alt,
            f"FODs on FA, {plane}: red left-right, green front-back, blue up-down.",
            f"fods_{plane}",
        )
    peaks = subject.get_map(subject.csd_model, "peaks") if subject.csd_model else None
    if peaks is not None:
        flat = arrays.of(peaks)
        box = middle_box(np.any(np.nan_to_num(flat[..., :3]) != 0, axis=-1), affine, "axial")
        vectors = np.nan_to_num(flat[box])
        vectors = vectors.reshape(*vectors.shape[:3], -1, 3)
        below = None if arrays.anatomy is None else arrays.anatomy[box]
        lengths = np.linalg.norm(vectors, axis=-1)
        image = render_peaks(vectors, lengths, affine=affine, background=below, size=_SIZE, norm=True)
        alt = "Peaks of the FODs in the middle axial slice, on the anatomy."
        yield png_bytes(image), alt, "Peaks on the anatomy, axial, the longest of each voxel alike.", "peaks_axial"


def middle_box(filled: np.ndarray, affine: np.ndarray, plane: str) -> tuple[slice, ...]:
    """A box, one slice thick, around the middle of what is filled (x, y, z); in the order of storage."""
    frame = Canonical(affine)
    if not filled.any():
        filled = np.ones_like(filled)
    axis = frame.stored_axis(View(plane).axis)
    counts = filled.sum(axis=tuple(a for a in range(3) if a != axis))
    at = int(np.flatnonzero(np.cumsum(counts) >= counts.sum() / 2)[0])
    thin = np.take(filled, at, axis=axis)
    if not thin.any():
        thin = np.ones_like(thin)
    box = [slice(at, at + 1)] * 3
    for other, line in zip([a for a in range(3) if a != axis], (thin.any(axis=1), thin.any(axis=0)), strict=True):
        inside = np.flatnonzero(line)
        middle, half = (inside[0] + inside[-1] + 1) // 2, min(inside[-1] + 1 - inside[0], _WIDTH) // 2 + 1
        box[other] = slice(max(middle - half, 0), min(middle + half, len(line)))
    return tuple(box)
