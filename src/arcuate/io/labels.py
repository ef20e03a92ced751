"""Label images and the names of their labels: NIfTI and MGH; tables of FreeSurfer, BIDS, FSL and ITK-SNAP."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from arcuate.errors import InputError, warn
from arcuate.io.freesurfer_names import FREESURFER_NAMES
from arcuate.io.images import open_volume
from arcuate.io.names import beside_image, why_absent
from arcuate.io.number_text import read_text
from arcuate.io.tables import read_table
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource

FREESURFER = "freesurfer"  # the names of FreeSurfer's own labels, which FastSurfer and SynthSeg write too
_MGH = (".mgz", ".mgh", ".mgh.gz")
_FREESURFER_LINE = re.compile(r"^\s*(\d+)\s+(\S.*?)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s*$")
_SNAP_LINE = re.compile(r'^\s*(\d+)\s+(?:[\d.]+\s+){6}"([^"]*)"\s*$')


def read_image(path: str | os.PathLike[str]) -> VolumeResource:
    """An image (x, y, z[, n]) from NIfTI, MRtrix3's formats (both on disk until asked for), or FreeSurfer's ``.mgz``.

    Raises
    ------
    InputError
        There is no such file, or it cannot be read.
    """
    path = Path(path)
    if not path.name.lower().endswith(_MGH):
        return open_volume(path)
    if not path.is_file():
        raise InputError(f"{path} {why_absent(path, 'an image')}")
    import nibabel as nib

    try:
        image: Any = nib.load(path)
        array = np.asarray(image.dataobj)
    except Exception as error:  # nibabel answers damage with errors of many classes
        raise InputError(f"{path} cannot be read as an image of FreeSurfer ({error}). Copy it again.") from error
    return InMemoryVolumeResource(array, np.asarray(image.affine, dtype=np.float64))


def read_label_names(source: str | os.PathLike[str]) -> dict[int, str]:
    """Names by label from a table of FreeSurfer, BIDS (``dseg.tsv``), FSL (XML) or ITK-SNAP; or "freesurfer".

    What a file is, is told by its content. Labels of FSL's probabilistic atlases count from 0 in their XML, and from 1
    in the images of their most probable labels: they are given as in the images.

    Raises
    ------
    InputError
        There is no such file, or it is none of these tables.

    Warns
    -----
    InputWarning
        A label has two names.
    """
    if str(source).lower() == FREESURFER:
        return dict(FREESURFER_NAMES)
    path = Path(source)
    text = read_text(path, "names of labels")
    if "<atlas" in text[:2000].lower() or text.lstrip().startswith("<"):
        return _from_fsl(path, text)
    names = _from_lines(path, text, _SNAP_LINE) or _from_lines(path, text, _FREESURFER_LINE)
    if not names:
        names = _from_table(path)
    return names


def find_label_names(image: Path) -> Path | None:
    """The table that lies beside an image of labels under its name: ``x.tsv``, ``x.xml``, ``x.txt``, ``x.ctab``.

    As in BIDS, one table without ``res-`` in its name is that of the images of all resolutions.
    """
    images = [image, image.with_name(re.sub(r"_res-[A-Za-z0-9]+", "", image.name))]
    found = (beside_image(i, ending) for i in images for ending in (".tsv", ".xml", ".txt", ".ctab", ".label"))
    return next((path for path in found if path.is_file()), None)


def as_labels(volume: VolumeResource, what: str = "the label image") -> np.ndarray:
    """(x, y, z) int64 from an image of whole numbers; an axis of length 1 at the end is left out.

    Raises
    ------
    InputError
        The image has more axes, or values that are not whole.
    """
    array = np.asarray(volume.get_array())
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise InputError(f"found {what} of shape {tuple(volume.shape)}; expected (x, y, z).")
    if array.dtype.kind in "iub":
        return array.astype(np.int64)
    if not np.isfinite(array).all():
        raise InputError(f"{what} holds values that are not finite; expected whole numbers, 0 outside the regions.")
    labels = np.rint(array)
    n_between = int((np.abs(array - labels) > 1e-3).sum())
    if n_between:
        raise InputError(
            f"{what} has {n_between} voxels between whole numbers; expected labels. It was interpolated, or is no "
            "label image: bring labels to another grid with nearest neighbours (`arcuate apply --interpolation label`)."
        )
    return labels.astype(np.int64)


def _from_lines(path: Path, text: str, pattern: re.Pattern[str]) -> dict[int, str]:
    pairs = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = pattern.match(line)
        if match is None:
            return {}
        pairs.append((int(match.group(1)), match.group(2).strip()))
    return _named_once(path, pairs)


def _named_once(path: Path, pairs: Iterable[tuple[int, str]]) -> dict[int, str]:
    """The names by label; of several names of one label the last, with a warning."""
    names: dict[int, str] = {}
    for label, name in pairs:
        if names.get(label, name) != name:
            warn(f"{path} has two names for the label {label}, {names[label]} and {name}: the last is taken.")
        names[label] = name
    return names


def _from_table(path: Path) -> dict[int, str]:
    """Names from a table with columns of numbers and names, as BIDS' ``dseg.tsv``."""
    expected = (
        "expected names of labels: FreeSurfer's colour table, a BIDS dseg.tsv with the columns index and name, FSL's "
        "atlas XML, or ITK-SNAP's label descriptions."
    )
    try:
        table = read_table(path)
    except InputError as error:
        raise InputError(f"{path} is no table of labels ({error}); {expected}") from error
    by_lower = {name.lower(): name for name in table.columns}
    index = next((by_lower[n] for n in ("index", "label", "id", "value", "roi_id") if n in by_lower), None)
    name = next((by_lower[n] for n in ("name", "region", "label_name", "structure", "roi_name") if n in by_lower), None)
    if index is None or name is None:
        raise InputError(f"{path} has the columns {', '.join(table.columns)}; {expected}")
    numbers = table.numbers(index)
    if not np.isfinite(numbers).all() or np.any(numbers != np.rint(numbers)):
        raise InputError(f"the column {index!r} of {path} holds values that are no whole numbers; {expected}")
    return _named_once(path, ((int(i), str(n)) for i, n in zip(numbers, table[name], strict=True)))


def _from_fsl(path: Path, text: str) -> dict[int, str]:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(f"{path} is no whole XML ({error}); expected an atlas of FSL. Copy it again.") from error
    kind = (root.findtext("header/type") or "").strip().lower()
    first = 1 if kind.startswith("prob") else 0
    labels = ((int(label.get("index", "-1")) + first, (label.text or "").strip()) for label in root.iter("label"))
    found = _named_once(path, labels)
    if not found or min(found) < 0:
        raise InputError(f"{path} holds no labels; expected an atlas of FSL, with a <label index=...> for each region.")
    return found
