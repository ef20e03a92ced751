"""Responses: what they carry, how they are written and read, what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from arcuate.errors import InputError, InputWarning
from arcuate.models.response import (
    Response,
    check_response,
    merge_responses,
    tensor_response,
    tensor_zonal,
    zonal_harmonics,
)

EVALS = np.array([1.7e-3, 0.3e-3, 0.3e-3])


def _three_tissues() -> Response:
    wm = np.array([[3000.0, 0, 0], [1500, -400, 80], [900, -450, 150]])
    return Response(
        ("wm", "gm", "csf"),
        np.array([0.0, 1000, 2000]),
        (wm, np.array([[3000.0], [1300], [700]]), np.array([[6000.0], [600], [90]])),
        "dhollander",
    )


def test_zonal_coefficients_rebuild_the_tensor_signal() -> None:
    zonal = tensor_zonal(EVALS, 100.0, 3000.0, 24)
    t = np.linspace(-1, 1, 41)
    signal = 100 * np.exp(-3000 * (0.3e-3 + 1.4e-3 * t**2))
    np.testing.assert_allclose(zonal @ zonal_harmonics(t, 24), signal, atol=1e-7)


def test_json_brings_back_every_number_exactly() -> None:
    response = tensor_response(EVALS, 431.7, 2000.0, n_voxels=np.int64(300))
    again = Response.from_json(response.to_json())
    assert again.tissues == ("wm",)
    assert again.algorithm == "ssst"
    np.testing.assert_array_equal(again.bvals, response.bvals)
    np.testing.assert_array_equal(again.coefs[0], response.coefs[0])
    assert again.made_from["n_voxels"] == 300
    assert again.s0 == pytest.approx(431.7)


def test_a_single_shell_response_is_written_as_the_one_row_that_dwi2fod_csd_takes() -> None:
    response = tensor_response(EVALS, 100.0, 2000.0)
    lines = response.to_mrtrix().splitlines()
    assert lines[0] == "# Shells: 2000"
    assert len(lines) == 2
    again = Response.from_mrtrix({"wm": response.to_mrtrix()})
    assert again.is_single_shell
    assert again.shells == (2000.0,)
    np.testing.assert_array_equal(again.get_zonal(), response.get_zonal())


def test_several_tissues_go_through_text_and_through_merging() -> None:
    response = _three_tissues()
    again = Response.from_mrtrix({t: response.to_mrtrix(t) for t in response.tissues})
    assert not again.is_single_shell
    assert again.lmax_of_tissues == (4, 0, 0)
    for a, b in zip(again.coefs, response.coefs, strict=True):
        np.testing.assert_array_equal(a, b)
    single = [Response((t,), response.bvals, (response.get_tissue(t),)) for t in response.tissues]
    assert merge_responses(single).tissues == response.tissues


def test_a_bare_row_of_numbers_is_a_response_on_an_unknown_shell() -> None:
    response = Response.from_mrtrix({"wm": "900 -450 150\n"})
    assert response.is_single_shell
    assert math.isnan(response.shells[0])
    assert math.isnan(Response.from_json(response.to_json()).shells[0])
    assert Response.from_mrtrix({"wm": "900 -450 150\n"}, bvals=np.array([3000.0])).shells == (3000.0,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Response.from_mrtrix({"wm": "1 2\n3 4\n"}), "Shells"),
        (lambda: Response.from_mrtrix({"wm": "1 2\n3\n"}), "equal length"),
        (lambda: Response.from_mrtrix({"wm": "one two"}), "table of numbers"),
        (lambda: Response.from_mrtrix({"wm": "# Shells: 0,1000\n1 2\n"}), "2 shells but has 1 rows"),
        (lambda: Response.from_json("{"), "not JSON"),
        (lambda: Response.from_json('{"tissues": {}}'), "arcuate response"),
        (lambda: Response(("wm",), np.array([1000.0]), (np.array([[np.nan]]),)), "not finite"),
        (lambda: Response(("wm",), np.array([2000.0, 1000.0]), (np.ones((2, 1)),)), "lowest first"),
        (lambda: Response(("wm",), np.array([2000.0]), (np.ones((2, 1)),)), "2 rows for 1 shells"),
        (lambda: _three_tissues().get_zonal(), "one tissue on one shell"),
        (lambda: _three_tissues().get_tissue("bone"), "no tissue 'bone'"),
        (lambda: merge_responses([_three_tissues(), tensor_response(EVALS, 1, 2000)]), "same shells"),
    ],
)
def test_unusable_responses_say_what_was_found_and_expected(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_an_oblate_response_is_refused() -> None:
    with pytest.raises(InputError, match="not prolate"):
        check_response(tensor_response(np.array([0.3e-3, 1.2e-3, 1.2e-3]), 100, 2000))


def test_a_response_without_signal_is_refused() -> None:
    with pytest.raises(InputError, match="no signal"):
        check_response(tensor_response(EVALS, 0.0, 2000))


def test_a_fat_response_or_few_voxels_are_warned_of_with_the_numbers() -> None:
    with pytest.warns(InputWarning, match=r"0\.40"):
        check_response(tensor_response(np.array([1e-3, 0.4e-3, 0.4e-3]), 100, 2000, n_voxels=500))
    with pytest.warns(InputWarning, match="from 12 voxels"):
        check_response(tensor_response(EVALS, 100, 2000, n_voxels=12))
    check_response(tensor_response(EVALS, 100, 2000, n_voxels=500))
