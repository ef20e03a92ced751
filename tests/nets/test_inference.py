"""Networks run with denormal numbers flushed, in every thread that computes, and leave nothing of it behind."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from arcuate.nets.bundles import CroppedHead, run_network
from arcuate.nets.inference import infers
from arcuate.nets.unet import load_unet, weight_shapes

torch = pytest.importorskip("torch")
TINY = 1e-38  # times 1e-5 it is denormal


def _denormals_left() -> int:
    """Products that stay denormal, of numbers enough for all of torch's threads."""
    return int((torch.full((2_000_000,), TINY) * 1e-5 != 0).sum())


def test_denormals_are_flushed_in_all_threads_and_stay_outside() -> None:
    before = _denormals_left()  # torch's workers are there already
    assert before == 2_000_000
    assert infers(_denormals_left)() == 0
    assert _denormals_left() == before


def test_a_network_whose_weights_make_denormals_flushes_them(tmp_path: Path) -> None:
    if not torch.set_flush_denormal(False):
        pytest.skip("the processor cannot flush denormal numbers")
    rng = torch.Generator().manual_seed(0)
    state = {name: torch.randn(shape, generator=rng) * 0.1 for name, shape in weight_shapes(3, 2).items()}
    state["conv_5.weight"] *= 0
    state["output_3.weight"] *= 0
    state["output_2.weight"] *= 1e-39
    for name in ("conv_5.bias", "output_3.bias", "output_2.bias"):
        state[name] *= 0
    path = tmp_path / "weights.npz"
    torch.save({"unet": state}, path)
    unet = load_unet(path, 3, has_sigmoid=False)
    slices = np.random.default_rng(0).normal(size=(1, 9, 144, 144)).astype(np.float32)
    assert np.count_nonzero(unet(slices).numpy()) > 0
    assert np.count_nonzero(infers(unet)(slices).numpy()) == 0


def test_flushing_moves_no_result_that_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(1)
    path = tmp_path / "weights.npz"
    torch.save({"unet": {n: torch.randn(s, generator=rng) * 0.1 for n, s in weight_shapes(2, 2).items()}}, path)
    unet = load_unet(path, 2)
    peaks = np.random.default_rng(0).normal(size=(6, 5, 4, 9)).astype(np.float32)
    head = CroppedHead.of(peaks, (2.5, 2.5, 2.5))
    assert head is not None
    flushed, _ = run_network(head, unet)
    plain, _ = run_network.__wrapped__(head, unet)
    np.testing.assert_allclose(flushed, plain, atol=1e-6)


def test_errors_and_results_come_back() -> None:
    with pytest.raises(ZeroDivisionError):
        infers(lambda: 1 / 0)()
    assert infers(lambda x, *, y: x + y)(1, y=2) == 3


def test_ctrl_c_is_heard_between_layers() -> None:
    passed = []

    class Slow(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            passed.append(1)
            if len(passed) == 2:
                signal.raise_signal(signal.SIGINT)  # as if typed now: answered by the thread that waits
            time.sleep(0.02)
            return x

    layers = torch.nn.Sequential(*[Slow() for _ in range(500)])
    with pytest.raises(KeyboardInterrupt):
        infers(layers)(torch.zeros(1))
    assert len(passed) < 100
    assert "inference" not in {t.name for t in threading.enumerate()}
    assert _denormals_left() == 2_000_000
