"""The command line as a user types it, in this process."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from arcuate.cli import main
from arcuate.dwi import Dwi
from arcuate.gradients import GradientTable


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def arcuate(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run ``arcuate ARGS`` and return exit code, stdout and stderr."""

    def call(*arguments: object) -> Outcome:
        show = warnings.showwarning
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            with pytest.raises(SystemExit) as stop:
                main([str(a) for a in arguments])
        warnings.showwarning = show
        printed = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), printed.out, printed.err)

    return call


def head(n_directions: int = 12, bvals: tuple[float, ...] = (1000.0,), seed: int = 0) -> Dwi:
    """A ball of one prolate tensor in air, 4 mm voxels, one b=0 and ``n_directions`` per shell."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(n_directions, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    all_bvals = np.concatenate([[0.0], np.repeat(bvals, n_directions)])
    all_directions = np.concatenate([np.zeros((1, 3)), np.tile(directions, (len(bvals), 1))])
    gradients = GradientTable(all_bvals, all_directions)
    tensor = np.diag([1.7e-3, 0.3e-3, 0.3e-3])
    signal = 1000 * np.exp(-all_bvals * np.einsum("ij,jk,ik->i", all_directions, tensor, all_directions))
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (30, 34, 28)], indexing="ij")
    inside = x**2 + y**2 + z**2 < 0.7
    image = np.where(inside[..., None], signal, 0.0) + np.abs(rng.normal(0, 5, (*inside.shape, len(signal))))
    affine = np.array([[-4.0, 0, 0, 60], [0, 4, 0, -60], [0, 0, 4, -50], [0, 0, 0, 1]])
    return Dwi.from_arrays(image.astype(np.float32), affine, gradients)


@pytest.fixture
def make_head() -> Callable[..., Dwi]:
    """Maker of small scans, see :func:`head`."""
    return head


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A small scan on disk: path of ``sub-ball_dwi.nii.gz``, gradient files beside it."""
    head().save(tmp_path / "in", basename="sub-ball_dwi")
    return tmp_path / "in" / "sub-ball_dwi.nii.gz"
