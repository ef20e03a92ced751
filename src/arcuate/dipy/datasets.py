"""Public scans by DIPY's names; what is not there yet is downloaded and checked."""

from __future__ import annotations

from pathlib import Path

from arcuate.errors import InputError
from arcuate.public_scans import SCANS, scans_folder
from arcuate.remote import download


def get_fnames(name: str = "stanford_hardi") -> tuple[str, str, str]:
    """Paths of the image, the b-values and the b-vectors of ``stanford_hardi`` or ``sherbrooke_3shell``.

    Raises
    ------
    InputError
        No scan of that name is offered.
    """
    files, folder = _fetch(name)
    image, bval, bvec = (str(Path(folder) / file) for file in files)
    return image, bval, bvec


def fetch_stanford_hardi() -> tuple[dict[str, tuple[str, str | None]], str]:
    """Download the scan; (address, checksum) of each file by name, and the folder."""
    return _fetch("stanford_hardi")


def fetch_sherbrooke_3shell() -> tuple[dict[str, tuple[str, str | None]], str]:
    """Download the scan; (address, checksum) of each file by name, and the folder."""
    return _fetch("sherbrooke_3shell")


def _fetch(name: str) -> tuple[dict[str, tuple[str, str | None]], str]:
    if name not in SCANS:
        raise InputError(f"found the name {name!r}; expected one of {', '.join(SCANS)}.")
    folder = scans_folder(name)
    for file in SCANS[name].files:
        download(file, folder)
    return {file.name: (file.url, file.digest) for file in SCANS[name].files}, str(folder)
