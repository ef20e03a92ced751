"""Volumes without signal are told of by every step that takes them."""

import warnings

import numpy as np
import pytest

from arcuate import Dwi, compute_csd_fods, estimate_response_function
from arcuate.errors import InputWarning
from arcuate.gradients import GradientTable
from arcuate.phantom import make_phantom, three_shell_gradients
from arcuate.volumes.resource import InMemoryVolumeResource
from arcuate.volumes.signals import read_signals

TABLE = three_shell_gradients(2, (1000, 2000), 15)


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(TABLE, (12, 12, 8), 13.0)


def scan_with(phantom, volume, value):
    signal = phantom.signal.copy()
    signal[..., volume] = value
    return Dwi.from_arrays(signal, phantom.affine, TABLE)


def mask_of(phantom):
    return InMemoryVolumeResource(phantom.brain_mask.astype(np.uint8), phantom.affine)


STEPS = {
    "dti": lambda dwi, mask: dwi.estimate_dti(mask=mask),
    "robust": lambda dwi, mask: dwi.estimate_dti(mask=mask, robust=True),
    "dki": lambda dwi, mask: dwi.estimate_dki(mask=mask),
    "free water": lambda dwi, mask: dwi.estimate_free_water(mask=mask),
    "noddi": lambda dwi, mask: dwi.estimate_noddi(mask=mask),
    "dhollander": lambda dwi, mask: estimate_response_function(dwi, mask, "dhollander"),
    "tournier": lambda dwi, mask: estimate_response_function(dwi, mask, "tournier"),
    "denoise": lambda dwi, mask: dwi.denoise(mask=mask),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.filterwarnings("ignore::arcuate.errors.InputWarning")
def test_a_step_that_takes_a_volume_of_zeros_says_which_to_leave_out(phantom, step):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*holds no signal.*")
        STEPS[step](Dwi.from_arrays(phantom.signal, phantom.affine, TABLE), mask_of(phantom))
    with pytest.warns(InputWarning, match=r"volume 0 holds no signal.*--exclude 0"):
        STEPS[step](scan_with(phantom, 0, 0.0), mask_of(phantom))


@pytest.mark.parametrize("tissues", ["dhollander", "tournier"])
@pytest.mark.filterwarnings("ignore::arcuate.errors.InputWarning")
def test_fods_say_which_volume_is_empty(phantom, tissues):
    whole = Dwi.from_arrays(phantom.signal, phantom.affine, TABLE)
    response = estimate_response_function(whole, mask_of(phantom), tissues)
    last = len(TABLE) - 1
    with pytest.warns(InputWarning, match=f"volume {last} holds no signal"):
        compute_csd_fods(scan_with(phantom, last, np.nan), mask_of(phantom), response)


def test_a_step_is_silent_about_empty_volumes_that_it_does_not_take(phantom):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scan_with(phantom, int(np.argmax(TABLE.bvals)), 0.0).estimate_dti(mask=mask_of(phantom))


@pytest.mark.parametrize("value", [0.0, -3.0, np.nan, np.inf])
def test_empty_volumes_are_named_as_in_the_files(phantom, value):
    with pytest.warns(InputWarning, match=r"volumes 4, 9 hold no signal \(2"):
        read_signals(scan_with(phantom, [4, 9], value).select(exclude=[0, 5]), phantom.brain_mask)


def test_a_scan_without_any_signal_is_one_sentence(phantom):
    with pytest.warns(InputWarning, match="no volume holds a signal"):
        read_signals(scan_with(phantom, slice(None), 0.0), phantom.brain_mask)


@pytest.mark.parametrize("step", ["dti", "noddi", "dhollander", "denoise"])
@pytest.mark.filterwarnings("ignore::arcuate.errors.InputWarning")
def test_a_step_says_that_two_series_in_one_file_have_two_scales(phantom, step):
    n = len(TABLE)
    twice = GradientTable(np.tile(TABLE.bvals, 2), np.tile(TABLE.directions, (2, 1)))
    signal = np.concatenate([phantom.signal, 0.2 * phantom.signal], axis=-1)
    dwi = Dwi.from_arrays(signal, phantom.affine, twice)
    with pytest.warns(InputWarning, match=f"b=0 volumes steps .*volumes {n} to {2 * n - 1}: 0.2,"):
        STEPS[step](dwi, mask_of(phantom))


@pytest.mark.parametrize("step", ["dti", "noddi", "tournier"])
@pytest.mark.filterwarnings("ignore::arcuate.errors.InputWarning")
def test_a_step_says_that_b_values_are_in_another_order_than_the_volumes(phantom, step):
    turned = Dwi.from_arrays(phantom.signal[..., ::-1], phantom.affine, TABLE)
    with pytest.warns(InputWarning, match=r"weighted volumes are brighter than b=0 \(15, 16, .*order of the volumes"):
        STEPS[step](turned, mask_of(phantom))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*brighter than b=0.*")
        STEPS[step](Dwi.from_arrays(phantom.signal, phantom.affine, TABLE), mask_of(phantom))


def test_a_few_voxels_may_be_zero_by_chance(phantom):
    few = np.zeros_like(phantom.brain_mask)
    few[tuple(np.argwhere(phantom.brain_mask)[:5].T)] = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_signals(scan_with(phantom, 4, 0.0), few)
