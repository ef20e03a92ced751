"""Numbers that move without a new version would let a cache return stale results."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("golden_steps", HERE / "steps.py")
assert _spec is not None
assert _spec.loader is not None
golden = importlib.util.module_from_spec(_spec)
sys.modules["golden_steps"] = golden
_spec.loader.exec_module(golden)

UPDATE = HERE.parents[1] / "scripts" / "update_golden.py"


@pytest.fixture(scope="module")
def context():
    return golden.Context()


@pytest.mark.parametrize("name", golden.STEPS)
def test_the_numbers_of_a_step_move_only_with_its_version(name, context):
    kept = golden.load_kept()
    assert name in kept, f"no numbers of {name} are kept: run scripts/update_golden.py"
    version, arrays = kept[name]
    now = golden.all_steps()[name].version
    assert now == version, (
        f"the version of {name} is {now}, the kept numbers are of {version}: scripts/update_golden.py"
    )
    found = dict(golden.arrays_of(golden.STEPS[name](context)))
    moved = golden.differences(found, arrays)
    assert not moved, f"numbers of {name} moved and its version did not; raise it beside the step. {'; '.join(moved)}"


def test_every_step_has_golden_numbers_or_a_reason():
    missing = golden.all_steps().keys() - golden.STEPS.keys() - golden.LEFT_OUT.keys()
    assert not missing, f"add them to tests/golden/steps.py: {sorted(missing)}"


def test_every_step_of_arcuate_has_a_version_beside_its_definition():
    assert all(isinstance(step.version, int) for step in golden.all_steps().values())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda a: a, []),
        (lambda a: a * (1 + 1e-7), []),
        (lambda a: a * (1 + 1e-3), ["moved"]),
        (lambda a: np.where(np.arange(len(a)) % 50 == 0, a + 1, a), ["2.0% of the values moved"]),
        (lambda a: a[:-1], ["another size"]),
        (lambda a: np.full_like(a, np.nan), ["moved"]),
    ],
    ids=["same", "rounding", "all", "some", "fewer", "nan"],
)
def test_a_move_of_the_numbers_is_told_from_rounding(change, expected):
    old = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    with np.errstate(all="ignore"):
        lines = golden.differences({"a": change(old.astype(float))}, {"a": old})
    assert len(lines) == len(expected)
    assert all(text in line for text, line in zip(expected, lines, strict=True))
    assert golden.differences({"b": old}, {"a": old}) == ["a is gone", "b is new"]


def test_the_update_refuses_numbers_that_moved_under_an_old_version(tmp_path):
    """The script on a copy of the kept numbers, one of which was changed."""
    kept = golden.load_kept()
    name = next(iter(golden.STEPS))
    version, arrays = kept[name]
    part = next(iter(arrays))
    altered = {**kept, name: (version, {**arrays, part: arrays[part] * 1.01})}
    original = golden.KEPT
    try:
        golden.KEPT = tmp_path / "steps.npz"
        golden.save_kept(altered)
    finally:
        golden.KEPT = original
    before = (tmp_path / "steps.npz").read_bytes()
    command = [sys.executable, str(UPDATE), "--file", str(tmp_path / "steps.npz"), "--only", name]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert f"{name}: numbers moved, its version is still {version}" in run.stderr
    assert (tmp_path / "steps.npz").read_bytes() == before
