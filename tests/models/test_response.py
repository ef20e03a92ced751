"""Responses: what they carry, how they are written and read, what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from arcuate.errors import InputError, InputWarning
from arcuate.gradients import GradientTable
from arcuate.models.response import (
    Response,
    merge_responses,
    tensor_response,
)
from arcuate.models.response_checks import check_response
from arcuate.models.response_zonal import tensor_zonal, zonal_harmonics

EVALS = np.array([1.7e-3, 0.3e-3, 0.3e-3])


def _three_tissues() -> Response:
    wm = np.array([[3000.0, 0, 0], [1500, -400, 80], [900, -450, 150]])
    return Response(
        ("wm", "gm", "csf"),
        np.array([0.0, 1000, 2000]),
        (wm, np.array([[3000.0], [1300], [700]]), np.array([[6000.0], [600], [90]])),
        "dhollander",
    )


@pytest.mark.parametrize(
    ("evals", "b", "is_told"),
    [
        (EVALS, 700, False),
        ((1.7e-3, 1.1e-3, 1.1e-3), 700, False),  # unmyelinated
        ((0.5e-3, 0.15e-3, 0.15e-3), 4000, False),  # fixed
        ((2.0e-3, 1.95e-3, 1.95e-3), 1000, True),
        (EVALS, 100, True),
    ],
)
def test_a_response_of_voxels_without_fibres_is_doubted(evals, b, is_told) -> None:
    response = Response(("wm",), np.array([float(b)]), (tensor_zonal(np.array(evals), 100.0, b, 8)[None],), "tournier")
    if is_told:
        with pytest.warns(InputWarning, match=r"nearly round: along the fibre it has \d+% .*are noise"):
            check_response(response)
    else:
        check_response(response)


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
    assert again.n_voxels == 300
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
        (lambda: Response.from_mrtrix({"wm": "1 2\n3 4\n", "gm": "1\n"}), "different numbers of rows"),
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


def test_white_matter_is_the_anisotropic_tissue_in_whatever_order_they_come() -> None:
    right = _three_tissues()
    for order in ((2, 0, 1), (1, 2, 0), (2, 1, 0)):
        turned = Response(
            tuple(right.tissues[i] for i in order), right.bvals, tuple(right.coefs[i] for i in order), "dhollander"
        )
        assert turned.tissues[0] == "wm"
        np.testing.assert_array_equal(turned.coefs[0], right.coefs[0])
        assert sorted(turned.tissues) == sorted(right.tissues)
        check_response(turned)
    other_names = Response(("a", "b"), right.bvals, (right.coefs[2], right.coefs[0]))
    assert other_names.tissues == ("b", "a")


@pytest.mark.parametrize(
    ("tissues", "picked", "message"),
    [
        (("gm", "csf"), (1, 2), "no anisotropic response among gm, csf"),
        (("wm", "csf"), (2, 0), "wm is far less anisotropic than that of csf"),
        (("a", "b"), (0, 0), "responses of a, b are anisotropic alike"),
    ],
)
def test_tissues_without_one_clear_white_matter_are_refused(tissues, picked, message: str) -> None:
    right = _three_tissues()
    with pytest.raises(InputError, match=message):
        check_response(Response(tissues, right.bvals, tuple(right.coefs[i] for i in picked)))


def test_degree_voxels_and_ratio_are_fields_and_are_read_from_the_files_of_the_first_version() -> None:
    old = (
        '{"algorithm": "ssst", "bvals": [0, 2000], "tissues": {"wm": [[3000, 0], [900, -300]]},'
        ' "made_from": {"lmax": 2, "n_voxels": 40, "ratio": 0.2, "s0": 846.0}}'
    )
    response = Response.from_json(old)
    assert (response.lmax, response.n_voxels, response.ratio) == (2, 40, 0.2)
    assert response.made_from == {"s0": 846.0}
    again = Response.from_json(response.to_json())
    assert (again.lmax, again.n_voxels, again.ratio) == (2, 40, 0.2)
    with pytest.warns(InputWarning, match="from 40 voxels"):
        check_response(response)


@pytest.mark.parametrize("lmax", ['"8"', "8.5", "true", "[8]"])
def test_a_degree_that_is_no_whole_number_is_one_sentence(lmax: str) -> None:
    text = '{"algorithm": "ssst", "bvals": [2000], "tissues": {"wm": [[900, -300]]}, "lmax": ' + lmax + "}"
    with pytest.raises(InputError, match=r"lmax = .*expected a whole number"):
        Response.from_json(text)


def test_the_threshold_of_b0_goes_through_json_and_text() -> None:
    wm = np.array([[3000.0, 0], [2900, -60], [1500, -500]])
    response = Response(("wm",), np.array([0.0, 30, 1000]), (wm,), b0_threshold=10.0)
    assert response.shells == (30.0, 1000.0)
    assert Response.from_json(response.to_json()).shells == (30.0, 1000.0)
    assert Response.from_mrtrix({"wm": response.to_mrtrix()}).shells == (30.0, 1000.0)
    assert Response(("wm",), response.bvals, (wm,)).shells == (1000.0,)


def _table(*shells: float) -> GradientTable:
    bvals = np.repeat(np.array(shells, dtype=float), 6)
    directions = np.random.default_rng(0).normal(size=(len(bvals), 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return GradientTable(bvals, directions * (bvals[:, None] > 0))


def test_rows_of_unknown_shells_are_those_of_the_scan_in_order_with_a_warning() -> None:
    right = _three_tissues()
    texts = {t: "\n".join(right.to_mrtrix(t).splitlines()[1:]) for t in right.tissues}
    bare = Response.from_mrtrix(texts)
    with pytest.warns(InputWarning, match=r"3 rows are taken in order, as b = 0, 1000, 2000"):
        placed = bare.on_shells_of(_table(0, 1000, 2000))
    np.testing.assert_array_equal(placed.bvals, [0, 1000, 2000])
    assert right.on_shells_of(_table(0, 3000)) is right  # its shells are known
    with pytest.raises(InputError, match=r"3 rows and no line '# Shells.*scan has 2 \(b = 0, 1000"):
        bare.on_shells_of(_table(0, 1000))
