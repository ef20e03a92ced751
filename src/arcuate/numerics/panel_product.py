"""Products of many short rows with one small matrix: all threads share the rows, none waits inside BLAS."""

from __future__ import annotations

import numpy as np

from arcuate.numerics.compiled import kernel, run_in_chunks
from arcuate.numerics.lanes import LINE, multiply_panel, transpose_8

_CHUNK = 1024  # rows of one thread at a time


def as_panels(matrix: np.ndarray) -> np.ndarray:
    """Rows of (n, k) in panels of eight, each panel column by column; flat, zero rows at the end."""
    rows = np.zeros((-(-len(matrix) // LINE) * LINE, matrix.shape[1]))
    rows[: len(matrix)] = matrix
    return np.ascontiguousarray(rows.reshape(-1, LINE, matrix.shape[1]).transpose(0, 2, 1)).ravel()


def evaluate_rows(coefs: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """``coefs @ matrix.T``: (n_vox, n_coef) and (n, n_coef) give (n_vox, n) float64, the same bits on any machine load.

    A row does not depend on the others, nor on the number of threads.
    """
    coefs = np.ascontiguousarray(coefs, dtype=np.float64)
    n = len(matrix)
    padded = np.empty((len(coefs), -(-n // LINE) * LINE))
    panels = as_panels(matrix)

    def work(begin: int, end: int) -> None:
        _evaluate_voxels(coefs[begin:end], panels, padded[begin:end])

    run_in_chunks(work, len(coefs), _CHUNK)
    return padded if padded.shape[1] == n else np.ascontiguousarray(padded[:, :n])


@kernel(error_model="numpy")
def _evaluate_voxels(coefs, panels, out):
    """``out`` (n, whole panels) from ``coefs`` (n, n_coef) and the panels of the matrix, eight rows at a time."""
    n_vox, n_coef = coefs.shape
    n_panels = out.shape[1] // LINE
    lines, amplitude = np.zeros(LINE * n_coef), np.zeros(LINE * LINE)
    turned = np.zeros(LINE * LINE)
    for start in range(0, n_vox, LINE):
        count = min(LINE, n_vox - start)
        for lane in range(count):
            for k in range(n_coef):
                lines[LINE * k + lane] = coefs[start + lane, k]
        for panel in range(n_panels):
            multiply_panel(panels, panel * n_coef * LINE, lines, n_coef, amplitude, 0)
            transpose_8(amplitude, 0, LINE, turned, 0)
            for lane in range(count):
                for r in range(LINE):
                    out[start + lane, panel * LINE + r] = turned[LINE * lane + r]
