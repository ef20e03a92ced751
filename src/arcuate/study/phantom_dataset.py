"""A BIDS data set of phantoms: subjects whose truth is known, with sessions, parts and faults on request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.dwi import Dwi
from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.io import FslBvecResource, write_text_atomically
from arcuate.phantom import make_phantom, three_shell_gradients
from arcuate.study.bids import BIDS_VERSION, write_json

FAULTS = {  # kind of a subject, and what participants.tsv calls it
    "single_shell": "one shell alone",
    "truncated": "an image that was cut short",
    "broken_gradients": "b-vectors for one volume too few",
}


@dataclass(frozen=True)
class PhantomDataset:
    """What a phantom data set holds.

    Parameters
    ----------
    n_subjects : 1 or more
    n_sessions : of every second subject, from the first on; the others have one
    n_parts : images in which the scans of every second subject, from the second on, are stored
    faults : names from ``FAULTS``; the last subjects of the data set have them, one each
    is_inherited : whether gradient files stand once, at the top of the data set, for all scans of one part
    shape : (3,) voxels
    voxel_size : mm
    bvals : s/mm², of the shells
    n_directions : of each shell
    n_b0 : volumes of b = 0, spread over the parts
    snr : signal of white matter at b = 0 over σ
    seed : draws heads, directions and noise

    Raises
    ------
    InputError
        Numbers that no data set can have, or more faults than subjects.
    """

    n_subjects: int = 3
    n_sessions: int = 1
    n_parts: int = 1
    faults: tuple[str, ...] = ()
    is_inherited: bool = False
    shape: tuple[int, int, int] = (32, 32, 20)
    voxel_size: float = 6.0
    bvals: tuple[float, ...] = (1000.0, 2500.0)
    n_directions: int = 20
    n_b0: int = 3
    snr: float = 40.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_subjects", "n_sessions", "n_parts", "n_b0"):
            if getattr(self, name) < 1:
                raise InputError(f"found {name} = {getattr(self, name)}; expected 1 or more.")
        if self.n_b0 < self.n_parts:
            raise InputError(
                f"found {self.n_b0} volumes of b=0 for {self.n_parts} parts; expected one for each part at least."
            )
        if min(self.shape) < 2 or self.voxel_size <= 0:
            raise InputError(
                f"found the shape {self.shape} and voxels of {self.voxel_size:g} mm; expected 2 voxels or more along "
                "each axis, of a size above 0."
            )
        if not self.bvals or min(self.bvals) <= 100:
            raise InputError(f"found the shells {self.bvals}; expected b-values above 100 s/mm².")
        if len(self.faults) > self.n_subjects:
            raise InputError(
                f"found {len(self.faults)} faults for {self.n_subjects} subjects; expected one subject for each at "
                "least. Raise --subjects."
            )

    @property
    def labels(self) -> list[str]:
        """``["01", "02", ...]``."""
        width = max(2, len(str(self.n_subjects)))
        return [f"{i + 1:0{width}d}" for i in range(self.n_subjects)]

    def fault_of(self, index: int) -> str | None:
        """Fault of the subject with that index, counted from 0."""
        asked = [name for name in FAULTS if name in self.faults]
        place = index - (self.n_subjects - len(asked))
        return asked[place] if place >= 0 else None


def write_phantom_dataset(folder: Path, dataset: PhantomDataset) -> list[Path]:
    """Write the data set into a folder that is new or empty; every diffusion image, in order.

    Raises
    ------
    InputError
        The folder holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there and not empty; expected a new folder for the data set. Give another name.")
    table = three_shell_gradients(dataset.n_b0, dataset.bvals, dataset.n_directions, dataset.seed)
    _write_top(folder, dataset)
    images: list[Path] = []
    for index in range(dataset.n_subjects):
        images += _write_subject(folder, dataset, index, table)
    return images


def _write_subject(folder: Path, dataset: PhantomDataset, index: int, table: GradientTable) -> list[Path]:
    label, fault = dataset.labels[index], dataset.fault_of(index)
    n_sessions = dataset.n_sessions if index % 2 == 0 else 1
    n_parts = dataset.n_parts if index % 2 == 1 else 1
    if fault == "single_shell":
        table = table.subset(np.flatnonzero(table.bvals <= min(dataset.bvals)))
    images: list[Path] = []
    for session in range(n_sessions):
        phantom = make_phantom(
            table,
            dataset.shape,
            dataset.voxel_size,
            dataset.snr,
            seed=dataset.seed + index,
            noise_seed=1000 * (dataset.seed + index) + session,
        )
        scan = Dwi.from_arrays(phantom.signal, phantom.affine, table)
        place, prefix = folder / f"sub-{label}", f"sub-{label}"
        if dataset.n_sessions > 1:
            place, prefix = place / f"ses-{session + 1:02d}", f"{prefix}_ses-{session + 1:02d}"
        for part in range(n_parts):
            stem = f"{prefix}_run-{part + 1}_dwi" if n_parts > 1 else f"{prefix}_dwi"
            left_out = [v for v in range(len(table)) if v % n_parts != part]
            scan.select(exclude=left_out).save(place / "dwi", basename=stem)
            image = place / "dwi" / f"{stem}.nii.gz"
            write_json(image.with_name(f"{stem}.json"), _sidecar(dataset))
            if dataset.is_inherited and n_parts == 1 and fault is None:
                _move_up(image, folder)
            _break(image, fault)
            images.append(image)
    return images


def _move_up(image: Path, folder: Path) -> None:
    """Gradient files of the image to the top of the data set, where they apply to every image."""
    for ending in (".bval", ".bvec"):
        image.with_name(image.name.replace(".nii.gz", ending)).replace(folder / f"dwi{ending}")


def _break(image: Path, fault: str | None) -> None:
    """Give an image its fault."""
    if fault == "truncated":
        content = image.read_bytes()
        image.write_bytes(content[: len(content) // 2])
    if fault == "broken_gradients":
        path = image.with_name(image.name.replace(".nii.gz", ".bvec"))
        rows = FslBvecResource(path).get()
        np.savetxt(path, rows[:-1].T, fmt="%.6f")


def _sidecar(dataset: PhantomDataset) -> dict[str, Any]:
    return {
        "Manufacturer": "arcuate phantom",
        "MagneticFieldStrength": 3,
        "PhaseEncodingDirection": "j",
        "TotalReadoutTime": 0.05,
        "EchoTime": 0.08,
        "RepetitionTime": 5.0,
        "PhantomSNR": dataset.snr,
        "PhantomSeed": dataset.seed,
    }


def _write_top(folder: Path, dataset: PhantomDataset) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "dataset_description.json",
        {
            "Name": "Phantoms of arcuate",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "raw",
            "License": "CC0",
            "Authors": ["the arcuate developers"],
            "Acknowledgements": "Made by `arcuate phantom`; no person was scanned.",
        },
    )
    write_text_atomically(
        folder / "README",
        "Heads whose truth is known, made by `arcuate phantom`. No person was scanned.\n\n"
        "participants.tsv says which scans have a fault on purpose.\n",
    )
    rows = ["participant_id\tfault"]
    for index, label in enumerate(dataset.labels):
        fault = dataset.fault_of(index)
        rows.append(f"sub-{label}\t{FAULTS[fault] if fault else 'n/a'}")
    write_text_atomically(folder / "participants.tsv", "\n".join(rows) + "\n")
    write_json(
        folder / "participants.json",
        {"fault": {"Description": "What is wrong with the subject's scans on purpose; n/a where nothing is"}},
    )
