"""Public scans by DIPY's names; what is not there yet is downloaded and checked."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from arcuate.errors import InputError
from arcuate.fetch.public_scans import SCANS, scans_folder
from arcuate.fetch.remote import download


def get_fnames(name: str = "small_64D", include_optional: bool = False) -> Any:
    """Paths of the image, the b-values and the b-vectors of a data set.

    Parameters
    ----------
    name : "stanford_hardi", "sherbrooke_3shell"
        Any other name of DIPY's, its small test scans among them, is handed to DIPY where that is installed.
    include_optional : accepted and without effect on the two scans, which have nothing optional

    Raises
    ------
    InputError
        No scan of that name is offered.
    """
    if name not in SCANS:
        return _ask_dipy(name, include_optional)
    files, folder = _fetch(name)
    image, bval, bvec = (str(Path(folder) / file) for file in files)
    return image, bval, bvec


def fetch_stanford_hardi(include_optional: bool = False) -> tuple[dict[str, tuple[str, str | None]], str]:
    """Download the scan; (address, checksum) of each file by name, and the folder."""
    return _fetch("stanford_hardi")


def fetch_sherbrooke_3shell(include_optional: bool = False) -> tuple[dict[str, tuple[str, str | None]], str]:
    """Download the scan; (address, checksum) of each file by name, and the folder."""
    return _fetch("sherbrooke_3shell")


def _fetch(name: str) -> tuple[dict[str, tuple[str, str | None]], str]:
    folder = scans_folder(name)
    for file in SCANS[name].files:
        download(file, folder)
    return {file.name: (file.url, file.digest) for file in SCANS[name].files}, str(folder)


def _ask_dipy(name: str, include_optional: bool) -> Any:
    found: Any = None
    if find_spec("dipy") is not None:
        from dipy.data import get_fnames as ask

        found = ask(name=name, include_optional=include_optional)
    if found is None:
        raise InputError(
            f"found the name {name!r}; expected one of {', '.join(SCANS)}. The other data sets of DIPY come with "
            "DIPY: install it, and check the name."
        )
    return tuple(str(path) for path in found) if isinstance(found, tuple | list) else str(found)
