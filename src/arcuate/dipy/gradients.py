"""Gradient tables with DIPY's names: the vectors as the file holds them, no change of frame, no repair."""

from __future__ import annotations

import re
from functools import cached_property
from io import StringIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.errors import InputError, warn

WATER_GYROMAGNETIC_RATIO = 267.513e6  # rad / (s T)
_SHAPES = {"LTE": (1.0, 0.0), "PTE": (0.0, 1 / 2), "STE": (1 / 3, 1 / 3), "CTE": (2 / 3, 1 / 6)}  # along, across
_TEXT = {".bvals", ".bval", ".bvecs", ".bvec", ".txt", ".eddy_rotated_bvecs", ""}


class GradientTable:
    """Gradients of ``N`` volumes; the attributes are those of DIPY's class of this name.

    Parameters
    ----------
    gradients : (N, 3) float
        b-vector times b-value (s/mm²); NaN becomes 0.
    big_delta, small_delta : float, s
        Pulse separation and duration.
    b0_threshold : float
        A volume with b at or below it counts as b = 0.
    btens : str, (N,) str or (N, 3, 3) float
        Shape of the encoding (LTE, PTE, STE, CTE) or the b-tensors themselves; linear by default.
    """

    def __init__(
        self,
        gradients: Any,
        big_delta: float | None = None,
        small_delta: float | None = None,
        b0_threshold: float = 50,
        btens: Any = None,
    ) -> None:
        gradients = np.asarray(gradients)
        if gradients.ndim != 2 or gradients.shape[1] != 3:
            raise InputError(f"found gradients of shape {gradients.shape}; expected (N, 3).")
        self.gradients = np.where(np.isnan(gradients), 0.0, gradients)
        self.big_delta = big_delta
        self.small_delta = small_delta
        self.b0_threshold = b0_threshold
        self.btens = None if btens is None else self._b_tensors(btens)

    @cached_property
    def bvals(self) -> np.ndarray:
        """(N,) s/mm²."""
        return np.linalg.norm(self.gradients, axis=1)

    @cached_property
    def bvecs(self) -> np.ndarray:
        """(N, 3) unit vectors, 0 where b is."""
        return self.gradients / np.where(self.bvals == 0, 1, self.bvals)[:, None]

    @cached_property
    def b0s_mask(self) -> np.ndarray:
        """(N,) bool."""
        return self.bvals <= self.b0_threshold

    @cached_property
    def tau(self) -> float:
        """Diffusion time, s."""
        if self.big_delta is None or self.small_delta is None:
            raise InputError("big_delta and small_delta (s) were not given; the diffusion time follows from them.")
        return self.big_delta - self.small_delta / 3.0

    @cached_property
    def qvals(self) -> np.ndarray:
        """(N,) 1/mm."""
        return np.sqrt(self.bvals / self.tau) / (2 * np.pi)

    @cached_property
    def gradient_strength(self) -> np.ndarray:
        """(N,) T/mm."""
        return 2 * np.pi * self.qvals / (np.float64(self.small_delta) * WATER_GYROMAGNETIC_RATIO)

    @property
    def info(self) -> None:
        """Print the table's summary."""
        print(self)  # noqa: T201 (as in DIPY)

    def __str__(self) -> str:
        lines = []
        for name, values in (("B-values", self.bvals), ("B-vectors", self.bvecs)):
            lines += [f"{name} shape {values.shape}", f"  min {values.min():f}", f"  max {values.max():f}"]
        return "\n".join(lines) + "\n"

    def __len__(self) -> int:
        return len(self.bvals)

    def __getitem__(self, idx: Any) -> GradientTable:
        """Table of the weighted volumes among those picked.

        As in DIPY a slice also sets ``b0_threshold`` to its start; here on the result alone, the table stays as it is.
        """
        threshold = self.b0_threshold
        if isinstance(idx, int | np.integer):
            idx = [int(idx)]
        elif isinstance(idx, slice):
            start = idx.start if idx.start is not None else 0
            if start != threshold:
                warn(f"b0_threshold is {start} in the slice, from its start (as in DIPY).", UserWarning)
                threshold = start
            idx = range(*idx.indices(len(self)))
        picked = np.arange(len(self))[np.asarray(idx)]
        picked = picked[self.bvals[picked] > threshold]
        if len(picked) == 0:
            raise InputError(f"none of the volumes {idx} has b above b0_threshold = {threshold}; lower it.")
        return gradient_table_from_bvals_bvecs(
            self.bvals[picked],
            self.bvecs[picked],
            b0_threshold=threshold,
            btens=None if self.btens is None else self.btens[picked],
            big_delta=self.big_delta,
            small_delta=self.small_delta,
        )

    def _b_tensors(self, btens: Any) -> np.ndarray:
        """(N, 3, 3) s/mm²."""
        n = len(self.gradients)
        if isinstance(btens, str):
            btens = np.full(n, btens)
        btens = np.asarray(btens)
        if btens.shape == (n, 3, 3):
            return btens
        if btens.size != n or btens.dtype.kind not in "UOS":
            raise InputError(f"found btens of shape {btens.shape}; expected one name or {n} names, or ({n}, 3, 3).")
        names = [str(name) for name in btens.ravel()]
        unknown = set(names) - set(_SHAPES)
        if unknown:
            raise InputError(f"found the b-tensor shape {unknown.pop()!r}; expected one of {', '.join(_SHAPES)}.")
        along, across = np.array([_SHAPES[name] for name in names]).T[:, :, None, None]
        dyads = self.bvecs[:, :, None] * self.bvecs[:, None, :]
        return self.bvals[:, None, None] * (along * dyads + across * (np.eye(3) - dyads))


