"""A plan says what a run will do before a voxel is read, and the run ends as it says."""

from __future__ import annotations

import itertools
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from arcuate.cache import Cache
from arcuate.csd import ALGORITHMS
from arcuate.dwi import Dwi
from arcuate.errors import InputError, InputWarning, MissingExtraError, NotApplicable
from arcuate.gradients import GradientTable
from arcuate.phantom import make_phantom, spread_directions
from arcuate.study.bids import Derivatives
from arcuate.study.outputs import FILES, read_record
from arcuate.study.pipeline import run_subject
from arcuate.study.plan import STAGES, STEPS, Settings, make_plan
from arcuate.study.stages import NOT_ASKED
from arcuate.volumes.resource import VolumeResource

SUBSETS = [tuple(s for s, is_in in zip(STEPS, which, strict=True) if is_in)
           for which in itertools.product((False, True), repeat=len(STEPS))]  # fmt: skip


class Unread(VolumeResource):
    """A scan whose voxels must not be read."""

    def __init__(self, n_volumes: int) -> None:
        self._shape = (12, 12, 10, n_volumes)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    def load(self):
        pytest.fail("a voxel was read")

    def get_array(self) -> np.ndarray:
        pytest.fail("a voxel was read")

    def get_affine(self) -> np.ndarray:
        return np.diag([10.0, 10.0, 10.0, 1.0])

    def get_metadata(self) -> dict[str, object]:
        return {}


def table(*shells: tuple[float, int]) -> GradientTable:
    bvals = np.concatenate([np.full(n, float(b)) for b, n in shells])
    directions = np.vstack(
        [np.zeros((n, 3)) if b == 0 else spread_directions(n, 3 + k) for k, (b, n) in enumerate(shells)]
    )
    return GradientTable(bvals, directions)


def unread(*shells: tuple[float, int]) -> Dwi:
    gradients = table(*shells)
    scan = Dwi.from_arrays(np.zeros((1, 1, 1, len(gradients)), np.float32), np.diag([10.0, 10, 10, 1]), gradients)
    return Dwi(Unread(len(gradients)), scan.bval, scan.bvec)


SCANS = {
    "two shells": ((0, 2), (1000, 20), (2000, 30)),
    "one shell": ((0, 1), (1000, 32)),
    "few directions": ((0, 1), (1000, 8)),
    "three directions": ((0, 1), (1000, 3)),
    "no b=0": ((1000, 32), (2000, 45)),
    "b=0 alone": ((0, 4),),
}


@pytest.mark.filterwarnings("ignore:--algorithm changes nothing")
@pytest.mark.parametrize("shells", SCANS.values(), ids=SCANS)
def test_every_choice_of_steps_and_algorithm_has_a_plan_or_one_sentence(shells) -> None:
    scan = unread(*shells)
    refusals: dict[tuple[str, ...], str] = {}
    for steps, algorithm in itertools.product(SUBSETS, ALGORITHMS):
        settings = Settings(steps, response_algorithm=algorithm, mask_method="otsu")
        try:
            plan = make_plan(scan, settings)
        except InputError as error:
            refusals[steps] = str(error)
            continue
        assert set(plan.steps) | set(plan.left_out) == set(STEPS)
        assert not set(plan.steps) & set(plan.left_out)
        assert list(plan.steps) == [step for step in STEPS if step in plan]
        for step in plan.steps:
            assert set(STAGES[step].needs) <= set(plan.steps), f"{step} without what it needs"
        if steps:
            assert set(steps) <= set(plan.steps), "what was named is done, or refused"
            for step in plan.steps:
                assert step in steps or plan.steps[step].needed_by in steps
        for reason in plan.left_out.values():
            assert len(reason) > 10
    assert () not in refusals, "a run that names no step is never refused"
    assert all(text.rstrip().endswith((".", ")")) for text in refusals.values())


