"""Headers of MRtrix3's image formats (.mif, .mif.gz, .mih with its data), read as MRtrix3 reads them, and written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.errors import InputError, warn
from arcuate.io.gzip_blocks import CorruptFileError, read_head
from arcuate.io.names import why_absent
from arcuate.io.stored_voxels import StoredVoxels

MAGIC = b"mrtrix image"
BIT = "bit"
_FIRST_BYTES, _MOST_BYTES = 1 << 15, 1 << 26
_TYPES = {"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "int64": "i8",
          "uint64": "u8", "float16": "f2", "float32": "f4", "float64": "f8"}  # fmt: skip
_OWN = {"dim", "vox", "layout", "datatype", "file", "transform", "scaling", "offset", "mrtrix_version", "dw_scheme"}
_PER_VOLUME = {"pe_scheme", "prior_dw_scheme"}  # a row for each volume


@dataclass(frozen=True)
class MifHeader(StoredVoxels):
    """What a file of MRtrix3 says of its voxels, and all else.

    Parameters
    ----------
    shape : as arcuate gives the image: axes of space in the order of the file, see :attr:`axes`
    layout : for each axis of the file's own order, its rank in the file (0 varies fastest), and its direction
    affine : (4, 4) float64, voxel indices of ``shape`` to scanner mm
    is_bits : the voxels are single bits
    entries : every other line of the header, by its key, repeated ones joined by line breaks
    """

    layout: tuple[tuple[int, bool], ...]  # (rank, whether it runs forward)
    affine: np.ndarray
    is_bits: bool
    entries: Mapping[str, str]

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes of the header in the order in which the image is given: space by rank in the file, then the rest."""
        ranks = [rank for rank, _ in self.layout]
        return (*sorted(range(3), key=ranks.__getitem__), *range(3, len(ranks)))

    def arrange(self, values: np.ndarray) -> np.ndarray:
        """The voxels of the whole file (n,) as an image of ``shape``; a view.

        Axes of space come in the order and direction in which they are stored, which is what mrconvert makes of them
        in a NIfTI file; the others as the header counts them.
        """
        by_rank = sorted(range(len(self.layout)), key=lambda axis: self.layout[axis][0])
        sizes = dict(zip(self.axes, self.full_shape, strict=True))
        image = values.reshape([sizes[axis] for axis in by_rank], order="F")
        image = image.transpose([by_rank.index(axis) for axis in self.axes])
        backward = [axis >= 3 and not self.layout[axis][1] for axis in self.axes]
        image = image[tuple(slice(None, None, -1) if is_back else slice(None) for is_back in backward)]
        is_left_out = [image.ndim > 4 and axis >= 3 and n == 1 for axis, n in enumerate(image.shape)]
        return image[tuple(0 if is_out else slice(None) for is_out in is_left_out)]

    @property
    def full_shape(self) -> tuple[int, ...]:
        """``shape`` with the axes of length 1 that it leaves out."""
        dims = [int(word) for word in self.entries["dim"].replace(",", " ").split()]
        dims += [1] * (3 - len(dims))
        return tuple(dims[axis] for axis in self.axes)

    @property
    def is_volume_by_volume(self) -> bool:
        """Whether each volume of a 4-D image lies in one piece, in order."""
        return len(self.layout) == 4 and self.layout[3] == (3, True)


def is_mif(path: Path) -> bool:
    """Whether a name is one of MRtrix3's formats."""
    return path.name.lower().endswith((".mif", ".mif.gz", ".mih"))


def read_mif_header(path: Path) -> MifHeader:
    """Header of the image at ``path``.

    Raises
    ------
    InputError
        There is no such file, or it is no image of real numbers.
    """
    if not path.is_file():
        raise InputError(f"{path} {'is a folder. Check the path.' if path.is_dir() else why_absent(path)}")
    entries = _read_entries(path)
    dims = _integers(path, entries, "dim")
    if not dims or min(dims) < 1 or len(dims) > 16:
        raise _refusal(path, f"its header gives the dimensions {entries.get('dim', '')!r}")
    layout = _layout(path, entries, len(dims))
    voxels, offset = _data_file(path, entries)
    dtype, is_bits = _dtype(path, entries.get("datatype", ""))
    intercept, slope = _scaling(path, entries)
    dims += [1] * (3 - len(dims))
    n_ranks = len(layout)
    layout += tuple((rank, True) for rank in range(n_ranks, len(dims)))
    stem = MifHeader(voxels, (), dtype, offset, slope, intercept, layout, np.eye(4), is_bits, entries)
    affine = _affine(path, entries, dims, stem)
    full = stem.full_shape
    shape = (*full[:3], *(n for n in full[3:] if n > 1)) if len(full) > 4 else full
    return MifHeader(voxels, shape, dtype, offset, slope, intercept, layout, affine, is_bits, entries)


