"""Another version of a step, or of a step that it calls, is another step."""

from __future__ import annotations

import subprocess
import sys

import pytest

from arcuate.cache import Cache, cacheable
from arcuate.cache.store import Store
from arcuate.cache.upkeep import explain
from arcuate.volumes.resource import VolumeResource

CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    CALLS.clear()


def test_another_version_computes_again_and_the_former_stays(volume, folder):
    def make(version: int):
        def step(volume: VolumeResource) -> int:
            CALLS.append("step")
            return version

        return cacheable(version=version)(step)

    with Cache(folder):
        assert [make(v)(volume) for v in (1, 2, 1, 2)] == [1, 2, 1, 2]
    assert len(CALLS) == 2


def make_steps(version: int):
    """An outer step, one that it calls, and one that this calls in turn, which has the version."""

    def lowest(x: int) -> int:
        CALLS.append("lowest")
        return x + version

    low = cacheable(version=version)(lowest)

    @cacheable(version=1)
    def middle(x: int) -> int:
        return 10 * low(x)

    @cacheable(version=1)
    def outer(x: int) -> int:
        return 1000 + middle(x)

    return outer, middle, low


def test_another_version_of_a_step_that_it_calls_computes_a_step_again(folder):
    outer, _, _ = make_steps(1)
    with Cache(folder):
        assert [outer(1), outer(1)] == [1020, 1020]
    outer, middle, low = make_steps(2)
    with Cache(folder) as cache:
        assert cache.status([outer, middle, low]) == {"outer": False, "middle": False, "lowest": False}
        assert outer(1) == 1030
        assert not any(call.was_cached for call in cache.calls)
        assert outer(1) == 1030
        assert cache.calls[-1].was_cached
    assert "lowest, which it calls, had version 1 and has version 2 now" in "\n".join(explain(Store(folder), "outer"))
    assert len(CALLS) == 2


def test_steps_within_a_kept_one_count_too(folder):
    _, middle, _ = make_steps(1)
    with Cache(folder):
        middle(1)  # kept before the outer one meets it
    outer, _, _ = make_steps(1)
    with Cache(folder):
        assert outer(1) == 1020
    outer, _, _ = make_steps(2)
    with Cache(folder):
        assert outer(1) == 1030


def test_a_step_of_arcuate_that_was_not_imported_is_looked_up(tmp_path):
    code = f"""
import sys
from arcuate.cache import Cache, cacheable

@cacheable(version=1)
def outer(x: int) -> int:
    if not {{found}}:
        from arcuate.csd import find_fod_peaks
        import numpy as np
        from arcuate.volumes.resource import InMemoryVolumeResource
        find_fod_peaks(InMemoryVolumeResource(np.ones((2, 2, 2, 6), np.float32)))
    return x

with Cache({str(tmp_path / "cache")!r}) as cache:
    outer(1)
    print(cache.calls[-1].was_cached)
"""
    script = tmp_path / "script.py"
    said = []
    for found in (False, True):
        script.write_text(code.replace("{found}", str(found)))
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
        said.append(done.stdout.strip())
    assert said == ["False", "True"]


def test_without_a_version_an_edited_function_computes_again(folder):
    def make(body: str):
        scope: dict = {"CALLS": CALLS}
        exec(f"def step(x):\n    CALLS.append('step')\n    return {body}", scope)
        return cacheable(scope["step"])

    with Cache(folder):
        assert [make("x + 1")(1), make("x + 1")(1), make("x + 2")(1)] == [2, 2, 3]
    assert len(CALLS) == 2
