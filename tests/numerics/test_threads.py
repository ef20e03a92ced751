"""Threads are as many as were asked for, everywhere, and a fork neither hangs nor ends a process that computes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from arcuate.errors import InputError
from arcuate.numerics.threads import available_threads, in_order, n_threads, set_threads

FORK = """
import multiprocessing, sys
import numpy as np
from arcuate.models.tensor import fit_tensor
from arcuate.gradients import GradientTable

rng = np.random.default_rng(0)
directions = rng.normal(size=(12, 3))
directions /= np.linalg.norm(directions, axis=1, keepdims=True)
table = GradientTable(np.r_[0.0, np.full(12, 1000.0)], np.r_[[[0.0, 0, 0]], directions])
rows = 100 * np.exp(-table.bvals * 1e-3) + rng.normal(size=(500, 13))

def job(_):
    from arcuate.numerics.threads import n_threads
    return fit_tensor(rows, table).tensors.tobytes(), n_threads()

if __name__ == "__main__":
    expected, threads = job(0)
{work}
    assert all(found == (expected, threads) for found in results), [n for _, n in results]
    print("done", len(results))
"""
POOLS = {
    "multiprocessing.Pool": """
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = pool.map(job, range(6))
""",
    "a pool in a forked process": """
    with multiprocessing.get_context("fork").Pool(1) as pool:
        results = [pool.apply(job, (0,))]
    import concurrent.futures
    fork = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as pool:
        results += list(pool.map(job, range(2)))
""",
    "joblib": """
    import joblib
    results = joblib.Parallel(n_jobs=2, backend="multiprocessing")(joblib.delayed(job)(i) for i in range(4))
""",
}


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"NUMBA_NUM_THREADS": "2"} | variables
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.parametrize("pool", POOLS)
def test_kernels_work_in_a_process_that_was_forked_after_they_were_used(pool: str) -> None:
    if pool == "joblib":
        pytest.importorskip("joblib")
    done = run(FORK.replace("{work}", POOLS[pool]))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("done")
    assert "thread" not in done.stderr


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    if available_threads() < 2:
        pytest.skip("one processor")
    monkeypatch.setattr("arcuate.numerics.threads._asked_for", [2])


@pytest.mark.usefixtures("two_threads")
def test_loops_on_threads_give_results_in_order_and_take_few_items_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    results = in_order(lambda i: (i, threading.current_thread().name), items())
    first = next(results)
    assert len(taken) <= 8
    found = [first, *results]
    assert [i for i, _ in found] == list(range(100))
    assert {name for _, name in found} <= {"arcuate_0", "arcuate_1"}


@pytest.mark.usefixtures("two_threads")
def test_a_loop_within_a_loop_stays_on_its_thread_and_one_of_a_single_item_does_not_count() -> None:
    def inner(_: int) -> tuple[int, set[str]]:
        return n_threads(), set(in_order(lambda _: threading.current_thread().name, range(5)))

    for threads, names in in_order(inner, range(6)):
        assert threads == 1
        assert len(names) == 1
    (alone,) = in_order(inner, range(1))
    assert alone[0] == 2
    assert alone[1] <= {"arcuate_0", "arcuate_1"}


@pytest.mark.usefixtures("two_threads")
def test_nothing_of_a_loop_that_failed_or_was_left_runs_on() -> None:
    running: set[int] = set()

    def work(i: int) -> int:
        running.add(i)
        time.sleep(0.01)
        running.discard(i)
        if i == 3:
            raise ValueError("the third")
        return i

    with pytest.raises(ValueError, match="the third"):
        list(in_order(work, range(50)))
    assert not running
    left = in_order(work, range(50))
    next(left)
    left.close()
    assert not running


INTERRUPTED = """
import threading
from arcuate.numerics.threads import in_order
started = threading.Thread.start
def start(self):
    started(self)
    if threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt  # as Ctrl-C does while the main thread waits for a thread to run
threading.Thread.start = start
try:
    print(list(in_order(abs, range(20))))
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.skipif(available_threads() < 2, reason="one core has no threads to start")
def test_an_interrupt_while_threads_are_started_does_not_keep_the_process_from_ending() -> None:
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "stopped\n"


@pytest.mark.usefixtures("two_threads")
def test_two_loops_at_once_get_on_in_turns() -> None:
    """A page reads its maps while a step computes for long."""
    is_read = threading.Event()
    n_done = 0

    def wait(_: int) -> None:
        nonlocal n_done
        n_done += 1
        is_read.wait(0.02)

    def read() -> None:
        list(in_order(abs, range(4)))
        is_read.set()

    step = in_order(wait, range(1000))
    next(step)
    reader = threading.Thread(target=read)
    reader.start()
    for _ in step:
        if is_read.is_set():
            break
    reader.join()
    assert n_done < 100
    step.close()


THREADS = """
import warnings, os
import numpy, scipy.linalg
from threadpoolctl import threadpool_info
from arcuate.numerics.threads import n_threads, set_threads
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    set_threads({n})
blas = max(i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas")
print(n_threads(), blas, os.environ["OMP_NUM_THREADS"], "|", *(str(w.message) for w in caught))
"""


@pytest.mark.parametrize("n", [1, 2, 64])
def test_the_number_of_threads_binds_kernels_blas_compression_and_what_is_loaded_later(n: int) -> None:
    most = min(2, available_threads())
    done = run(THREADS.replace("{n}", str(n)))
    counts, said = done.stdout.split("|")
    assert counts.split() == [str(min(n, most))] * 3, done.stderr
    assert ("64 threads were asked for" in said) == (n == 64)


def test_compression_and_hashing_start_no_more_threads_than_asked_for() -> None:
    code = """
import threading, tempfile
import numpy as np
from arcuate.cache.digests import array_digest
from arcuate.io import NiftiVolumeResource
from arcuate.numerics.threads import set_threads
from arcuate.volumes.resource import InMemoryVolumeResource

most, started = 0, threading.Thread.start
def start(self):
    global most
    started(self)
    most = max(most, threading.active_count())
threading.Thread.start = start
set_threads(1)
array = np.random.default_rng(0).normal(size=(64, 64, 40, 40)).astype(np.float32)
with tempfile.TemporaryDirectory() as folder:
    NiftiVolumeResource.save(InMemoryVolumeResource(array), folder + "/x.nii.gz")
    NiftiVolumeResource(folder + "/x.nii.gz").get_array()
array_digest(array)
print(most)
"""
    assert int(run(code).stdout) == 0  # the main one does it


@pytest.mark.parametrize("n", [0, -1])
def test_no_threads_are_no_number_of_threads(n: int) -> None:
    with pytest.raises(InputError, match="expected 1 or more"):
        set_threads(n)