def mif_head(
    shape: tuple[int, ...], dtype: np.dtype, affine: np.ndarray, entries: Mapping[str, Any], table: np.ndarray | None
) -> bytes:
    """The bytes before the voxels of a ``.mif``, which lie x fastest.

    Parameters
    ----------
    entries : lines to keep of a header that was read; those that this function writes itself are left out
    table : (n_meas, 4) x y z b in the scanner frame, or None
    """
    if affine.shape != (4, 4) or not np.all(np.isfinite(affine)):
        raise InputError(f"cannot save an image with the affine {affine.tolist()}; expected (4, 4) finite numbers.")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if np.any(sizes == 0):
        raise InputError(f"cannot save an image with the affine {affine.tolist()}: a voxel has no size.")
    names = {"<i1": "Int8", "|i1": "Int8", "|u1": "UInt8", "<i2": "Int16LE", "<i4": "Int32LE", "<i8": "Int64LE",
             "<f4": "Float32LE"}  # fmt: skip
    n = len(shape)
    transform = np.column_stack([affine[:3, :3] / sizes, affine[:3, 3]])
    lines = [
        "mrtrix image",
        "dim: " + ",".join(map(str, shape)),
        "vox: " + ",".join([*(repr(float(size)) for size in sizes[:n]), *["1"] * (n - 3)]),
        "layout: " + ",".join(f"+{rank}" for rank in range(n)),
        f"datatype: {names[dtype.str]}",
        *("transform: " + ", ".join(repr(float(x) + 0.0) for x in row) for row in transform),
    ]
    for key, value in entries.items():
        rows = str(value).split("\n")
        holds = key.lower() not in _PER_VOLUME or (n == 4 and len(rows) == shape[3])
        if key.lower() not in _OWN and holds:
            lines += [f"{key}: {row}" for row in rows]
    if table is not None:
        lines += ["dw_scheme: " + ",".join(repr(float(x) + 0.0) for x in row) for row in table]
    text = "\n".join(lines) + "\n"
    size = len(text.encode()) + len("file: . 00000000\nEND\n")
    offset = size + (-size) % 16
    head = (text + f"file: . {offset}\nEND\n").encode()
    return head.ljust(offset, b"\0")


def gradient_rows(path: Path, entries: Mapping[str, str]) -> np.ndarray | None:
    """Rows x y z b (n_meas, 4) of ``dw_scheme``, scanner frame, as the file has them; None where there is none.

    Raises
    ------
    InputError
        The rows hold something else than four numbers or more.
    """
    lines = [line for line in entries.get("dw_scheme", "").split("\n") if line.strip()]
    if not lines:
        return None
    rows = [_numbers(path, line, "dw_scheme") for line in lines]
    if len({len(row) for row in rows}) != 1 or len(rows[0]) < 4:
        raise InputError(
            f"{path}: the rows of dw_scheme in its header hold {sorted({len(row) for row in rows})} numbers; expected "
            "x y z b. Give gradients with --grad or --bval and --bvec."
        )
    return np.array(rows, dtype=np.float64)[:, :4]


def _refusal(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} cannot be read as an image of MRtrix3: {why}. Expected .mif, .mif.gz or .mih; mrinfo says whether "
        "MRtrix3 reads it."
    )


def _read_entries(path: Path) -> dict[str, str]:
    """Lines of the header by key."""
    size = _FIRST_BYTES
    while True:
        try:
            head = read_head(path, size)
        except CorruptFileError as error:
            raise _refusal(path, f"its gzip stream is damaged ({error})") from error
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}.") from error
        if not head.startswith(MAGIC):
            what = "sparse data" if head.startswith(b"mrtrix sparse") else f"it does not start with {MAGIC.decode()!r}"
            raise _refusal(path, what)
        end = re.search(rb"\r?\nEND\s*?(\r?\n|\Z)", head)
        if end is not None or len(head) < size:
            break
        if size >= _MOST_BYTES:
            raise _refusal(path, "its header has no end")
        size *= 8
    is_header_alone = path.name.lower().endswith(".mih")
    if end is None and not is_header_alone:
        raise _refusal(path, "it ends within its header")
    text = (head if end is None else head[: end.start()]).decode("utf-8", "replace")
    entries: dict[str, str] = {}
    for line in text.split("\n")[1:]:
        key, colon, value = line.partition(":")
        if colon and key.strip():
            name = key.strip() if key.strip().lower() not in _OWN else key.strip().lower()
            entries[name] = f"{entries[name]}\n{value.strip()}" if name in entries else value.strip()
    return entries


