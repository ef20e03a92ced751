"""What a run holds in memory: each thing no longer than a later step needs it."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tables import random_table

from arcuate.dwi import Dwi
from arcuate.phantom import make_phantom
from arcuate.study import pipeline
from arcuate.study.bids import Derivatives
from arcuate.study.plan import Settings


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small head of two shells on disk: path of its image, gradient files beside it."""
    folder = tmp_path_factory.mktemp("scan")
    head = make_phantom(random_table((0, 3), (1000, 16), (2500, 20)), shape=(24, 24, 16), voxel_size=8.0, snr=30)
    signal = np.asarray(head.signal, np.float32)
    Dwi.from_arrays(signal, head.affine, head.gradients).save(folder, basename="sub-1_dwi")
    return folder / "sub-1_dwi.nii.gz"


@pytest.mark.filterwarnings("ignore:the responses rest on")  # the head is small
def test_the_voxels_of_the_scan_are_gone_before_the_fods_are_there_twice(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays: list[Any] = []
    is_alive: dict[str, bool] = {}
    normalise, estimate = pipeline.normalised, pipeline._response

    def looked_at(name: str, function: Any) -> Any:
        def call(*args: Any) -> Any:
            gc.collect()
            is_alive[name] = arrays[0]() is not None
            return function(*args)

        return call

    monkeypatch.setattr(pipeline, "_response", looked_at("response", estimate))
    monkeypatch.setattr(pipeline, "normalised", looked_at("normalised", normalise))
    run = pipeline.run_subject(
        Dwi.from_files(scan), Derivatives.of_scan(tmp_path, scan), inputs={"dwi": scan}, keeps_maps=False,
        settings=Settings(steps=("fod",), mask_method="otsu"),
        examine=lambda seen, _: arrays.append(weakref.ref(seen.volume)),
    )  # fmt: skip
    assert "IntensityNormalisation" in run.outputs.record.steps["fod"]
    assert is_alive == {"response": True, "normalised": False}
