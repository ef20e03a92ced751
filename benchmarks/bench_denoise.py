"""Denoising side by side with DIPY and MRtrix3, and what it does to the error of everything that follows.

usage: python -m benchmarks.bench_denoise [--small] [--write] [--repeats N] [--data FOLDER]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np

from arcuate.csd import compute_csd_peaks, estimate_response_function
from arcuate.dipy import patch2self
from arcuate.dwi import Dwi
from arcuate.models.mppca import fit_mppca
from arcuate.phantom import make_phantom, three_shell_gradients
from arcuate.phantom.image import Phantom
from arcuate.volumes.resource import InMemoryVolumeResource
from benchmarks.side_by_side import alternate, arguments, show, table

SHAPE, SMALL = (96, 96, 60), (48, 48, 30)
DATA = Path(os.environ.get("ARCUATE_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))

PEAK = """
import re, sys, warnings, numpy as np
from pathlib import Path
warnings.simplefilter("ignore")
image, bvals = np.load(sys.argv[1]), np.load(sys.argv[2])
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
{setup}
denoised = {call}
print(peak() / image.nbytes)
"""


def compare_patch2self(phantom: Phantom, repeats: int) -> list[list[str]]:
    """Seconds, and peak memory of a fresh process, against DIPY's default."""
    from dipy.denoise.patch2self import patch2self as peer

    image, bvals = np.asfortranarray(phantom.signal), phantom.bvals
    pair = alternate(lambda: patch2self(image, bvals), lambda: peer(image, bvals), repeats)
    rows = [pair.row(f"Patch2Self, {' x '.join(map(str, image.shape))}, against DIPY's default (version 3)")]
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/image.npy", image)
        np.save(f"{folder}/bvals.npy", bvals)
        peaks = []
        for module in ("arcuate.dipy", "dipy.denoise.patch2self"):
            code = PEAK.format(setup=f"from {module} import patch2self", call="patch2self(image, bvals)")
            files = [f"{folder}/image.npy", f"{folder}/bvals.npy"]
            run = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
            peaks.append(float(run.stdout.split()[-1]))
    return [
        *rows,
        ["its peak memory, in images", f"{peaks[0]:.2f}", f"{peaks[1]:.2f}", f"{peaks[1] / peaks[0]:.1f} x less"],
    ]


def compare_mppca(image: np.ndarray, extents: tuple[str | None, ...], name: str, repeats: int) -> list[list[str]]:
    """Seconds and agreement with dwidenoise, both precisions; its time includes reading and writing the file."""
    rows = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "in.nii")
        for extent in extents:
            lengths = None if extent is None else tuple(int(e) for e in extent.split(","))
            chosen = lengths[0] if lengths is not None and len(lengths) == 1 else lengths
            for precision in ("float64", "float32"):
                files = [str(folder / name) for name in ("in.nii", "out.nii", "n.nii")]
                command = ["dwidenoise", *files[:2], "-noise", files[2]]
                command += ["-nthreads", "2", "-datatype", precision, "-force", "-quiet"]
                command += [] if extent is None else ["-extent", extent]
                pair = alternate(
                    lambda chosen=chosen: fit_mppca(image, extent=chosen),  # type: ignore[misc]
                    lambda command=command: subprocess.run(command, check=True),  # type: ignore[misc]
                    repeats,
                )
                row = pair.row(f"MP-PCA, {name}, patch {extent or 'default'}, against dwidenoise {precision}")
                if precision == "float64":
                    fit = fit_mppca(image, extent=chosen)  # type: ignore[arg-type]
                    agree = _agreement(image, fit.denoised, nib.load(folder / "out.nii").get_fdata())
                    noise = _agreement(image, fit.sigma[..., None], nib.load(folder / "n.nii").get_fdata()[..., None])
                    row[0] += f" ({agree:.2%} of voxels within 1e-3, noise map {noise:.2%})"
                rows.append(row)
    return rows