@pytest.mark.parametrize(
    ("shells", "left_out"),
    [
        ("three directions", {"dti": "6 distinct directions", "noddi": "two shells", "response": "15 distinct"}),
        ("one shell", {"noddi": "two shells", "kurtosis": "two shells"}),
        ("no b=0", {"noddi": "b=0"}),
        ("b=0 alone", {"dti": "tensor needs volumes", "response": "no weighted volume"}),
    ],
)
def test_what_a_scan_does_not_allow_is_left_out_with_its_reason(shells: str, left_out: dict[str, str]) -> None:
    plan = make_plan(unread(*SCANS[shells]), Settings())
    for step, reason in left_out.items():
        assert reason in plan.left_out[step]
    assert "mask" in plan
    if "response" in left_out:
        assert "response" in plan.left_out["fod"]


def test_what_follows_from_a_step_that_is_left_out_says_which() -> None:
    plan = make_plan(unread(*SCANS["few directions"]), Settings())
    assert plan.left_out["fod"] == "it needs the response, which is left out."
    assert "it needs the fod" in plan.left_out["peaks"]


def test_named_steps_bring_their_predecessors_along_and_the_plan_says_so() -> None:
    plan = make_plan(unread(*SCANS["one shell"]), Settings(("peaks",)))
    assert list(plan.steps) == ["mask", "response", "fod", "peaks"]
    assert "response was not named and is done because peaks needs it" in plan.sentences
    assert plan.left_out["denoise"].startswith(NOT_ASKED)
    assert plan.insists_on("mask")


def test_a_named_denoising_method_brings_the_step_along() -> None:
    assert "denoise" in make_plan(unread(*SCANS["one shell"]), Settings(("dti",), denoise_method="mppca"))
    assert "denoise" not in make_plan(unread(*SCANS["one shell"]), Settings(("dti",)))


