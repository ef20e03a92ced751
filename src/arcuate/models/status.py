"""What became of each voxel in a fit."""

from enum import IntEnum

import numpy as np


class Status(IntEnum):
    """Outcome of one voxel; every model reports one per row, kernels write the plain integers."""

    OUTSIDE = 0  # not fitted: outside the mask
    FITTED = 1
    FLOORED = 2  # fitted, after signals at or below zero were raised to a floor
    NOT_CONVERGED = 3  # the iteration limit was reached; the last iterate is given
    NO_SIGNAL = 4  # nothing to fit; the result is zero
    NOT_FINITE = 5  # NaN or infinity among the signals; the result is zero


def count_status(status: np.ndarray) -> dict[str, int]:
    """Number of voxels per outcome of ``status`` (...), those outside left out, as ``{"fitted": 1200, ...}``."""
    counts = np.bincount(np.asarray(status, dtype=np.uint8).ravel(), minlength=len(Status))
    return {s.name.lower(): int(counts[s]) for s in Status if s is not Status.OUTSIDE and counts[s] > 0}
