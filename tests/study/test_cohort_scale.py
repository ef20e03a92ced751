"""Ten thousand subjects: found, planned and handed to Dask in a minute, at a constant rate."""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from arcuate.study.bids_index import index_dataset
from arcuate.study.cluster import Placement, open_cluster
from arcuate.study.cohort import CohortOptions, CohortRun, plan_tasks, split_finished
from arcuate.study.cohort_task import Outcome

pytest.importorskip("dask.distributed", reason="the extra [cohort] is not installed")


class _Silent:
    """A listener that counts."""

    n = 0

    def begin(self, n_tasks: int, n_done: int) -> None:
        pass

    def end(self, outcome: Outcome) -> None:
        self.n += 1

    def tick(self) -> None:
        pass


def _empty_files(folder: Path, n: int) -> Path:
    folder.mkdir()
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.10.0"}))
    for i in range(n):
        place = folder / f"sub-{i:05d}" / "dwi"
        place.mkdir(parents=True)
        for ending in ("nii.gz", "bval", "bvec", "json"):
            (place / f"sub-{i:05d}_dwi.{ending}").touch()
    return folder


def _seconds(bids: Path, folder: Path, n: int) -> tuple[float, float]:
    """Processor seconds of this process for finding and planning, and for handing all to workers and taking it back.

    Each task says that its scan has a fault, so that no subject's process is started: what is left is the scheduling.
    """
    options = CohortOptions(folder / "out", folder / "work")
    start = time.process_time()
    tasks = plan_tasks(index_dataset(bids), options)
    left, done = split_finished(tasks, options.out)
    planned = time.process_time() - start
    assert (len(left), len(done)) == (n, 0)
    run = CohortRun([replace(task, problem="empty.") for task in left], options.out, listener := _Silent())
    with open_cluster(Placement("local", 2, 1, None, options.work)) as cluster:
        start = time.process_time()
        run.run([task.name for task in left], cluster, "")
        scheduled = time.process_time() - start
    assert listener.n == n
    assert run.counts == {"failed": n}
    return planned, scheduled


@pytest.mark.long
def test_ten_thousand_subjects_are_found_planned_and_scheduled_in_a_minute(tmp_path: Path) -> None:
    seconds = {}
    for n in (1000, 10_000):
        seconds[n] = _seconds(_empty_files(tmp_path / f"bids{n}", n), tmp_path / str(n), n)
    print(seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert sum(seconds[10_000]) < 60
    assert peak < 2 << 30
    for few, many in zip(seconds[1000], seconds[10_000], strict=True):
        assert many / 10 < 2 * few
