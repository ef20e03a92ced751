"""Weights of the networks: where they come from, where they lie, and what to say when they are missing."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from arcuate.errors import InputError
from arcuate.fetch.remote import RemoteFile, RemoteSet, cache_home
from arcuate.numerics.user_folders import home_folder, is_there

ENVIRONMENT = "ARCUATE_WEIGHTS"
_ZENODO = "https://zenodo.org/record"
_TRACTSEG = "Wasserthal, Neher, Maier-Hein 2018, NeuroImage 183:239"
_TOM = "Wasserthal, Neher, Maier-Hein 2018, MICCAI, Tract orientation mapping"
_HD_BET = "Isensee et al. 2019, Human Brain Mapping 40:4952"


def _tractseg(output_type: str, summary: str, citation: str, **files: str) -> RemoteSet:
    # Zenodo lists an MD5 for each of these files; the lists could not be read where this was written (no network), and
    # a checksum is not to be guessed. So what arrives is checked for its length, and tensor by tensor (names and
    # shapes) when the network is built.
    remote = tuple(
        RemoteFile(f"pretrained_weights_{name}.npz", f"{_ZENODO}/{address}?download=1")
        for name, address in files.items()
    )
    name = f"tractseg-{output_type.lower().replace('_', '-')}"
    return RemoteSet(name, remote, f"TractSeg: {summary}", "Apache-2.0", citation, 148 * len(remote))


TRACTSEG_SETS = {
    "tract_segmentation": _tractseg(
        "tract_segmentation",
        "72 white-matter tracts",
        _TRACTSEG,
        tract_segmentation_v3="3518348/files/best_weights_ep220.npz",
    ),
    "endings_segmentation": _tractseg(
        "endings_segmentation",
        "the two endings of each tract",
        _TRACTSEG,
        endings_segmentation_v4="3518331/files/best_weights_ep143.npz",
    ),
    "TOM": _tractseg(
        "TOM",
        "tract orientation maps",
        _TOM,
        peak_regression_part1_v2="3239216/files/best_weights_ep62.npz",
        peak_regression_part2_v2="3239220/files/best_weights_ep130.npz",
        peak_regression_part3_v2="3239221/files/best_weights_ep91.npz",
        peak_regression_part4_v2="3239222/files/best_weights_ep148.npz",
    ),
}
HD_BET_SET = RemoteSet(
    "hd-bet",
    (RemoteFile("hd-bet_release_2.0.0.zip", f"{_ZENODO}s/14445620/files/release_v1.5.0.zip?download=1"),),
    "HD-BET 2: brain extraction, run by the package hd-bet (the extra [hdbet] brings HD-BET 1 and its weights)",
    "Apache-2.0",
    _HD_BET,
    120,
)
HD_BET_FILES = ("dataset.json", "plans.json", "fold_all/checkpoint_final.pth")


def weight_sets() -> dict[str, RemoteSet]:
    """Every set of weights that ``arcuate fetch`` knows, by name."""
    return {known.name: known for known in (*TRACTSEG_SETS.values(), HD_BET_SET)}


def weights_folder(folder: str | Path | None = None) -> Path:
    """Where weights lie: the folder given, else ``$ARCUATE_WEIGHTS``, else the user's cache folder."""
    if folder is not None:
        return Path(folder)
    named = os.environ.get(ENVIRONMENT)
    return Path(named) if named else cache_home() / "weights"


def tractseg_weights(output_type: str, folder: str | Path | None = None) -> list[Path]:
    """Weight files of one TractSeg output, looked for in our folder and in those that TractSeg itself uses.

    Parameters
    ----------
    output_type : "tract_segmentation", "endings_segmentation" or "TOM"

    Raises
    ------
    InputError
        A file is missing; the message names the command that fetches it and the folder to copy it to.
    """
    if output_type not in TRACTSEG_SETS:
        raise InputError(f"found the output type {output_type!r}; expected one of {', '.join(TRACTSEG_SETS)}.")
    wanted = TRACTSEG_SETS[output_type]
    places = _tractseg_places(folder)
    paths = []
    for file in wanted.files:  # a failed download of TractSeg's leaves an empty file
        found = next((p / file.name for p in places if is_there(p / file.name, filled=True)), None)
        if found is None:
            raise InputError(
                f"the weights {file.name} are not on this machine (looked in {', '.join(map(str, places))}). "
                f"Fetch them with: arcuate fetch {wanted.name}; or copy them to {places[0]} (a machine without "
                f"internet), or name their folder in {ENVIRONMENT}."
            )
        paths.append(found)
    return paths


def brain_weights(folder: str | Path | None = None) -> Path | None:
    """Folder with the weights of HD-BET 2, ours or the one that HD-BET itself uses; None if they are not here."""
    places = [weights_folder(folder) / HD_BET_SET.name]
    if folder is None:
        places.append(home_folder() / "hd-bet_params" / "release_2.0.0")
    return next((p for p in places if all(is_there(p / name, filled=True) for name in HD_BET_FILES)), None)


def unpack_brain_weights(archive: Path) -> Path:
    """Folder beside the archive of HD-BET 2 with the three files that its network needs.

    Raises
    ------
    InputError
        The archive is none, or lacks one of them.
    """
    folder = archive.parent / HD_BET_SET.name
    try:
        with zipfile.ZipFile(archive) as packed:
            for name in HD_BET_FILES:
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_name(f"{path.name}.part")
                part.write_bytes(packed.read(name))  # checked against the archive's own checksum
                part.replace(path)
    except (zipfile.BadZipFile, KeyError) as error:
        raise InputError(
            f"{archive} is not the archive of HD-BET 2 ({error}); remove it and fetch it again: arcuate fetch "
            f"{HD_BET_SET.name}."
        ) from error
    return folder


def _tractseg_places(folder: str | Path | None) -> list[Path]:
    places = [weights_folder(folder)]
    if folder is None:
        named = os.environ.get("TRACTSEG_WEIGHTS_DIR")
        places += [Path(named)] if named else []
        places.append(home_folder() / ".tractseg")
    return places
