"""Every tutorial runs as a script, says and writes what it promises, and is a notebook; public scans by name."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from arcuate.dwi import Dwi
from arcuate.io import NiftiVolumeResource
from arcuate.io.tables import read_table
from arcuate.phantom import make_phantom, three_shell_gradients

TUTORIALS = Path(__file__).resolve().parents[2] / "tutorials"
NAMES = sorted(path.stem for path in TUTORIALS.glob("*.py") if path.stem != "example")


needs_ants = pytest.mark.skipif(
    importlib.util.find_spec("ants") is None, reason="antspyx is not installed (extra ants); its oracle is left out"
)
FLAT = {"test_harmonisation", "test_t1_and_regions", "test_group_template"}  # without pictures in space


@pytest.fixture(autouse=True)
def _extras(request: pytest.FixtureRequest) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra report)")
    if request.node.name not in FLAT:
        pytest.importorskip("pyvista", reason="PyVista is not installed (extra viz)")


def _run(name: str, out: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TUTORIALS / f"{name}.py"), "--out", str(out), *options]
    environment = {k: v for k, v in os.environ.items() if k != "DISPLAY"} | variables
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def _quick(name: str, out: Path) -> str:
    done = _run(name, out, "--quick")
    assert done.returncode == 0, done.stderr
    return done.stdout


def _check_pictures(out: Path, *names: str) -> None:
    from PIL import Image

    for name in names:
        with Image.open(out / f"{name}.png") as picture:
            pixels = np.asarray(picture.convert("RGB"), dtype=float)
        assert pixels.std() > 3, f"{name}.png is empty"


def test_single_subject(tmp_path: Path) -> None:
    printed = _quick("single_subject", tmp_path)
    assert "Dti.estimate_dti: cached" in printed
    assert "directions (36, 42, 26, 5, 3) values (36, 42, 26, 5)" in printed
    _check_pictures(tmp_path, "denoised", "mask", "tensor", "noddi", "n_peaks", "fods")
    fa = NiftiVolumeResource(tmp_path / "fa.nii.gz").get_array()
    assert fa.shape == (36, 42, 26)
    assert 0.5 < np.percentile(fa[fa > 0], 99) <= 1
    assert NiftiVolumeResource(tmp_path / "noddi.nii.gz").shape == (36, 42, 26, 3)


def test_csd_on_arrays(tmp_path: Path) -> None:
    printed = _quick("csd_on_arrays", tmp_path)
    assert "gives the same: True" in printed
    ratio = float(printed.partition("ratio ")[2].split()[0])
    assert 0.1 < ratio < 0.3
    _check_pictures(tmp_path, "response", "recursive_response", "odfs", "peaks", "both")


def test_multi_tissue_csd(tmp_path: Path) -> None:
    printed = _quick("multi_tissue_csd", tmp_path)
    assert "peaks (36, 42, 26, 9)" in printed
    _check_pictures(tmp_path, "responses", "fractions", "fods", "density")
    fod = NiftiVolumeResource(tmp_path / "wm_fod.nii.gz").get_array()
    assert fod.shape[:3] == (36, 42, 26)
    assert np.isfinite(fod).all()


def test_custom_step_is_computed_when_it_should_be_and_not_otherwise(tmp_path: Path) -> None:
    printed = _quick("custom_step", tmp_path)
    said = [line.strip() for line in printed.splitlines()]
    computing = "computing bright_where_coherent"
    assert said[said.index("first run") + 1] == computing
    assert said[said.index("second run") + 1] == "same bits: True"
    assert said[said.index("threshold 0.5") + 1] == computing
    assert said[said.index("threshold 0.3") + 1] != computing
    assert said[said.index("forced") + 1] == computing
    _check_pictures(tmp_path, "custom_step")


def test_region_averages(tmp_path: Path) -> None:
    _quick("region_averages", tmp_path)
    median = {(row["region"], row["map"]): row["median"] for row in read_table(tmp_path / "regions.tsv").rows}
    assert median["white_matter_left", "fa"] > 2 * median["cortex_left", "fa"]
    assert median["lateral_ventricle_left", "md"] > 1.5e-3
    assert median["white_matter_left", "ndi"] > median["cortex_left", "ndi"]
    _check_pictures(tmp_path, "regions")


def test_harmonisation(tmp_path: Path) -> None:
    printed = _quick("harmonisation", tmp_path)
    sites = {line.split()[0]: [float(word) for word in line.split()[1:]] for line in printed.splitlines()[:2]}
    assert np.ptp(sites["after"]) < 0.05 * np.ptp(sites["before"])
    assert "effect of age -0.0020 a year" in printed
    assert "same: True" in printed
    _check_pictures(tmp_path, "harmonisation")


@needs_ants
def test_t1_and_regions(tmp_path: Path) -> None:
    printed = _quick("t1_and_regions", tmp_path)
    assert float(printed.partition(" % of the voxels have")[0].split()[-1]) > 95
    assert float(printed.partition("true regions by ")[2].split()[0]) < 1
    _check_pictures(tmp_path, "t1_and_regions")
    assert read_table(tmp_path / "regions.tsv").rows


@needs_ants
def test_group_template(tmp_path: Path) -> None:
    printed = _quick("group_template", tmp_path)
    like = [float(line.split()[-6]) for line in printed.splitlines() if "like the true" in line]
    assert like[0] + 0.1 < like[1] < like[2]
    _check_pictures(tmp_path, "group_template")


@pytest.fixture(scope="module")
def stanford(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data folder in which a phantom takes the place of the scan stanford_hardi."""
    folder = tmp_path_factory.mktemp("scans")
    gradients = three_shell_gradients(n_b0=2, bvals=(2000,), n_directions=45)
    phantom = make_phantom(gradients, shape=(30, 34, 20), voxel_size=6.0, snr=40)
    Dwi.from_arrays(phantom.signal, phantom.affine, gradients).save(folder / "stanford_hardi", basename="HARDI150")
    return str(folder)


def test_a_public_scan_of_one_shell_and_no_labels(tmp_path: Path, stanford: str) -> None:
    done = _run("region_averages", tmp_path, "--data", "stanford", "--mask-method", "otsu", ARCUATE_DATA=stanford)
    assert done.returncode == 0, done.stderr
    assert {"high_fa", "low_fa", "fluid"} & set(done.stdout.split())
    assert "ndi" not in done.stdout


def test_a_scan_that_cannot_be_used_is_said_at_once(tmp_path: Path, stanford: str) -> None:
    done = _run("multi_tissue_csd", tmp_path, "--data", "stanford", ARCUATE_DATA=stanford)
    assert done.returncode == 1
    assert "needs more: take --data sherbrooke" in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_is_a_notebook(name: str) -> None:
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed (extra docs)")
    cells = jupytext.read(TUTORIALS / f"{name}.py", fmt="py:percent").cells
    assert cells[0].source.startswith("# ")
    kinds = [cell.cell_type for cell in cells]
    assert kinds.count("code") >= 4
    assert kinds.count("markdown") >= 4
