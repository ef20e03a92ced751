"""Which model, peaks and fixels a scan gets: three tissues on one shell, rules of peaks, fixels as files."""

from __future__ import annotations

import inspect
import json
import math
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from arcuate.commands.options import default_of
from arcuate.csd import (
    Fods,
    compute_csd_peaks,
    estimate_fods,
    estimate_response_function,
    find_fod_peaks,
    locate_fod_peaks,
    segment_fods,
)
from arcuate.dwi import Dwi
from arcuate.errors import InputError, InputWarning
from arcuate.io import NiftiVolumeResource
from arcuate.io.responses import response_beside
from arcuate.models.peak_rule import ALL_MAXIMA, HARD, NETWORK, SOFT, peak_rule_of
from arcuate.models.response import Response, tensor_response
from arcuate.models.second_pass import SURE_ON_ONE_SHELL, is_crossing, is_dispersed
from arcuate.phantom import Phantom, make_phantom, three_shell_gradients
from arcuate.volumes.resource import InMemoryVolumeResource


def make_scan(n_directions: int = 45, n_b0: int = 3, b: float = 2500.0) -> tuple[Phantom, Dwi, InMemoryVolumeResource]:
    gradients = three_shell_gradients(n_b0, (b,), n_directions, seed=3)
    head = make_phantom(gradients, shape=(40, 40, 24), voxel_size=4.8, snr=30)
    mask = InMemoryVolumeResource(head.brain_mask.astype(np.uint8), head.affine)
    return head, Dwi.from_arrays(head.signal, head.affine, gradients), mask


@pytest.fixture(scope="module")
def scan() -> tuple[Phantom, Dwi, InMemoryVolumeResource]:
    return make_scan()


@pytest.fixture(scope="module")
def response(scan) -> Response:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        return estimate_response_function(scan[1], scan[2])


@pytest.fixture(scope="module")
def small(scan) -> InMemoryVolumeResource:
    """A slab of the brain."""
    inside = np.asarray(scan[2].get_array()).copy()
    inside[..., :11], inside[..., 13:] = 0, 0
    return InMemoryVolumeResource(inside, scan[0].affine)


@pytest.fixture(scope="module")
def fods(scan, response, small) -> Fods:
    return estimate_fods(scan[1], small, response)


def test_one_shell_with_b0_gets_three_tissues_of_degree_8(scan, response) -> None:
    assert response.algorithm == "dhollander"
    assert response.tissues == ("wm", "gm", "csf")
    assert response.degree == 8
    assert np.all(response.coefs[0][1] != 0)