def _numbers(path: Path, text: str, key: str) -> list[float]:
    try:
        return [float(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise _refusal(path, f"its {key} holds {text[:60]!r}, which are no numbers") from error


def _integers(path: Path, entries: Mapping[str, str], key: str) -> list[int]:
    try:
        return [int(word) for word in entries.get(key, "").replace(",", " ").split()]
    except ValueError as error:
        raise _refusal(path, f"its {key} holds {entries[key][:60]!r}, which are no whole numbers") from error


def _layout(path: Path, entries: Mapping[str, str], n_axes: int) -> tuple[tuple[int, bool], ...]:
    words = entries.get("layout", "").replace(",", " ").split()
    found = tuple((int(word.lstrip("+-")), not word.startswith("-")) for word in words if word.lstrip("+-").isdigit())
    if len(found) != len(words) or len(words) != n_axes or sorted(rank for rank, _ in found) != list(range(n_axes)):
        raise _refusal(path, f"its layout is {entries.get('layout', '')!r} for {n_axes} axes")
    return found


def _data_file(path: Path, entries: Mapping[str, str]) -> tuple[Path, int]:
    """File of the voxels, and how many bytes lie before them."""
    words = entries.get("file", "").split("\n")[0].strip()
    if not words or "\n" in entries.get("file", ""):
        raise _refusal(path, "its header names no file, or several, for the voxels")
    name, _, number = words.rpartition(" ")
    name, offset = (name.strip(), int(number)) if name and number.isdigit() else (words, 0)
    if name == ".":
        if offset <= 0:
            raise _refusal(path, f"its header places the voxels at byte {offset}")
        return path, offset
    voxels = path.parent / name
    if not voxels.is_file():
        raise _refusal(path, f"its voxels lie in {name}, which is not there")
    return voxels, offset


def _dtype(path: Path, word: str) -> tuple[np.dtype, bool]:
    name = word.strip().lower()
    if name == BIT:
        return np.dtype(np.uint8), True
    order, stem = "<", name
    if name.endswith(("le", "be")):
        order, stem = (">" if name.endswith("be") else "<"), name[:-2]
    if stem in _TYPES:
        return np.dtype(order + _TYPES[stem]), False
    if stem.startswith("cfloat"):
        raise _refusal(path, f"its voxels are complex ({word}); arcuate reads integers and real numbers")
    raise _refusal(path, f"its data type is {word!r}")


def _scaling(path: Path, entries: Mapping[str, str]) -> tuple[float, float]:
    """Offset and factor; 0 and 1 where the header asks for none."""
    if "scaling" not in entries:
        return 0.0, 1.0
    numbers = _numbers(path, entries["scaling"], "scaling")
    if len(numbers) != 2:
        raise _refusal(path, f"its scaling is {entries['scaling']!r}")
    is_usable = all(map(math.isfinite, numbers)) and numbers[1] != 0
    return (numbers[0], numbers[1]) if is_usable else (0.0, 1.0)


def _affine(path: Path, entries: Mapping[str, str], dims: list[int], header: MifHeader) -> np.ndarray:
    """Voxel indices of the image as it is given to scanner mm."""
    sizes = np.array((_numbers(path, entries.get("vox", ""), "vox") + [math.nan] * 3)[:3])
    is_known = np.isfinite(sizes) & (sizes != 0)
    if not is_known.all():
        usual = float(np.abs(sizes[is_known]).mean()) if is_known.any() else 1.0
        sizes = np.where(is_known, sizes, usual)
        if min(dims[:3]) > 1:
            warn(f"{path} does not give every voxel size; {usual:g} mm is taken where there is none.")
    sizes = np.abs(sizes)
    affine = np.eye(4)
    rows = [_numbers(path, line, "transform") for line in entries.get("transform", "").split("\n") if line.strip()]
    if len(rows) == 1 and len(rows[0]) in {12, 16}:
        rows = [rows[0][i : i + 4] for i in range(0, 12, 4)]
    if len(rows) >= 3 and all(len(row) == 4 for row in rows[:3]) and np.all(np.isfinite(rows[:3])):
        affine[:3] = np.array(rows[:3])
        affine[:3, :3] *= sizes
    else:
        affine[:3, :3] = np.diag(sizes)
        affine[:3, 3] = -0.5 * (np.array(dims[:3]) - 1) * sizes
        warn(
            f"{path} does not say how it lies in the scanner (no transform); its axes are taken as right, anterior, "
            "superior. Check the directions of fibres before use."
        )
    out = np.eye(4)
    out[:3, 3] = affine[:3, 3]
    for place, axis in enumerate(header.axes[:3]):
        is_forward = header.layout[axis][1]
        out[:3, place] = affine[:3, axis] * (1 if is_forward else -1)
        if not is_forward:
            out[:3, 3] += affine[:3, axis] * (dims[axis] - 1)
    return out
