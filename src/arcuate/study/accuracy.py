"""What a run found on the phantom, against the truth that made its signals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from arcuate.noddi import Noddi
    from arcuate.phantom import Phantom
    from arcuate.study.result import SubjectResult


@dataclass(frozen=True)
class Error:
    """One comparison with the truth."""

    stage: str
    what: str
    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.value:.4g} {self.unit}".rstrip()


def errors_against_truth(run: SubjectResult, phantom: Phantom) -> list[Error]:
    """Errors of every map of a run on the phantom, white and grey matter apart where the truth differs there."""
    found: list[Error] = []
    inside = phantom.brain_mask
    white = phantom.is_single_fibre & inside
    grey = (phantom.tissue[..., 1] > 0.9) & inside
    if run.mask is not None:
        mask = np.asarray(run.mask.get_array()) > 0
        found.append(Error("mask", "Dice", 2 * float((mask & inside).sum()) / float(mask.sum() + inside.sum()), ""))
        white, grey = white & mask, grey & mask
    if run.denoised is not None:
        found += _denoising(run, phantom, white)
    if run.dti is not None:
        found += _tensor(run, phantom, white)
    if run.kurtosis is not None:
        fa, md = (volume.get_array() for volume in run.kurtosis.get_fa_md())
        found += [
            Error("kurtosis", "FA, white matter", mean_error(fa, phantom.fa, white), ""),
            Error("kurtosis", "MD, white matter", mean_error(md, phantom.md, white) * 1e3, "µm²/ms"),
        ]
    if run.noddi is not None:
        found += _noddi(run.noddi, phantom, {"white": white, "grey": grey})
    if run.peaks is not None:
        found += _peaks(run, phantom, white)
    return found


def angles(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Angles in degrees between axes (n, 3), sign ignored; 90 where one of them is zero."""
    lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(truth, axis=-1)
    cosine = np.abs(np.sum(found * truth, axis=-1)) / np.where(lengths > 0, lengths, 1)
    return np.degrees(np.arccos(np.clip(cosine, 0, 1)))


def mean_error(found: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    """Mean absolute difference over a region."""
    return float(np.abs(found[where].astype(np.float64) - truth[where]).mean())


def _denoising(run: SubjectResult, phantom: Phantom, white: np.ndarray) -> list[Error]:
    assert run.denoised is not None
    noise_free = phantom.noise_free_rows(white)
    rows = np.asarray(run.denoised.volume.get_array())[white]
    rms = float(np.sqrt(np.mean((rows - noise_free) ** 2)))
    return [Error("denoise", "RMSE / σ, white matter", rms / phantom.sigma, "")] if phantom.sigma else []


def _tensor(run: SubjectResult, phantom: Phantom, white: np.ndarray) -> list[Error]:
    assert run.dti is not None
    fa, md = (volume.get_array() for volume in run.dti.get_fa_md())
    first = run.dti.get_eig()[1].get_array()[..., :3]
    angle = angles(first[white], phantom.directions[..., 0, :][white])
    return [
        Error("dti", "FA, white matter", mean_error(fa, phantom.fa, white), ""),
        Error("dti", "MD, white matter", mean_error(md, phantom.md, white) * 1e3, "µm²/ms"),
        Error("dti", "V1, one fibre (median)", float(np.median(angle)), "°"),
    ]


def _noddi(noddi: Noddi, phantom: Phantom, regions: dict[str, np.ndarray]) -> list[Error]:
    errors = []
    for name, found, truth in (
        ("NDI", noddi.ndi, phantom.ndi),
        ("ODI", noddi.odi, phantom.odi),
        ("FWF", noddi.fwf, phantom.fwf),
    ):
        for region, where in regions.items():
            if where.any():
                error = mean_error(np.asarray(found.get_array()), truth, where)
                errors.append(Error("noddi", f"{name}, {region} matter", error, ""))
    return errors


def _peaks(run: SubjectResult, phantom: Phantom, white: np.ndarray) -> list[Error]:
    assert run.peaks is not None
    first = np.asarray(run.peaks[0].get_array())[..., 0, :]
    crossing = phantom.is_crossing & phantom.brain_mask
    errors = []
    for name, where in (("one fibre", white), ("crossing", crossing)):
        if where.any():
            # a crossing's strongest population may be a near tie: the nearest of the true directions counts
            truths = phantom.directions[where]
            nearest = np.min([angles(first[where], truths[:, k]) for k in range(truths.shape[1])], axis=0)
            errors.append(Error("peaks", f"first peak, {name} (median)", float(np.median(nearest)), "°"))
    return errors