def test_a_named_step_that_the_scan_does_not_allow_is_refused_with_what_stands_in_its_way() -> None:
    with pytest.raises(NotApplicable, match="two shells"):
        make_plan(unread(*SCANS["one shell"]), Settings(("noddi",)))
    with pytest.raises(InputError, match=r"peaks needs response, which cannot be done.*15 distinct"):
        make_plan(unread(*SCANS["three directions"]), Settings(("peaks",)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": ("spaghetti",)}, "spaghetti.*expected some of denoise, mask"),
        ({"denoise_method": "nlm"}, "denoising method 'nlm'.*patch2self"),
        ({"mask_method": "bet"}, "mask method 'bet'.*otsu"),
        ({"response_algorithm": "dholander"}, "response algorithm 'dholander'.*dhollander"),
        ({"steps": ("denoise",), "denoise_method": "none"}, "leave out one of them"),
        ({"n_peaks": 0}, "n_peaks = 0"),
    ],
)
def test_a_typo_is_refused_when_the_settings_are_made(options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings(**options)


# --- the run ends as its plan says


@pytest.fixture(scope="module")
def tiny():
    return make_phantom(table((0, 2), (1000, 20), (2000, 20)), shape=(16, 18, 14), voxel_size=11.0, snr=40)


@pytest.fixture(scope="module")
def tiny_on_one_shell():
    return make_phantom(table((0, 2), (1000, 20)), shape=(16, 18, 14), voxel_size=11.0, snr=40)


def as_scan(head) -> tuple[Dwi, VolumeResource]:
    scan = Dwi.from_arrays(head.signal, head.affine, head.gradients)
    return scan, scan.volume.with_array(head.brain_mask.astype(np.uint8))


CHOICES = [
    ((), "auto", "auto"),
    (("denoise",), "auto", "auto"),
    (("mask",), "auto", "auto"),
    (("dti", "peaks"), "tournier", "none"),
    (("noddi",), "dhollander", "mppca"),
    (("response",), "recursive", "none"),
    (("fod",), "ssst", "none"),
    (("fod", "noddi"), "dhollander", "none"),
    (("peaks", "mask"), "auto", "none"),
]


@pytest.mark.filterwarnings("ignore::arcuate.errors.InputWarning")
@pytest.mark.parametrize("head", ["tiny", "tiny_on_one_shell"])
@pytest.mark.parametrize(
    ("steps", "algorithm", "denoise"), CHOICES, ids=lambda c: "-".join(c) if type(c) is tuple else c
)
def test_a_run_ends_as_its_plan_says(head, steps, algorithm, denoise, request, tmp_path: Path) -> None:
    scan, inside = as_scan(request.getfixturevalue(head))
    ends_as_planned(scan, inside, Settings(steps, denoise, "otsu", algorithm), tmp_path)


@pytest.mark.filterwarnings("ignore::arcuate.errors.InputWarning")
@pytest.mark.parametrize("head", ["tiny", "tiny_on_one_shell"])
@pytest.mark.parametrize("n_runs", [8, pytest.param(None, marks=pytest.mark.long)])  # of 10,240 choices, or all
def test_runs_of_any_steps_and_algorithm_into_one_folder_end_as_planned(head, n_runs, request, tmp_path: Path) -> None:
    scan, inside = as_scan(request.getfixturevalue(head))
    choices = list(itertools.product(SUBSETS, ALGORITHMS))
    with Cache(tmp_path / "cache"):
        for i in np.random.default_rng(0).permutation(len(choices))[:n_runs]:
            steps, algorithm = choices[i]
            denoise = "patch2self" if "denoise" in steps else "none"
            ends_as_planned(scan, inside, Settings(steps, denoise, "otsu", algorithm), tmp_path / "out")


def ends_as_planned(scan: Dwi, inside: VolumeResource, settings: Settings, out: Path) -> None:
    """A run does what its plan says, and list and folder hold what it wrote, whatever was there before."""
    names = Derivatives(out, "sub-1")
    before = files_in(out)
    try:
        plan = make_plan(scan, settings, inside)
    except (InputError, MissingExtraError) as refused:
        with pytest.raises(type(refused), match=re.escape(str(refused))):
            run_subject(scan, names, inputs={}, mask=inside, settings=settings)
        assert files_in(out) == before, "nothing is written by a run that is refused"
        return
    try:
        run = run_subject(scan, names, inputs={}, mask=inside, settings=settings)
    except NotApplicable:  # the data, not the gradients, stood in the way of a step that was named
        assert settings.steps
        return
    record = read_record(names)
    assert record is not None
    assert record.is_finished
    done = [stage.name for stage in run.log.stages if stage.skipped is None]
    late = [stage.name for stage in run.log.stages if stage.skipped is not None and stage.name in plan]
    assert done == [step for step in plan.steps if step not in late]
    assert list(record.steps) == done
    assert set(record.left_out) == set(STEPS) - set(done)
    on_disk = {name for name in files_in(out) if name.startswith("sub-1/")}
    assert on_disk == {file.path for file in record.files} | {"sub-1/dwi/sub-1_run.json"}, settings
    for file in record.files:
        if file.role != "sidecar":
            assert file.path.removeprefix("sub-1/dwi/sub-1_") in FILES[file.step]
        assert file.role in {"timings"} or len(file.sha256 or "") == 64


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("set_", "told"),
    [
        ({"robust": True}, "--robust changes nothing: it is for the step dti"),
        ({"wmti": True}, "--wmti .* kurtosis"),
        ({"response_algorithm": "tournier"}, "--algorithm .* response"),
        ({"second_pass": False}, "--second-pass .* fod"),
    ],
)
def test_an_option_of_a_step_that_was_not_named_is_told_to_change_nothing(set_: dict, told: str) -> None:
    scan = unread(*SCANS["two shells"])
    with pytest.warns(InputWarning, match=told):
        make_plan(scan, Settings(steps=("mask", "noddi"), mask_method="otsu", **set_))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_plan(scan, Settings(mask_method="otsu", **set_))