def test_few_directions_get_three_tissues_and_fewer_still_one() -> None:
    _, dwi, mask = make_scan(20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        response = estimate_response_function(dwi, mask)
        assert response.tissues == ("wm", "gm", "csf")
        assert response.degree == 8
        assert estimate_response_function(dwi, mask, shell=2500.0).algorithm == "tournier"
        few = Dwi.from_arrays(
            np.asarray(dwi.volume.get_array())[..., :19], mask.get_affine(), dwi.gradients.subset(np.arange(19))
        )
        assert estimate_response_function(few, mask).algorithm == "tournier"


def test_the_fods_of_one_shell_have_three_tissues_and_say_how(scan, small, fods) -> None:
    head = scan[0]
    assert list(fods.volumes) == ["wm", "gm", "csf"]
    assert fods.parameters["Model"] == "single-shell three-tissue constrained spherical deconvolution"
    assert fods.parameters["Iterations"] == 2
    assert fods.parameters["WeightOfB0"] == 0.1
    inside = np.asarray(small.get_array()) > 0
    amounts = {name: np.asarray(v.get_array())[..., 0] for name, v in fods.volumes.items()}
    for i, name in enumerate(("wm", "gm", "csf")):
        pure = inside & (head.tissue[..., i] > 0.95)
        assert np.median(amounts[name][pure]) > 1.3 * max(np.median(a[pure]) for n, a in amounts.items() if n != name)


def test_the_soft_method_can_still_be_had(scan, response, small) -> None:
    fods = estimate_fods(scan[1], small, response, method="csd")
    assert list(fods.volumes) == ["wm"]
    assert fods.parameters["Model"] == "single-shell constrained spherical deconvolution"
    with pytest.raises(InputError, match=r"method 'soft'; expected auto or csd"):
        estimate_fods(scan[1], small, response, method="soft")


def test_a_second_pass_is_for_hard_constraints(scan, response, small, fods) -> None:
    again = estimate_fods(scan[1], small, response, second_pass=True)
    assert again.parameters["SecondPass"] == {
        "slack": 0.2, "planarity": 0.06, "emptiness": 0.5, "evidence": 0.0, "dispersed": 0.05
    }  # fmt: skip
    plain = estimate_fods(scan[1], small, response, second_pass=False)
    assert "SecondPass" not in plain.parameters
    one, two = (np.asarray(f.volumes["wm"].get_array()) for f in (plain, again))
    changed = np.any(one != two, axis=-1)
    assert 0.01 < changed.sum() / (np.asarray(small.get_array()) > 0).sum() < 0.6
    np.testing.assert_allclose(two[..., 0], one[..., 0], rtol=5e-3, atol=1e-6)
    with pytest.raises(InputError, match=r"a second pass needs FODs of a hard constraint, not the method 'csd'"):
        estimate_fods(scan[1], small, response, second_pass=True, method="csd")
    with pytest.raises(InputError, match=r"second_pass = 'auto'; expected True, False, or None"):
        estimate_fods(scan[1], small, response, second_pass="auto")


def test_by_default_a_second_pass_stands_only_where_the_signals_ask_for_it(scan, response, small, fods) -> None:
    assert fods.parameters["SecondPass"]["evidence"] == SURE_ON_ONE_SHELL.evidence == 20
    assert fods.parameters["SecondPass"]["unexplained"] == 0.005
    plain, bold = (
        np.asarray(estimate_fods(scan[1], small, response, second_pass=asked).volumes["wm"].get_array())
        for asked in (False, True)
    )
    assert fods.parameters["SecondPass"]["dispersed"] == SURE_ON_ONE_SHELL.dispersed == 0.05
    sure = np.asarray(fods.volumes["wm"].get_array())
    changed = np.any(sure != plain, axis=-1)
    looks = is_crossing(plain.reshape(-1, 45)).reshape(plain.shape[:3])
    sharper, smoother = changed & looks, changed & ~looks
    assert 0 < sharper.sum() < 0.5 * (looks & np.any(bold != plain, axis=-1)).sum()
    np.testing.assert_array_equal(sure[changed], bold[changed])
    assert 0 < smoother.sum() < 0.3 * (np.asarray(small.get_array()) > 0).sum()
    assert np.all(is_dispersed(plain[smoother]))
    fine = [np.linalg.norm(each[smoother][:, 15:], axis=1) for each in (sure, plain)]  # of degree 6 and 8
    assert np.median(fine[0] / fine[1]) < 0.9
    np.testing.assert_allclose(sure[..., 0], plain[..., 0], rtol=5e-3, atol=1e-6)
    soft = estimate_fods(scan[1], small, response, method="csd")
    assert "SecondPass" not in soft.parameters


def test_the_rule_of_peaks_is_that_of_the_response(response) -> None:
    assert peak_rule_of(response) == HARD == (0.2, 15.0, 0.1)
    assert peak_rule_of(tensor_response(np.array([1.7e-3, 3e-4, 3e-4]), 1000, 3000)) == SOFT == (0.5, 25.0, 0.0)
    assert peak_rule_of(None) == SOFT
    assert NETWORK == (0.0, 25.0, 0.0)


def test_peaks_follow_the_response_unless_told_otherwise(scan, response, small, fods) -> None:
    white = fods.volumes["wm"]
    values = {
        "response": find_fod_peaks(white, small, response=response)[1],
        "hard": find_fod_peaks(white, small, **HARD._asdict())[1],
        "none": find_fod_peaks(white, small)[1],
        "soft": find_fod_peaks(white, small, **SOFT._asdict())[1],
        "step": compute_csd_peaks(scan[1], small, response)[1],
    }
    arrays = {name: np.asarray(v.get_array()) for name, v in values.items()}
    assert np.array_equal(arrays["response"], arrays["hard"])
    assert np.array_equal(arrays["step"], arrays["hard"])
    assert np.array_equal(arrays["none"], arrays["soft"])
    present = arrays["hard"][arrays["hard"] > 0]
    assert present.min() > 0.1
    assert np.count_nonzero(arrays["soft"]) != np.count_nonzero(arrays["hard"])
    told = locate_fod_peaks(white, small, response=response, min_amplitude=0.3)
    expected = {"NPeaks": 5, "RelativePeakThreshold": 0.2, "MinSeparationAngle": 15.0, "MinAmplitude": 0.3}
    assert told.parameters == expected
    assert np.asarray(told.values.get_array())[np.asarray(told.values.get_array()) > 0].min() > 0.3


def test_tract_networks_keep_the_rule_they_were_trained_with(monkeypatch: pytest.MonkeyPatch, scan, response) -> None:
    from arcuate import tractseg

    asked: dict[str, object] = {}
    monkeypatch.setattr(tractseg, "require_torch", lambda: None)
    monkeypatch.setattr(tractseg, "tractseg_weights", lambda *_: [])

    def note(*_: object, **options: object) -> None:
        asked.update(options)
        raise InterruptedError

    monkeypatch.setattr("arcuate.csd.compute_csd_peaks", note)
    with pytest.raises(InterruptedError):
        tractseg.extract_tractseg(scan[1], scan[2], response)
    assert asked == NETWORK._asdict()


def test_fixels_of_an_image_are_those_of_its_voxels(scan, small, fods) -> None:
    white = fods.volumes["wm"]
    fixels = segment_fods(white, small)
    index = np.asarray(fixels.index.get_array())
    assert index.dtype == np.uint32
    assert index[..., 0].sum() == len(fixels.directions) == len(fixels.values["afd"])
    counts, first = index[..., 0].ravel(order="F"), index[..., 1].ravel(order="F")
    filled = counts > 0
    assert np.array_equal(first[filled], np.cumsum(counts[filled]) - counts[filled])
    np.testing.assert_allclose(np.linalg.norm(fixels.directions, axis=1), 1, atol=1e-6)
    afd = np.asarray(fixels.as_volume("afd", 2).get_array())
    assert afd.shape == (*small.shape, 2)
    assert np.all(afd[..., 0] >= afd[..., 1])
    inside = np.asarray(small.get_array()) > 0
    total = np.asarray(white.get_array())[..., 0] * math.sqrt(4 * math.pi)
    single = inside & (index[..., 0] == 1) & scan[0].is_single_fibre
    np.testing.assert_allclose(np.median(afd[single][:, 0] / total[single]), 1.0, atol=0.05)
    with pytest.raises(InputError, match=r"'fa'; fixels have the values afd, peak, disp"):
        fixels.as_volume("fa")


def test_the_sidecar_of_fods_decides_the_rule_on_the_command_line(tmp_path: Path, response) -> None:
    (tmp_path / "wm.json").write_text(json.dumps({"Model": "x", "Response": response.to_dict()}))
    assert peak_rule_of(response_beside(tmp_path / "wm.nii.gz")) == HARD
    assert response_beside(tmp_path / "other.nii.gz") is None


def test_defaults_are_written_once() -> None:
    assert default_of(segment_fods, "min_amplitude") == 0.1
    assert inspect.signature(inspect.unwrap(estimate_fods)).parameters["second_pass"].default is None
    assert ALL_MAXIMA == (0.0, 0.0, 0.0)


def test_commands_write_peaks_and_fixels_of_a_fod_image(tmp_path: Path, response, fods) -> None:
    from click.testing import CliRunner

    from arcuate.cli import app

    NiftiVolumeResource.save(fods.volumes["wm"], tmp_path / "wm.nii.gz")
    (tmp_path / "wm.json").write_text(json.dumps({"Response": response.to_dict()}))
    done = CliRunner().invoke(app, ["peaks", str(tmp_path / "wm.nii.gz"), "--out", str(tmp_path / "peaks.nii.gz")])
    assert done.exit_code == 0, done.output
    facts = json.loads((tmp_path / "peaks.json").read_text())
    assert (facts["RelativePeakThreshold"], facts["MinAmplitude"], facts["MinSeparationAngle"]) == (0.2, 0.1, 15.0)
    done = CliRunner().invoke(app, ["fixels", str(tmp_path / "wm.nii.gz"), "--out", str(tmp_path / "fixels")])
    assert done.exit_code == 0, done.output
    index = nib.load(tmp_path / "fixels" / "index.nii")
    afd = nib.load(tmp_path / "fixels" / "afd.nii")
    assert index.get_data_dtype() == np.uint32
    assert afd.shape == (int(np.asarray(index.dataobj)[..., 0].sum()), 1, 1)
    assert json.loads((tmp_path / "fixels" / "fixels.json").read_text())["MinAmplitude"] == 0.1
