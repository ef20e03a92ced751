"""b-value and b-vector files of FSL, gradient tables of MRtrix3."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from arcuate.errors import InputError
from arcuate.gradients import GradientTable, bvecs_as_rows, image_to_scanner
from arcuate.io.atomic import write_text_atomically
from arcuate.io.number_text import read_number_rows
from arcuate.numerics.user_folders import as_path
from arcuate.volumes.resource import InMemoryBvalResource, InMemoryBvecResource, VectorResource, VolumeResource

_LONGEST_VECTOR = 1.1  # of a component of a b-vector; b-values are larger


@dataclass(frozen=True)
class FslBvalResource(VectorResource):
    """b-values (n_meas,) in s/mm² in a text file: in one row or one column, however separated."""

    path: Path

    def __init__(self, path: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", as_path(path))

    def load(self) -> InMemoryBvalResource:
        return InMemoryBvalResource(self.get())

    def get(self) -> np.ndarray:
        rows = read_number_rows(self.path, "b-values")
        if len(rows) == 1 or all(len(row) == 1 for row in rows):
            return np.array([value for row in rows for value in row], dtype=np.float64)
        hint = "This looks like a b-vector file." if len(rows) == 3 or len(rows[0]) == 3 else ""
        raise InputError(
            f"{self.path} has {len(rows)} rows of {_lengths(rows)} numbers; expected b-values in one row or one "
            f"column. {hint or 'Join lines that were broken, and take other columns out.'}"
        )

    @staticmethod
    def save(bval: VectorResource | np.ndarray, path: str | os.PathLike[str]) -> FslBvalResource:
        """Write b-values in one row, as FSL does, completely or not at all."""
        values = np.asarray(bval.get() if isinstance(bval, VectorResource) else bval, dtype=np.float64)
        if values.ndim != 1 or len(values) == 0:
            raise InputError(f"cannot save b-values of shape {values.shape}; expected (n,).")
        write_text_atomically(path, _format_row(values))
        return FslBvalResource(path)


@dataclass(frozen=True)
class FslBvecResource(VectorResource):
    """b-vectors (n_meas, 3) in a text file: three rows, or one vector per row, however separated.

    The numbers are the file's own: FSL's convention, not the scanner frame (see ``GradientTable.from_fsl``).
    """

    path: Path

    def __init__(self, path: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", as_path(path))

    def load(self) -> InMemoryBvecResource:
        return InMemoryBvecResource(self.get())

    def get(self) -> np.ndarray:
        rows = read_number_rows(self.path, "b-vectors", is_unit=True)
        lengths = {len(row) for row in rows}
        if len(lengths) != 1:
            raise InputError(
                f"{self.path} has rows of unequal length ({_lengths(rows)} numbers); expected three rows of one "
                "number per volume, or three numbers in each row. Join lines that were broken, and fill gaps."
            )
        n_rows, n_columns = len(rows), lengths.pop()
        if n_rows != 3 and n_columns != 3:
            hint = "Take out what are no components of vectors."
            if n_rows == 1 or n_columns == 1:
                hint = "This looks like a b-value file."
            elif n_columns == 4:
                hint = "This looks like an MRtrix3 gradient table (x y z b): give it as --grad."
            raise InputError(
                f"{self.path} has {n_rows} rows of {n_columns} numbers; expected three rows or three columns. {hint}"
            )
        table = np.array(rows, dtype=np.float64)
        if n_rows == 3 and n_columns == 3:
            return bvecs_as_rows(table.T, 3)  # FSL's three rows, unless only the rows are unit vectors
        return np.ascontiguousarray(table.T) if n_rows == 3 else table

    @staticmethod
    def save(bvec: VectorResource | np.ndarray, path: str | os.PathLike[str]) -> FslBvecResource:
        """Write b-vectors in three rows, as FSL does, completely or not at all."""
        vectors = np.asarray(bvec.get() if isinstance(bvec, VectorResource) else bvec, dtype=np.float64)
        if vectors.ndim != 2 or vectors.shape[1] != 3 or len(vectors) == 0:
            raise InputError(f"cannot save b-vectors of shape {vectors.shape}; expected (n, 3).")
        write_text_atomically(path, "".join(_format_row(row) for row in vectors.T))
        return FslBvecResource(path)


def read_mrtrix_table(path: str | os.PathLike[str]) -> np.ndarray:
    """Rows ``x y z b`` (n_meas, 4) float64 of an MRtrix3 gradient table, as the file has them (scanner frame).

    Raises
    ------
    InputError
        Rows of another number of columns, or in which b does not come last.
    """
    rows = read_number_rows(Path(path), "gradients")
    if any(len(row) != 4 for row in rows):
        hint = "Take other columns out."
        if len(rows) == 3:
            hint = "This looks like FSL's b-vectors: give them with --bvec."
        elif len(rows) == 4:
            hint = "Its four rows may be x, y, z and b: write one line for each volume."
        raise InputError(f"{path} has rows of {_lengths(rows)} numbers; expected four: x y z b. {hint}")
    table = np.array(rows, dtype=np.float64)
    largest = np.abs(np.nan_to_num(table)).max(axis=0)
    if largest[0] > _LONGEST_VECTOR >= largest[1:].max():
        raise InputError(
            f"{path} has b-values in the first of its columns; expected them in the last: x y z b. Tables of DSI "
            "Studio (b x y z) refer to the image: write b and x y z to two files, given with --bval and --bvec."
        )
    return table


def write_mrtrix_table(gradients: GradientTable, path: str | os.PathLike[str]) -> None:
    """Write the table as MRtrix3 reads it with ``-grad``: rows ``x y z b``, scanner frame."""
    write_text_atomically(path, "".join(_format_row(row) for row in gradients.to_mrtrix()))


class HoldsRows(Protocol):
    """An image of MRtrix3 with a gradient table in its header."""

    @property
    def gradient_rows(self) -> np.ndarray | None: ...


@dataclass(frozen=True)
class _MrtrixTable(VectorResource):
    """An MRtrix3 gradient table, in a file or in the header of an image."""

    table: Path | HoldsRows

    @property
    def path(self) -> Path | None:
        """The file of its own."""
        return self.table if isinstance(self.table, Path) else None

    def _rows(self) -> np.ndarray:
        rows = read_mrtrix_table(self.table) if isinstance(self.table, Path) else self.table.gradient_rows
        if rows is None:
            raise InputError("found no dw_scheme in the header; give gradients with --grad or --bval and --bvec.")
        return rows


@dataclass(frozen=True)
class MrtrixBvalResource(_MrtrixTable):
    """b-values (n_meas,) of an MRtrix3 gradient table."""

    def load(self) -> InMemoryBvalResource:
        return InMemoryBvalResource(self.get())

    def get(self) -> np.ndarray:
        return self._rows()[:, 3].copy()


@dataclass(frozen=True)
class MrtrixBvecResource(_MrtrixTable):
    """b-vectors (n, 3) of an MRtrix3 gradient table, turned to FSL's convention for ``volume``.

    They are turned only; what may be repaired is decided where a GradientTable is made from them.
    """

    volume: VolumeResource

    def load(self) -> InMemoryBvecResource:
        return InMemoryBvecResource(self.get())

    def get(self) -> np.ndarray:
        return self._rows()[:, :3] @ image_to_scanner(self.volume.get_affine())


def _lengths(rows: list[list[float]]) -> str:
    lengths = sorted({len(row) for row in rows})
    return str(lengths[0]) if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"


def _format_row(values: np.ndarray) -> str:
    """Shortest decimals that read back to the same numbers."""
    return " ".join(repr(float(v) + 0.0).removesuffix(".0") for v in values) + "\n"
