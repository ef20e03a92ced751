"""FODs of peers in the accuracy benchmark: MRtrix3's programs, and cs_dmri in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np

from arcuate.gradients import GradientTable
from arcuate.io.responses import write_response
from arcuate.models.response import Response

CS_DMRI = os.environ.get("CS_DMRI_PYTHON", "")  # a Python with cs_dmri, which is no dependency of arcuate
_FIT_BY_CS_DMRI = """
import sys
import nibabel as nib
import numpy as np
import cs_dmri
signals = nib.load("rows.nii").get_fdata(dtype=np.float32)
grad = np.loadtxt("grad.b")
tissues = [cs_dmri.TissueResponse.from_mrtrix_txt(f"{t}.txt") for t in ("wm", "gm", "csf")]
responses = cs_dmri.ResponseSet(*tissues)
table = cs_dmri.GradientTable(grad[:, 3], grad[:, :3])
model = cs_dmri.SS3TModel(table, responses, lmax_wm=8, niter=int(sys.argv[1]))
fit = model.fit(signals, mask=np.ones(signals.shape[:3], bool))
np.savez("cs.npz", wm=fit.wm, gm=fit.gm, csf=fit.csf)
"""


@contextmanager
def peer_folder(signals: np.ndarray, gradients: GradientTable, response: Response) -> Iterator[Path]:
    """A folder with rows.nii, grad.b and the text of each tissue, gone afterwards."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        nib.save(nib.Nifti1Image(signals.reshape(len(signals), 1, 1, -1), np.eye(4)), folder / "rows.nii")
        np.savetxt(folder / "grad.b", gradients.to_mrtrix(), fmt="%.17g")
        write_response(response, folder)
        yield folder


def fit_by_mrtrix(folder: Path, response: Response, tissues: tuple[str, ...], lmax: int) -> np.ndarray:
    """FODs (n, n_coef) of ``dwi2fod msmt_csd`` with some tissues of the response."""
    words = [word for t in tissues for word in (f"{t}.txt", f"{t}.nii")]
    degrees = ",".join(str(lmax if t == tissues[0] else 0) for t in tissues)
    run(folder, "dwi2fod", "msmt_csd", "rows.nii", *words, "-grad", "grad.b", "-lmax", degrees)
    return np.asarray(nib.load(folder / f"{tissues[0]}.nii").get_fdata().reshape(-1, (lmax + 1) * (lmax + 2) // 2))


def fit_soft_by_mrtrix(folder: Path, single: Response, lmax: int) -> np.ndarray:
    """FODs (n, n_coef) of ``dwi2fod csd`` with a response of one tissue on one shell."""
    (folder / "one.txt").write_text(single.to_mrtrix())
    shell = f"{single.shells[0]:.0f}"
    run(folder, "dwi2fod", "csd", "rows.nii", "one.txt", "one.nii", "-grad", "grad.b", "-shells", shell, "-lmax",
        str(lmax))  # fmt: skip
    return np.asarray(nib.load(folder / "one.nii").get_fdata().reshape(-1, (lmax + 1) * (lmax + 2) // 2))


def fit_by_cs_dmri(folder: Path, n_iterations: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """FODs (n, 45), grey matter and fluid (n,) of cs_dmri's SS3T; None where CS_DMRI_PYTHON names no such Python."""
    if not CS_DMRI:
        return None
    subprocess.run([CS_DMRI, "-c", _FIT_BY_CS_DMRI, str(n_iterations)], cwd=folder, check=True, capture_output=True)
    with np.load(folder / "cs.npz") as found:
        n = len(found["wm"])
        return found["wm"].reshape(n, -1), found["gm"].reshape(n), found["csf"].reshape(n)


def has_mrtrix() -> bool:
    """Whether MRtrix3 is installed."""
    return shutil.which("dwi2fod") is not None


def run(folder: Path, *words: str) -> None:
    """One of MRtrix3's commands."""
    subprocess.run([*words, "-quiet", "-force", "-nthreads", "2"], cwd=folder, check=True, capture_output=True)