def gradient_table_from_bvals_bvecs(
    bvals: Any, bvecs: Any, b0_threshold: float = 50, atol: float = 1e-2, btens: Any = None, **kwargs: Any
) -> GradientTable:
    """Table from b-values (N,) and unit b-vectors (N, 3); vectors of another length are refused above b0_threshold.

    Raises
    ------
    InputError
        Shapes that do not match, or a vector of a weighted volume whose length is not 1 within ``atol``.
    """
    bvals, bvecs = np.asarray(bvals, float), np.asarray(bvecs, float)
    if bvals.ndim != 1 or bvecs.shape != (len(bvals), 3):
        raise InputError(f"found bvals {bvals.shape} and bvecs {bvecs.shape}; expected (N,) and (N, 3).")
    if b0_threshold < 0:
        raise InputError(f"b0_threshold is {b0_threshold}; expected 0 or above.")
    if b0_threshold >= 200:
        warn("b0_threshold has a value > 199", UserWarning)
    bvecs = np.where(np.isnan(bvecs), 0, bvecs)
    is_unit = np.abs(np.linalg.norm(bvecs, axis=1) - 1) <= atol
    is_weighted = bvals > b0_threshold
    wrong = np.flatnonzero(is_weighted & ~is_unit)
    if len(wrong):
        raise InputError(
            f"the b-vector of volume {wrong[0]} (b = {bvals[wrong[0]]:g}) is not a unit vector within {atol:g}: "
            f"its length is {np.linalg.norm(bvecs[wrong[0]]):.4g}. Check the file, or raise atol."
        )
    bvecs = np.where(is_unit[:, None], bvecs, 0)
    bvals = bvals * is_unit
    table = GradientTable(bvals[:, None] * bvecs, b0_threshold=b0_threshold, btens=btens, **kwargs)
    table.__dict__.update(bvals=bvals, bvecs=bvecs, b0s_mask=~is_weighted)
    return table


def gradient_table(
    bvals: Any,
    bvecs: Any = None,
    big_delta: float | None = None,
    small_delta: float | None = None,
    b0_threshold: float = 50,
    atol: float = 1e-2,
    btens: Any = None,
) -> GradientTable:
    """Table from b-values and b-vectors, arrays or files, in rows or columns; or from one (N, 4) array of b x y z."""
    if isinstance(bvals, str | PathLike):
        bvals = read_bvals_bvecs(bvals, None)[0]
    if isinstance(bvecs, str | PathLike):
        bvecs = read_bvals_bvecs(None, bvecs)[1]
    bvals = np.asarray(bvals)
    if bvecs is None:
        if bvals.ndim != 2 or 4 not in bvals.shape:
            raise InputError(f"found bvals of shape {bvals.shape} and no bvecs; expected both, or one (N, 4) array.")
        rows = bvals if bvals.shape[1] == 4 else bvals.T
        bvals, bvecs = rows[:, 0], rows[:, 1:]
    else:
        bvecs = np.asarray(bvecs)
        if bvecs.ndim == 2 and bvecs.shape[1] != 3 and bvecs.shape[0] > 1:
            bvecs = bvecs.T
    return gradient_table_from_bvals_bvecs(
        bvals.squeeze() if bvals.ndim > 1 else bvals,
        bvecs,
        b0_threshold=b0_threshold,
        atol=atol,
        btens=btens,
        big_delta=big_delta,
        small_delta=small_delta,
    )


def read_bvals_bvecs(fbvals: Any, fbvecs: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    """b-values (N,) and b-vectors (N, 3) from text or .npy files; None for a file that is None.

    Raises
    ------
    ValueError
        An argument is no path, or the kind of file is unknown.
    OSError
        The b-vectors have no side of 3, or the lengths do not match.
    """
    bvals, bvecs = (_read_numbers(path) for path in (fbvals, fbvecs))
    if bvecs is None:
        return bvals, None
    if 3 not in bvecs.shape:
        raise OSError(f"found b-vectors of shape {bvecs.shape} in {fbvecs}; expected three rows or three columns.")
    if bvecs.ndim != 2:
        warn(f"Detected only 1 direction on {fbvecs}; models need more.", UserWarning)
        bvecs = bvecs[None]
        bvals = None if bvals is None else bvals[None]
    if bvecs.shape[1] != 3:
        bvecs = bvecs.T
    if bvals is not None and bvals.ndim > 1:
        raise OSError(f"found b-values of shape {bvals.shape} in {fbvals}; expected one row.")
    if bvals is not None and len(bvals) != len(bvecs):
        raise OSError(
            f"found {len(bvals)} b-values and {len(bvecs)} b-vectors; expected as many of one as of the other."
        )
    return bvals, bvecs


def _read_numbers(path: Any) -> np.ndarray | None:
    if path is None or not str(path):
        return None
    if not isinstance(path, str | PathLike):
        raise InputError(f"found {type(path).__name__} in place of a file; expected its path.")
    suffix = Path(path).suffix
    if suffix == ".npy":
        return np.squeeze(np.load(path))
    if suffix not in _TEXT:
        raise InputError(
            f"the kind of file {suffix!r} is not known; expected one of {', '.join(sorted(_TEXT))} or .npy."
        )
    return np.squeeze(np.loadtxt(StringIO(re.sub(r"[\t,]", " ", Path(path).read_text(encoding="utf-8")))))
