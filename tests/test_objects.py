"""What objects show of themselves: a line at the prompt, facts and a picture in a notebook, never pages of numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arcuate
from arcuate.csd import FodPeaks, Fods
from arcuate.dti import Dti
from arcuate.dwi import Dwi
from arcuate.gradients import GradientTable
from arcuate.io import save_volume
from arcuate.masks import BrainMask
from arcuate.models.response import tensor_response
from arcuate.volumes.resource import InMemoryVolumeResource

SHAPE = (12, 14, 6)
AFFINE = np.diag([-2.0, 2.0, 2.5, 1.0])


def scan() -> Dwi:
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(21, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions[0] = 0
    bvals = np.array([0.0, *[1000.0] * 10, *[2000.0] * 10])
    array = rng.uniform(50, 900, (*SHAPE, 21)).astype(np.float32)
    return Dwi.from_arrays(array, AFFINE, GradientTable(bvals, directions))


def image(*more: int) -> InMemoryVolumeResource:
    return InMemoryVolumeResource(np.random.default_rng(1).uniform(0, 1, (*SHAPE, *more)).astype(np.float32), AFFINE)


def objects(folder: Path) -> dict[str, Any]:
    made = scan()
    mask = InMemoryVolumeResource((np.asarray(image()) > 0.3).astype(np.uint8), AFFINE)
    return {
        "scan": made,
        "scan on disk": made.save(folder, "scan"),
        "scan in parts": Dwi.from_files([made.save(folder, n).volume.path for n in ("a", "b")]),
        "mif": save_volume(made.volume, folder / "x.mif", made.gradients),
        "gradients": made.gradients,
        "volume": image(),
        "series": image(21),
        "peaks": image(3, 3),
        "mask": mask,
        "brain": BrainMask(mask, {"VolumeMl": 1234.5, "Method": "otsu"}),
        "fods": Fods({"wm": image(45), "csf": image(1)}, None, {"VoxelsByStatus": {"fitted": 9}}),
        "peaks and values": FodPeaks(image(3, 3), image(3), {}),
        "tensors": Dti(InMemoryVolumeResource(1e-3 * np.asarray(image(6)), AFFINE)),
    }


@pytest.mark.parametrize("name", ["scan", "scan on disk", "scan in parts", "mif", "gradients", "volume", "series",
                                  "peaks", "mask", "brain", "fods", "peaks and values"])  # fmt: skip
def test_an_object_is_one_line_at_the_prompt_and_a_picture_in_a_notebook(name: str, tmp_path: Path) -> None:
    thing = objects(tmp_path)[name]
    line = repr(thing)
    assert "\n" not in line
    assert len(line) < 260
    assert "array(" not in line
    html = thing._repr_html_()
    assert html.startswith("<table>")
    assert "<img" in html or "<svg" in html
    assert len(html) < 2_000_000


def test_a_scan_tells_its_grid_its_volumes_and_its_shells() -> None:
    assert repr(scan()) == (
        "Dwi(12 x 14 x 6 x 21 float32, voxels of 2 x 2 x 2.5 mm; "
        "GradientTable(21 volumes: 1 b=0; 10 at b=1000, 10 at b=2000))"
    )
    html = scan()._repr_html_()
    assert all(word in html for word in ("b = 1000 s/mm²", "10 directions", "<svg", "<img"))


def test_gradients_that_do_not_fit_are_said_and_nothing_is_raised() -> None:
    made = scan()
    wrong = Dwi(made.volume, type(made.bval)(np.zeros(3)), made.bvec)
    assert "do not fit: found 3 b-values for 21 volumes" in repr(wrong)
    assert "found 3 b-values" in wrong._repr_html_()


def test_dir_shows_what_is_for_use() -> None:
    assert dir(arcuate) == sorted(arcuate.__all__)
    assert not {"TYPE_CHECKING", "importlib", "annotations"} & set(dir(arcuate))


def test_printing_a_scan_on_disk_reads_no_voxel(tmp_path: Path) -> None:
    on_disk = scan().save(tmp_path, "scan")
    (tmp_path / "scan.nii.gz").write_bytes((tmp_path / "scan.nii.gz").read_bytes()[:1000])
    assert repr(on_disk).startswith("Dwi(12 x 14 x 6 x 21, voxels")


def test_a_response_is_one_line_and_curves() -> None:
    response = tensor_response([1.7e-3, 0.3e-3, 0.3e-3], 1000.0, 2000.0)
    assert repr(response) == "Response(ssst: wm at b = 2000 s/mm², degree 8)"
    page = response._repr_html_()
    assert "b = 2000" in page
    assert page.count("<svg") == 1
    assert "signal by direction" in page
