"""Scans of every sort through response, FOD and NODDI: a result or one sentence, soon, and nothing else."""

from __future__ import annotations

import importlib.util
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcuate.csd import ALGORITHMS, estimate_fods, estimate_response_function
from arcuate.errors import InputError, InputWarning
from arcuate.noddi import Noddi

_spec = importlib.util.spec_from_file_location("random_scans", Path(__file__).with_name("random_scans.py"))
assert _spec is not None
assert _spec.loader is not None
random_scans = importlib.util.module_from_spec(_spec)
sys.modules["random_scans"] = random_scans  # its dataclass looks for its own module
_spec.loader.exec_module(random_scans)

SECONDS = (
    600  # for one step of one scan, the first compilation of its kernels included; a small part of a second is the rule
)


@contextmanager
def time_limit(seconds: int, what: str) -> Iterator[None]:
    """TimeoutError in the block after so many seconds."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"no end after {seconds} s: {what}")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _try(step: Callable[..., Any], *arguments: Any, about: str, **options: Any) -> Any:
    """What the step gives, or None where it refuses in one line; any other exception, and any delay, is a failure."""
    with time_limit(SECONDS, f"{step.__name__}, {about}"), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", InputWarning)
        try:
            return step(*arguments, **options)
        except InputError as error:
            text = str(error)
            assert "\n" not in text, about
            assert text.endswith("."), (about, text)
            assert len(text) < 600, (about, text)
            assert "nan" not in text.replace("finance", ""), (about, text)
            return None
        except TimeoutError:
            raise
        except Exception as error:
            raise AssertionError(f"{step.__name__}: {type(error).__name__}: {error}; {about}") from error


def _go_through(scan: Any, seed: int) -> dict[str, bool]:
    """Each step of a run in its order, and which of them gave a result."""
    # the plan of a run, once there is one, comes first: what it promises must be what the steps below give
    rng, about = np.random.default_rng(seed), scan.about
    named = str(rng.choice(ALGORITHMS))
    response = _try(estimate_response_function, scan.dwi, scan.mask, about=about)
    by_name = _try(estimate_response_function, scan.dwi, scan.mask, named, about=f"{named}, {about}")
    fods = None
    for found in (response, by_name):
        if found is None:
            continue
        assert all(np.isfinite(table).all() for table in found.coefs), about
        fods = _try(estimate_fods, scan.dwi, scan.mask, found, about=about)
        for volume in fods.volumes.values() if fods else ():
            assert np.isfinite(volume.get_array()).all(), about
    noddi = _try(Noddi.estimate_noddi, scan.dwi, scan.mask, about=about)
    if noddi is not None:
        for volume in (noddi.ndi, noddi.odi, noddi.fwf):
            values = volume.get_array()
            assert np.isfinite(values).all(), about
            assert values.min() >= 0, about
            assert values.max() <= 1 + 1e-6, about
    return {"response": response is not None, "fod": fods is not None, "noddi": noddi is not None}


def test_200_random_scans_give_a_result_or_one_sentence() -> None:
    _walk(range(200))


@pytest.mark.long
def test_2000_random_scans_give_a_result_or_one_sentence() -> None:
    _walk(range(1000, 3000))


def _walk(seeds: range) -> None:
    done = [_go_through(random_scans.draw_scan(seed), seed) for seed in seeds]
    for step in ("response", "fod", "noddi"):  # a fuzz in which everything is refused tests nothing
        assert sum(one[step] for one in done) > 0.3 * len(done), step
