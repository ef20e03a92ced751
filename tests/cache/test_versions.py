"""Another version of a step, or of a step that it calls, is another step."""

from __future__ import annotations

import dis
import importlib
import importlib.util
import inspect
import pkgutil
from pathlib import Path

import pytest

import arcuate
from arcuate.cache import Cache, CacheWarning, cacheable
from arcuate.cache.step import Step
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

    @cacheable(version=1, calls=(low,))
    def middle(x: int) -> int:
        return 10 * low(x)

    @cacheable(version=1, calls=(middle,))
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


def test_a_step_that_calls_one_that_it_does_not_declare_is_not_kept_and_told(folder):
    @cacheable(version=1)
    def inner(x: int) -> int:
        return x

    @cacheable(version=1)
    def outer(x: int) -> int:
        CALLS.append("outer")
        return inner(x)

    with Cache(folder) as cache:
        for _ in range(2):
            with pytest.warns(CacheWarning, match=r"outer was not kept: it calls inner; name them: .*calls="):
                assert outer(1) == 1
        assert cache.status([outer, inner]) == {"outer": False, "inner": True}
        assert [(call.step, call.within) for call in cache.calls][:2] == [("inner", "outer"), ("outer", None)]
    assert len(CALLS) == 2


def _names_of_steps() -> dict[str, Step]:
    """Every step of arcuate's, by the name that its module gives it."""
    steps: dict[str, Step] = {}
    for found in pkgutil.walk_packages(arcuate.__path__, "arcuate."):
        path = Path(importlib.util.find_spec(found.name).origin)
        if "@cacheable(" in path.read_text() and "arcuate.cache" not in found.name:
            for value in vars(importlib.import_module(found.name)).values():
                owned = [value, *vars(value).values()] if inspect.isclass(value) else [value]
                for one in owned:
                    step = getattr(getattr(one, "__func__", one), "step", None)
                    if isinstance(step, Step):
                        steps[step.identity] = step
    return steps


def test_the_calls_that_steps_declare_are_those_that_they_make():
    steps = _names_of_steps()
    assert len(steps) >= 10
    homes = {step.function.__code__: step for step in steps.values()}

    def reached(function: object, seen: set[object]) -> set[str]:
        """Steps that the code of a function names, also through plain functions of arcuate."""
        code, scope = function.__code__, function.__globals__
        if code in seen:
            return set()
        seen.add(code)
        names, found = set(), set()
        todo = [code]
        while todo:
            one = todo.pop()
            names |= {i.argval for i in dis.get_instructions(one) if i.opname == "LOAD_GLOBAL"}
            todo += [c for c in one.co_consts if inspect.iscode(c)]
        for name in names:
            value = inspect.unwrap(scope[name]) if callable(scope.get(name)) else None
            if not inspect.isfunction(value) or not value.__module__.startswith("arcuate."):
                continue
            if value.__code__ in homes:
                found.add(homes[value.__code__].identity)
            else:
                found |= reached(value, seen)
        return found

    for step in steps.values():
        declared = {called.identity for called in step.calls}
        assert reached(step.function, set()) == declared, step.identity
    assert any(step.calls for step in steps.values())


def test_without_a_version_an_edited_function_computes_again(folder):
    def make(body: str):
        scope: dict = {"CALLS": CALLS}
        exec(f"def step(x):\n    CALLS.append('step')\n    return {body}", scope)
        return cacheable(scope["step"])

    with Cache(folder):
        assert [make("x + 1")(1), make("x + 1")(1), make("x + 2")(1)] == [2, 2, 3]
    assert len(CALLS) == 2
