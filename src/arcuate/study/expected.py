"""How long a run will take, guessed from its plan and corrected by what its stages took so far."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from arcuate.numerics.threads import n_threads

if TYPE_CHECKING:
    from arcuate.study.plan import Plan
    from arcuate.study.stages import Loop
    from arcuate.volumes.resource import VolumeResource

CHECKS, REPORT = "checks", "report"
# Microseconds per voxel of a brain on two threads, kernels compiled: benchmarks/results/run.md, kurtosis.md, denoise.md
_COST = {"denoise": 59.0, "mask": 8.0, "dti": 2.2, "kurtosis": 22.0, "freewater": 200.0, "noddi": 65.0,
         "response": 17.0, "fod": 146.0, "peaks": 3.3, "tracts": 300.0, CHECKS: 20.0, REPORT: 15.0}  # fmt: skip
# Seconds whatever the size: imports, files and their digests; two slices of a head take little more.
_FIXED = {"denoise": 0.5, "mask": 0.3, "dti": 0.3, "kurtosis": 0.5, "freewater": 0.5, "noddi": 0.5, "response": 0.8,
          "fod": 1.5, "peaks": 0.2, "tracts": 10.0, CHECKS: 0.2, REPORT: 2.0}  # fmt: skip
_NETWORK = 45.0  # seconds of a mask by HD-BET on two threads, whatever the size: benchmarks/results/hdbet.md
_BRAIN = 0.18  # part of an image that is brain, where no mask was given
_MOST_OFF = 6.0  # times that a guess is corrected by at most
_LOOP_FROM = 0.3  # seconds after which a loop is believed
_MAIN_LOOP = 0.4  # of the seconds of a stage: a loop that takes more tells how long the stage takes


def expected_seconds(
    plan: Plan, volume: VolumeResource, mask: VolumeResource | None, out: Path, *, with_report: bool
) -> dict[str, float]:
    """Seconds that each stage of a run may take, by its name; compiling comes on top.

    Where another run in ``out`` noted its seconds they are taken, because scans of one study are alike.
    """
    stages = list(plan.steps)
    if with_report:  # the checks come where the scan is in memory as it was given
        stages += [REPORT] if "denoise" in plan else [CHECKS, REPORT]
    n = int(np.prod(volume.shape[:3]) * _BRAIN) if mask is None else int(np.count_nonzero(mask.get_array()))
    share = 2 / n_threads()
    guess = {stage: _FIXED.get(stage, 0.2) + 1e-6 * _COST.get(stage, 10.0) * n * share for stage in stages}
    if "mask" in plan and plan.how("mask") == "hdbet":
        guess["mask"] += _NETWORK * share
    earlier = _earlier(out)
    return {stage: earlier.get(stage, seconds) for stage, seconds in guess.items()}


def _earlier(out: Path) -> dict[str, float]:
    """What the stages of the last run in ``out`` took; those that a cache answered say nothing."""
    found = sorted(out.glob("sub-*/**/dwi/*_timings.json"), key=lambda path: path.stat().st_mtime)
    for path in reversed(found[-20:]):
        try:
            seconds = json.loads(path.read_text(encoding="utf-8"))
            return {name: float(value) for name, value in seconds.items() if float(value) > 0.5}
        except (OSError, ValueError, AttributeError, TypeError):
            continue
    return {}


class Forecast:
    """What is done of a run, and how long the rest may take.

    Parameters
    ----------
    expected : seconds by stage, in the order of the run

    Notes
    -----
    Per cent are those of the time: what was computed until now, of that and what is thought to be left. A guess is
    multiplied by the pace of the stages that ended, (their seconds + w) / (their guesses + w), where w is 1 s and a
    tenth of the run: a quick stage that took three times its guess says little about a slow one. Once a loop that
    makes up a good part of its stage has begun, the voxels that it has done say how long the stage takes.
    """

    def __init__(self, expected: Mapping[str, float]) -> None:
        self._expected = dict(expected)
        self._done: dict[str, float] = {}
        self._of_loop: dict[str, float] = {}  # seconds of a stage as the last of its main loops told

    def __contains__(self, stage: str) -> bool:
        """Whether there is a guess for the stage."""
        return stage in self._expected

    def note(self, stage: str, seconds: float) -> None:
        """A stage ended after so many seconds (0 where it was left out)."""
        self._done[stage] = seconds

    def of_stage(self, stage: str, seconds: float, loop: Loop | None = None) -> tuple[float, float]:
        """Part done, 0 to 1, and seconds left of a stage that has run so long; a guess grows once it was passed.

        Parameters
        ----------
        loop : what the loop that runs in it tells of itself
        """
        guess = self._expected.get(stage, 1.0) * self._pace
        if loop is not None and seconds - loop.seconds > _LOOP_FROM:
            of_loop = loop.expected(seconds)
            if of_loop > _MAIN_LOOP * guess:
                self._of_loop[stage] = loop.seconds + of_loop
            elif loop.seconds + of_loop > guess:
                guess = loop.seconds + of_loop
        expected = max(self._of_loop.get(stage, guess), seconds * 1.05, 0.1)
        return seconds / expected, expected - seconds

    def of_run(self, stage: str = "", seconds: float = 0.0, loop: Loop | None = None) -> tuple[float, float]:
        """Part done, 0 to 1, and seconds left of the whole run, in whose ``stage`` it is for so long."""
        passed = sum(seconds for name, seconds in self._done.items() if name in self._expected)
        left = sum(self._expected[name] for name in self._open(stage)) * self._pace
        if stage in self._expected:
            passed, left = passed + seconds, left + self.of_stage(stage, seconds, loop)[1]
        return (passed / (passed + left) if left else 1.0), left

    def _open(self, stage: str) -> Iterable[str]:
        return (name for name in self._expected if name not in self._done and name != stage)

    @property
    def _pace(self) -> float:
        """Times that stages take as long as was expected; those that were kept from before say nothing."""
        told = {**self._of_loop, **self._done}
        pairs = [(s, self._expected[n]) for n, s in told.items() if n in self._expected]
        pairs = [(seconds, expected) for seconds, expected in pairs if seconds > 0.05 * expected]
        weight = 1.0 + 0.1 * sum(self._expected.values())
        pace = (sum(s for s, _ in pairs) + weight) / (sum(e for _, e in pairs) + weight)
        return float(np.clip(pace, 1 / _MOST_OFF, _MOST_OFF))


def in_words(seconds: float) -> str:
    """Seconds as people say them: ``45 s``, ``3 min``, ``1 h 20 min``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
