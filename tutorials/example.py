"""What the tutorials share: the scan they work on, and where their pictures go.

Every tutorial takes ``--data phantom|sherbrooke|stanford`` (the phantom by default, which needs no internet),
``--out FOLDER`` for pictures and results, ``--quick`` for a small phantom, and ``--mask-method`` for a public scan. In
a notebook set the environment variable ``ARCUATE_TUTORIAL`` to the same words, for example ``--data sherbrooke``.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from arcuate import (
    Dwi,
    GradientTable,
    InMemoryVolumeResource,
    make_phantom,
    three_shell_gradients,
)

SCANS = {"sherbrooke": "sherbrooke_3shell", "stanford": "stanford_hardi"}


@dataclass(frozen=True)
class Example:
    """A scan, and what is known of it beforehand."""

    dwi: Dwi
    mask_method: str  # HD-BET knows real heads, not phantoms
    labels: InMemoryVolumeResource | None = None  # (x, y, z) regions, of the phantom
    names: tuple[str, ...] = ()  # of the labels 1, 2, 3 ...


@lru_cache(maxsize=1)
def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=["phantom", *SCANS], default="phantom")
    parser.add_argument("--out", type=Path, default=Path("tutorial-results"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--mask-method", default="auto")
    given = os.environ.get("ARCUATE_TUTORIAL")
    words = (
        shlex.split(given)
        if given is not None
        else ([] if "ipykernel" in sys.modules else sys.argv[1:])
    )
    return parser.parse_args(words)


def get_example(min_shells: int = 1) -> Example:
    """The scan that was asked for, in memory; a public one is downloaded the first time, and verified.

    Parameters
    ----------
    min_shells : shells that the tutorial needs
    """
    data = _options().data
    if data == "phantom":
        return _make_phantom()
    if data == "stanford" and min_shells > 1:
        raise SystemExit(
            "stanford_hardi has one shell; this tutorial needs more: take --data sherbrooke"
        )
    from arcuate.dipy import get_fnames

    image, bval, bvec = get_fnames(SCANS[data])
    return Example(Dwi.from_files(image, bval, bvec).load(), _options().mask_method)


def get_files() -> tuple[str, str, str]:
    """Image, b-values and b-vectors of the same scan as files; the phantom is written to the output folder."""
    data = _options().data
    if data == "phantom":
        folder = out_folder() / "phantom"
        _make_phantom().dwi.save(folder, basename="scan")
        return tuple(
            str(folder / f"scan{suffix}") for suffix in (".nii.gz", ".bval", ".bvec")
        )
    from arcuate.dipy import get_fnames

    return get_fnames(SCANS[data])


@lru_cache(maxsize=1)
def _make_phantom() -> Example:
    """A head with two shells of 45 directions, 3 mm voxels (5 mm with --quick), and noise."""
    quick = _options().quick
    gradients: GradientTable = three_shell_gradients(
        n_b0=3, bvals=(1000, 2500), n_directions=45
    )
    shape, voxel = ((36, 42, 26), 5.0) if quick else ((60, 70, 44), 3.0)
    phantom = make_phantom(gradients, shape=shape, voxel_size=voxel, snr=30)
    labels = InMemoryVolumeResource(phantom.label_image, phantom.affine)
    dwi = Dwi.from_arrays(phantom.signal, phantom.affine, gradients)
    return Example(dwi, "otsu", labels, tuple(phantom.labels))


def out_folder() -> Path:
    """Where this tutorial may write."""
    folder = _options().out
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def show(picture: Any, name: str) -> Any:
    """The picture, a figure or an array (height, width, 3), for the notebook; also written to ``<name>.png``."""
    if isinstance(picture, np.ndarray):
        from PIL import Image

        picture = Image.fromarray(picture)
        picture.save(out_folder() / f"{name}.png")
    else:
        picture.savefig(out_folder() / f"{name}.png", dpi=110, bbox_inches="tight")
    return picture
