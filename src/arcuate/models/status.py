"""Outcome of a fit in each voxel."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import numpy as np


class Status(IntEnum):
    """Outcome of one voxel; every model reports one per row, kernels write the plain integers.

    ``advice`` says what it means and what to do where there are many such voxels.
    """

    advice: str

    def __new__(cls, value: int, advice: str) -> Status:
        member = int.__new__(cls, value)
        member._value_ = value
        member.advice = advice
        return member

    OUTSIDE = 0, "outside the mask"
    FITTED = 1, "as it should be"
    FLOORED = 2, "fitted after signals at or below 0 were raised to a floor; many: look for noise subtracted before"
    NOT_CONVERGED = 3, "the last iterate, at the limit of iterations; many: check b-vectors and response"
    NO_SIGNAL = 4, "zero, nothing to fit; many: the mask reaches into air, or volumes are empty"
    NOT_FINITE = 5, "zero, NaN or infinity among the signals; many: look at the step that wrote the scan"


def count_status(status: np.ndarray) -> dict[str, int]:
    """Number of voxels per outcome of ``status`` (...), those outside left out, as ``{"fitted": 1200, ...}``."""
    counts = np.bincount(np.asarray(status, dtype=np.uint8).ravel(), minlength=len(Status))
    return {s.name.lower(): int(counts[s]) for s in Status if s is not Status.OUTSIDE and counts[s] > 0}


def counts_in_words(counts: Mapping[str, int]) -> str:
    """Counts of :func:`count_status` as words: ``1200 fitted, 3 not finite``."""
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())


def advice_of(name: str) -> str:
    """Advice for an outcome by its name in counts, ``"not_finite"``; empty for a name that no status has."""
    return Status[name.upper()].advice if name.upper() in Status.__members__ else ""