def _agreement(image: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> float:
    scale = np.sqrt((image.astype(np.float64) ** 2).mean(axis=-1))
    seen = scale > 0  # in the zeros around a masked brain both find zero but for rounding
    return float((np.abs(ours - theirs).max(axis=-1) <= 1e-3 * scale)[seen].mean())


def errors(shape: tuple[int, int, int]) -> list[list[str]]:
    """Error against the noise-free image by shell, of FA, and of the first peak, for several SNR."""
    gradients = three_shell_gradients()
    clean = make_phantom(gradients, shape, snr=None)
    inside = clean.brain_mask
    mask = InMemoryVolumeResource(inside.astype(np.uint8), clean.affine)
    true_fa = _fa(_scan(clean.signal, clean), mask)
    rows = []
    for snr in (10, 20, 30):
        noisy = make_phantom(gradients, shape, snr=snr)
        scan = _scan(noisy.signal, noisy)
        scans = {"noisy": scan, "patch2self": scan.denoise()}
        scans["mppca"] = scan.denoise(method="mppca", mask=mask)
        scans["mppca, Rician bias removed"] = scan.denoise(method="mppca", mask=mask, rician=True)
        for name, result in scans.items():
            error = (result.volume.get_array() - clean.signal)[inside] / noisy.sigma
            by_shell = [np.sqrt((error[:, shell.indices] ** 2).mean()) for shell in gradients.shells if shell.b > 0]
            fa = np.abs(_fa(result, mask) - true_fa)[inside].mean()
            cells = [*(f"{e:.2f}" for e in by_shell), f"{fa:.4f}", *_peak_errors(result, mask, clean)]
            rows.append([str(snr), name, *cells])
    return rows


def _scan(array: np.ndarray, phantom: Phantom) -> Dwi:
    return Dwi.from_arrays(array, phantom.affine, phantom.gradients)


def _fa(scan: Dwi, mask: InMemoryVolumeResource) -> np.ndarray:
    return np.asarray(scan.estimate_dti(mask).get_fa_md()[0].get_array())


def _peak_errors(scan: Dwi, mask: InMemoryVolumeResource, truth: Phantom) -> list[str]:
    """Mean angle of the first peak and the nearest fibre, degrees, where one fibre is and where fibres cross."""
    response = estimate_response_function(scan, mask, "ssst", shell=3500)
    arrows = np.asarray(compute_csd_peaks(scan, mask, response, n_peaks=1)[0].get_array())[..., 0, :]
    cosine = np.abs(np.einsum("xyzi,xyzki->xyzk", arrows, truth.directions)).max(axis=-1)
    angle = np.degrees(np.arccos(np.clip(cosine, 0, 1)))
    white = truth.brain_mask & (truth.tissue[..., 0] > 0.7)
    return [f"{angle[white & chosen].mean():.2f}" for chosen in (truth.n_fibres == 1, truth.n_fibres >= 2)]


def main() -> None:
    """Print the tables."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the real scans")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    shape = SMALL if given.small else SHAPE
    phantom = make_phantom(three_shell_gradients(), shape)
    rows = compare_patch2self(phantom, 1 if not given.small else given.repeats)
    if shutil.which("dwidenoise"):
        middle = tuple(slice(n // 2 - 7, n // 2 + 8) for n in shape)
        block = np.asfortranarray(phantom.signal[middle])
        rows += compare_mppca(block, (None, "5", "3"), "15 x 15 x 15 x 193 of the phantom", min(3, given.repeats))
        real = given.data / "mdt_b1k_b2k" / "sub-mdt_dwi.nii.gz"
        if real.is_file():
            image = np.asarray(nib.load(real).dataobj)
            rows += compare_mppca(image, ("5,5,1", "9,9,1"), "real, 104 x 104 x 2 x 103", min(3, given.repeats))
    del phantom
    speed = table("Denoising: speed", ["what", "arcuate", "peer", "ratio"], rows)
    header = ["SNR", "scan", "b=1000", "b=2000", "b=3500", "FA", "first peak, one fibre", "crossing"]
    note = (
        "Error against the noise-free image over σ, by shell; mean absolute error of FA against that of the noise-free "
        "image; mean angle (degrees) of the first CSD peak (b=3500, ssst) to the nearest fibre, in white matter."
    )
    show("denoise", speed + "\n" + table("Denoising: error", header, errors(SMALL), note), write=given.write)


if __name__ == "__main__":
    main()
