"""Responses of scans as they come: few volumes, few voxels, tissues that are not there, no b=0; and their options."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import random_scans

from arcuate.csd import compute_csd_fods, estimate_fods, estimate_response_function
from arcuate.dwi import Dwi
from arcuate.errors import InputError, InputWarning, NotApplicable
from arcuate.gradients import GradientTable
from arcuate.models.csd import find_shell_of
from arcuate.models.multitissue import make_multi_tissue_model
from arcuate.models.response import Response, tensor_response
from arcuate.models.response_dhollander import best_threshold

pytestmark = pytest.mark.filterwarnings("ignore:the responses rest on")  # small images: tens of voxels of fluid

AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])


def _scan(
    shells: dict[float, int],
    *,
    tissues: tuple[str, ...] = ("wm", "gm", "csf"),
    n: int = 12,
    snr: float = 40.0,
    b0_threshold: float = 50.0,
) -> Dwi:
    """n x n x n voxels of the tissues; {b: volumes}."""
    rng = np.random.default_rng(7)
    bvals = np.concatenate([np.full(count, float(b)) for b, count in shells.items()])
    directions = rng.normal(size=(len(bvals), 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    table = GradientTable(bvals, np.where(bvals[:, None] > 0, directions, 0.0), b0_threshold)
    signal = random_scans.simulate_rows(rng, table, n**3, list(tissues))
    noise = rng.normal(scale=1000 / snr, size=(2, *signal.shape))
    return Dwi.from_arrays(np.hypot(signal + noise[0], noise[1]).reshape(n, n, n, -1).astype(np.float32), AFFINE, table)


@pytest.mark.parametrize("n", [11, 13, 101, 1001])
def test_the_best_threshold_of_values_without_a_second_group_is_found_in_few_steps(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(60):
        values = rng.normal(size=n)
        values -= np.median(values)
        assert values.min() <= best_threshold(values) <= values.max()


@pytest.mark.parametrize(
    "shells",
    [
        {0: 8, 200: 3, 500: 6, 1500: 46, 3000: 46},
        {0: 2, 1500: 18},
        {0: 1, 700: 6, 1500: 15},
        {0: 1, 500: 3, 1000: 6, 1500: 9, 2000: 12, 2500: 15, 3000: 18, 3500: 21, 4000: 24},
    ],
    ids=["a shell of 3", "20 in all", "22 in all", "eight shells"],
)
def test_dhollander_gets_through_few_volumes(shells: dict[float, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        response = estimate_response_function(_scan(shells), None, "dhollander")
    assert response.tissues == ("wm", "gm", "csf")
    assert response.algorithm == "dhollander"
    weighted = response.coefs[0][1:]
    assert np.all(weighted[:, 0] > 0)
    assert np.all(weighted[:, 1] < 0)  # on every shell, those of 3 volumes included
    decay = [-np.log(table[-1, 0] / table[0, 0]) for table in response.coefs]
    assert decay[2] > decay[1]


def test_a_handful_of_voxels_of_a_tissue_gives_its_response_with_a_warning() -> None:
    scan = _scan({0: 4, 1000: 30, 2500: 45}, n=5)
    with pytest.warns(InputWarning, match=r"responses rest on \d voxels? of grey matter and \d voxels? of fluid"):
        response = estimate_response_function(scan, None, "dhollander")
    assert all(n >= 1 for n in response.made_from["n_voxels_of_tissues"].values())


def test_where_nothing_but_white_matter_is_auto_takes_one_shell_and_says_why() -> None:
    scan = _scan({0: 4, 1000: 30, 2500: 45}, tissues=("wm",))
    with pytest.warns(InputWarning, match=r"three tissues cannot be had \(found \d+ voxels of white matter, 0 .*tourn"):
        response = estimate_response_function(scan)
    assert response.algorithm == "tournier"
    assert response.is_single_shell
    assert "0 of grey matter" in response.made_from["fewer_tissues_because"]
    with pytest.warns(
        InputWarning, match=r"no second pass, which needs .* three tissues cannot be had \(found \d+ voxels"
    ):
        asked = estimate_fods(scan, None, response, second_pass=True)
    assert "SecondPass" not in asked.parameters
    with pytest.raises(
        InputError, match="a second pass needs FODs of a hard constraint; the response is of one tissue"
    ):
        estimate_fods(scan, None, replace(response, made_from={}), second_pass=True)
    with pytest.raises(NotApplicable, match="0 of grey matter and 0 of fluid; expected some of each"):
        estimate_response_function(scan, None, "dhollander")


def test_two_shells_without_b0_give_two_tissues_and_their_fods() -> None:
    scan = _scan({1000: 32, 2000: 45})
    with pytest.warns(InputWarning, match=r"no b=0 volume: the lowest shell, b=1000 .* are those of wm, csf"):
        response = estimate_response_function(scan)
    assert response.tissues == ("wm", "csf")
    assert response.bvals.tolist() == [1000.0, 2000.0]
    fods = estimate_fods(scan, None, response)
    assert set(fods.volumes) == {"wm", "csf"}
    assert fods.parameters["VoxelsByStatus"]["fitted"] > 0.9 * 12**3


def test_one_shell_and_b0_give_three_responses_by_name() -> None:
    response = estimate_response_function(_scan({0: 6, 3000: 64}), None, "dhollander")
    assert response.tissues == ("wm", "gm", "csf")
    assert response.bvals.tolist() == [0.0, 3000.0]


@pytest.mark.parametrize("shells", [{1000: 32}, {0: 5}])
def test_dhollander_of_one_b_value_is_refused(shells: dict[float, int]) -> None:
    with pytest.raises(NotApplicable, match="need two b-values at least"):
        estimate_response_function(_scan(shells, n=4), None, "dhollander")


def test_an_empty_volume_and_nan_end_in_a_response_or_a_reason() -> None:
    scan = _scan({0: 3, 1000: 30, 2000: 45})
    array = scan.volume.get_array().copy()
    array[..., 20] = 0
    array[3:5] = np.nan
    broken = Dwi.from_arrays(array, AFFINE, scan.gradients)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        response = estimate_response_function(broken)
    assert response.tissues[0] == "wm"


@pytest.mark.parametrize("algorithm", ["auto", "dhollander", "tournier", "ssst"])
@pytest.mark.parametrize("lmax", [7, 40, -2])
def test_a_degree_that_is_odd_or_out_of_range_is_refused_by_every_algorithm(algorithm: str, lmax: int) -> None:
    with pytest.raises(InputError, match=f"found lmax = {lmax}; expected an even degree"):
        estimate_response_function(_scan({0: 3, 1000: 20, 2000: 30}, n=4), None, algorithm, lmax=lmax)


@pytest.mark.filterwarnings("ignore:the shell b=2600 s/mm² has 31")
def test_isotropic_tissues_without_signal_at_the_shell_leave_white_matter_alone() -> None:
    scan = _scan({0: 3, 2600: 31}, n=8)
    lowered = Dwi.from_arrays(scan.volume.get_array() - 350, AFFINE, scan.gradients)  # a background taken away
    with pytest.warns(InputWarning, match="three tissues cannot be had"):
        response = estimate_response_function(lowered)
    assert response.tissues == ("wm",)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("ignore", InputWarning)
        estimate_fods(lowered, None, response)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("algorithm", ["dhollander", "tournier", "ssst", "recursive"])
def test_voxels_that_are_not_finite_have_no_part_in_a_response(algorithm: str, bad: float) -> None:
    options = {"roi_radius": 10, "fa_threshold": 0.5} if algorithm == "ssst" else {}
    scan = _scan({0: 3, 1000: 20, 3000: 30})
    array = scan.volume.get_array().copy()
    broken = np.zeros(array.shape[:3], bool)
    broken[::3, ::2, 1::4] = True
    array[broken, :1] = bad  # the b=0 volume, and one of each shell
    array[broken, 8:9] = bad
    array[broken, 40:41] = bad
    mask = np.ones(broken.shape, np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        with_them = estimate_response_function(
            Dwi.from_arrays(array, AFFINE, scan.gradients), mask, algorithm, **options
        )
        zeroed = np.where(broken[..., None], 0, scan.volume.get_array())
        without = estimate_response_function(
            Dwi.from_arrays(zeroed, AFFINE, scan.gradients), mask, algorithm, **options
        )
    for found, expected in zip(with_them.coefs, without.coefs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.02 * abs(expected).max())


@pytest.mark.filterwarnings("ignore:volume.* no signal")
@pytest.mark.parametrize("n_broken", [1, 3])
def test_b0_volumes_of_nan_are_no_part_of_tourniers_response(n_broken: int) -> None:
    scan = _scan({0: 3, 2500: 45}, tissues=("wm",), n=8)
    array = scan.volume.get_array().copy()
    array[..., :n_broken] = np.nan
    broken = Dwi.from_arrays(array, AFFINE, scan.gradients)
    if n_broken == 3:
        with pytest.raises(NotApplicable, match="b=0 volumes hold no number"):
            estimate_response_function(broken, None, "tournier")
        return
    found, whole = (estimate_response_function(s, None, "tournier") for s in (broken, scan))
    np.testing.assert_allclose(found.coefs[0], whole.coefs[0], rtol=0.05, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["dhollander", "auto"])
def test_a_single_shell_asked_of_dhollander_is_refused_and_of_auto_obeyed(algorithm: str) -> None:
    scan = _scan({0: 4, 1000: 30, 2500: 45}, n=8)
    if algorithm == "dhollander":
        with pytest.raises(InputError, match="Take algorithm 'tournier'"):
            estimate_response_function(scan, None, algorithm, shell=1000)
        return
    with pytest.warns(InputWarning, match="lmax falls to 6"):
        assert estimate_response_function(scan, None, algorithm, shell=1000).shells == (1000.0,)


def test_an_fa_threshold_is_obeyed_or_refused() -> None:
    scan = _scan({0: 4, 1000: 30, 2500: 45})
    low, high = (estimate_response_function(scan, None, "dhollander", fa_threshold=fa).made_from for fa in (0.2, 0.5))
    assert (low["fa_threshold"], high["fa_threshold"]) == (0.2, 0.5)
    assert high["n_voxels_before_choice"]["wm"] < low["n_voxels_before_choice"]["wm"]
    for algorithm in ("tournier", "recursive"):
        with pytest.raises(InputError, match=f"{algorithm} does not choose its voxels by it"):
            estimate_response_function(scan, None, algorithm, fa_threshold=0.5)
    with pytest.raises(InputError, match="dhollander looks at the whole mask"):
        estimate_response_function(scan, None, "dhollander", roi_radius=3.0)
    with pytest.raises(InputError, match="expected a number from 0 to below 1"):
        estimate_response_function(scan, None, "dhollander", fa_threshold=70)


def test_a_shell_below_50_made_weighted_goes_from_response_to_fod() -> None:
    scan = _scan({0: 4, 30: 12, 1000: 32, 2500: 45}, b0_threshold=10.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)  # that 30 may be meant as b=0
        response = estimate_response_function(scan)
        assert response.bvals.tolist() == [0.0, 30.0, 1000.0, 2500.0]
        assert response.b0_threshold == 10.0
        again = Response.from_json(response.to_json())
        assert estimate_fods(scan, None, again).parameters["ShellsUsed"] == [30.0, 1000.0, 2500.0]
        other = Dwi.from_arrays(
            scan.volume.get_array(), AFFINE, GradientTable(scan.gradients.bvals, scan.gradients.directions)
        )
        with pytest.raises(InputError, match="made with --b0-threshold 10, the scan is read with 50"):
            estimate_fods(other, None, again)


def _table(*shells: float) -> GradientTable:
    return _scan({0: 2, **dict.fromkeys(shells, 50)}, n=1).gradients


def test_the_nearest_shell_is_taken_not_the_first_within_100() -> None:
    response = tensor_response(np.array([1.7e-3, 3e-4, 3e-4]), 1000.0, 1090.0, n_voxels=500)
    assert find_shell_of(response, _table(1000, 1110)).b == pytest.approx(1110)
    wm = np.array([[3400.0, 0, 0], [1900, -620, 90], [1800, -630, 95]])
    two = Response(("wm",), np.array([0.0, 1000, 1090]), (wm,))
    with pytest.raises(InputError, match="made on the shells 1000, 1090"):
        make_multi_tissue_model(_table(1060), two)


def test_a_shell_given_for_a_response_of_several_shells_is_refused() -> None:
    scan = _scan({0: 4, 1000: 30, 2500: 45}, n=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        response = estimate_response_function(scan)
    with pytest.raises(InputError, match="multi-tissue CSD takes all of them"):
        compute_csd_fods(scan, None, response, shell=1000)


def test_rows_without_their_shells_make_the_same_fods_as_with_them() -> None:
    scan = _scan({0: 4, 1000: 30, 2500: 45}, n=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        response = estimate_response_function(scan)
    bare = {t: "\n".join(response.to_mrtrix(t).splitlines()[1:]) for t in response.tissues}
    with pytest.warns(InputWarning, match=r"no line '# Shells.*taken in order, as b = 0, 1000, 2500"):
        found = compute_csd_fods(scan, None, Response.from_mrtrix(bare))
    np.testing.assert_array_equal(found.get_array(), compute_csd_fods(scan, None, response).get_array())


def test_a_path_in_place_of_a_response_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"found str in place of a response; expected what estimate_response_function"):
        compute_csd_fods(_scan({0: 1, 1000: 6}, n=4), None, "wm.txt")  # type: ignore[arg-type]
