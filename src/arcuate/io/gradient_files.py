"""b-value and b-vector files of FSL, gradient tables of MRtrix3."""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arcuate.errors import InputError
from arcuate.gradients import GradientTable, bvecs_as_rows, image_to_scanner
from arcuate.io.atomic import write_text_atomically
from arcuate.io.nifti import NiftiVolumeResource
from arcuate.volumes.resource import InMemoryBvalResource, InMemoryBvecResource, VectorResource, VolumeResource

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_MAX_BYTES = 1 << 26  # no gradient file is that long; an image given by mistake is


@dataclass(frozen=True)
class FslBvalResource(VectorResource):
    """b-values (n_meas,) in s/mm² in a text file: in one row or one column, however separated."""

    path: Path

    def __init__(self, path: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", Path(path))

    def load(self) -> InMemoryBvalResource:
        return InMemoryBvalResource(self.get())

    def get(self) -> np.ndarray:
        rows = _read_rows(self.path, "b-values")
        if len(rows) == 1 or all(len(row) == 1 for row in rows):
            return np.array([value for row in rows for value in row], dtype=np.float64)
        hint = "This looks like a b-vector file." if len(rows) == 3 or len(rows[0]) == 3 else ""
        raise InputError(
            f"{self.path} has {len(rows)} rows of {_lengths(rows)} numbers; expected b-values in one row or one "
            f"column. {hint}".rstrip()
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
        object.__setattr__(self, "path", Path(path))

    def load(self) -> InMemoryBvecResource:
        return InMemoryBvecResource(self.get())

    def get(self) -> np.ndarray:
        rows = _read_rows(self.path, "b-vectors")
        lengths = {len(row) for row in rows}
        if len(lengths) != 1:
            raise InputError(
                f"{self.path} has rows of unequal length ({_lengths(rows)} numbers); expected three rows of one "
                "number per volume, or three numbers in each row."
            )
        n_rows, n_columns = len(rows), lengths.pop()
        if n_rows != 3 and n_columns != 3:
            hint = ""
            if n_rows == 1 or n_columns == 1:
                hint = " This looks like a b-value file."
            elif n_columns == 4:
                hint = " This looks like an MRtrix3 gradient table (x y z b): give it as --grad."
            raise InputError(
                f"{self.path} has {n_rows} rows of {n_columns} numbers; expected three rows or three columns.{hint}"
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
    """Rows ``x y z b`` (n_meas, 4) float64 of an MRtrix3 gradient table, as the file has them (scanner frame)."""
    rows = _read_rows(Path(path), "gradients")
    if any(len(row) != 4 for row in rows):
        hint = " This looks like FSL's b-vectors: give them with --bvec." if len(rows) == 3 else ""
        raise InputError(f"{path} has rows of {_lengths(rows)} numbers; expected four: x y z b.{hint}")
    return np.array(rows, dtype=np.float64)


def write_mrtrix_table(gradients: GradientTable, path: str | os.PathLike[str]) -> None:
    """Write the table as MRtrix3 reads it with ``-grad``: rows ``x y z b``, scanner frame."""
    write_text_atomically(path, "".join(_format_row(row) for row in gradients.to_mrtrix()))


@dataclass(frozen=True)
class MrtrixBvalResource(VectorResource):
    """b-values (n_meas,) of an MRtrix3 gradient table."""

    path: Path

    def load(self) -> InMemoryBvalResource:
        return InMemoryBvalResource(self.get())

    def get(self) -> np.ndarray:
        return read_mrtrix_table(self.path)[:, 3].copy()


@dataclass(frozen=True)
class MrtrixBvecResource(VectorResource):
    """b-vectors (n, 3) of an MRtrix3 gradient table, turned to FSL's convention for ``volume``.

    They are turned only; what may be repaired is decided where a GradientTable is made from them.
    """

    path: Path
    volume: VolumeResource

    def load(self) -> InMemoryBvecResource:
        return InMemoryBvecResource(self.get())

    def get(self) -> np.ndarray:
        return read_mrtrix_table(self.path)[:, :3] @ image_to_scanner(self.volume.get_affine())


def find_gradients(
    path: str | os.PathLike[str],
    bval: str | os.PathLike[str] | None = None,
    bvec: str | os.PathLike[str] | None = None,
    grad: str | os.PathLike[str] | None = None,
) -> tuple[NiftiVolumeResource, VectorResource, VectorResource]:
    """Volume, b-values and b-vectors of the image at ``path``: the files given, else those beside it.

    The three are what ``Dwi(volume, bval, bvec)`` takes; nothing is read yet.

    Looked for, in this order: ``<stem>.bval`` and ``.bvec`` (or ``.bvals``, ``.bvecs``), ``<stem>.b`` (MRtrix3), and
    ``bvals``/``bvecs`` (or ``bval``/``bvec``) in the same folder.

    Raises
    ------
    InputError
        Files are missing; the message names what was looked for.
    """
    path = Path(path)
    volume = NiftiVolumeResource(path)
    if not path.exists():
        raise InputError(f"{path} does not exist. Check the path.")
    given = {"bval": bval, "bvec": bvec, "grad": grad}
    for name, value in given.items():
        if value is not None and not Path(value).is_file():
            raise InputError(f"{value} (--{name}) does not exist or is not a file. Check the path.")
    if grad is not None:
        if bval is not None or bvec is not None:
            raise InputError("found both --grad and --bval or --bvec; expected one kind. Leave the other out.")
        return volume, MrtrixBvalResource(Path(grad)), MrtrixBvecResource(Path(grad), volume)
    stem = _stem(path)
    found_bval = Path(bval) if bval is not None else _first_file(_candidates(path, stem, "bval"))
    found_bvec = Path(bvec) if bvec is not None else _first_file(_candidates(path, stem, "bvec"))
    table = path.with_name(f"{stem}.b")
    is_generic = found_bval is not None and bval is None and not found_bval.name.startswith(stem)
    if bval is None and bvec is None and table.is_file() and (found_bval is None or found_bvec is None or is_generic):
        return volume, MrtrixBvalResource(table), MrtrixBvecResource(table, volume)
    if found_bval is not None and found_bvec is not None:
        return volume, FslBvalResource(found_bval), FslBvecResource(found_bvec)
    missing = "b-values" if found_bval is None else "b-vectors"
    option = "--bval" if found_bval is None else "--bvec"
    kind = "bval" if found_bval is None else "bvec"
    names = [p.name for p in _candidates(path, stem, kind)] + [table.name]
    raise InputError(
        f"found no {missing} for {path}; looked in {path.parent} for {', '.join(names)}. "
        f"Give the file with {option}, or an MRtrix3 table with --grad."
    )


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (".nii.gz", ".nii"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


def _candidates(path: Path, stem: str, kind: str) -> list[Path]:
    return [path.with_name(name) for name in (f"{stem}.{kind}", f"{stem}.{kind}s", f"{kind}s", kind)]


def _first_file(paths: list[Path]) -> Path | None:
    return next((p for p in paths if p.is_file()), None)


def _read_rows(path: Path, what: str) -> list[list[float]]:
    """Numbers of a text file, line by line, blank lines and ``#`` comments left out."""
    lines = re.split(r"\r\n|\n|\r", _read_text(path, what))
    content = [line.split("#", 1)[0] for line in lines]
    if _has_ambiguous_commas(content):
        raise InputError(
            f"{path} has both spaces and commas between digits: the commas may be decimal points or separators. "
            "Write numbers with points, separated by spaces."
        )
    rows = []
    for number, line in enumerate(content, start=1):
        words = line.replace(",", " ").replace(";", " ").split()
        for word in words:
            if not _NUMBER.fullmatch(word):
                raise InputError(f"line {number} of {path} holds {word[:40]!r}; expected numbers only ({what}).")
        if words:
            rows.append([float(word) for word in words])
    if not rows:
        raise InputError(f"{path} holds no numbers; expected {what}. Check that the file was written completely.")
    return rows


def _has_ambiguous_commas(lines: list[str]) -> bool:
    text = "\n".join(line.strip() for line in lines)
    return bool(re.search(r"\d,\d", text)) and bool(re.search(r"[^\s,;][ \t]+[^\s,;]", text))


def _read_text(path: Path, what: str) -> str:
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a text file of {what}. Check the path.")
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; expected a text file of {what}.") from error
    encoding = "utf-8-sig"
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # what Windows' PowerShell writes with ">"
        encoding = "utf-16"
    try:
        if len(raw) > _MAX_BYTES:
            raise UnicodeError
        return raw.decode(encoding)
    except UnicodeError as error:
        raise InputError(f"{path} is not a text file; expected {what} as plain numbers.") from error


def _lengths(rows: list[list[float]]) -> str:
    lengths = sorted({len(row) for row in rows})
    return str(lengths[0]) if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"


def _format_row(values: np.ndarray) -> str:
    """Shortest decimals that read back to the same numbers."""
    return " ".join(repr(float(v) + 0.0).removesuffix(".0") for v in values) + "\n"
