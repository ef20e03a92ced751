"""Single-shell CSD, peaks and the recursive response against DIPY and MRtrix3, on the 193-volume phantom."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from arcuate import dipy as face
from arcuate.csd import combine_csd_peaks_to_vector_volume, compute_csd_fods, find_fod_peaks
from arcuate.dwi import Dwi
from arcuate.io import NiftiVolumeResource
from arcuate.io.responses import write_response
from arcuate.models.csd import fit_csd
from arcuate.models.peaks import find_peaks
from arcuate.models.response import tensor_response
from arcuate.phantom import make_phantom, three_shell_gradients
from arcuate.volumes.resource import InMemoryVolumeResource
from benchmarks.side_by_side import Pair, alternate, arguments, show, table

B = 3500.0
EVALS = np.array([1.7e-3, 0.3e-3, 0.3e-3])


def main() -> None:
    """Print the table."""
    options = arguments(__doc__).parse_args()
    size = (40, 40, 24) if options.small else (80, 80, 48)
    head = make_phantom(three_shell_gradients(), shape=size, voxel_size=192 / size[0], snr=30)
    n_dipy, n_recursive = (300, 300) if options.small else (2000, 3000)
    rows = [
        *_against_dipy(head, n_dipy, n_recursive, options.repeats),
        *(_against_mrtrix(head, options.repeats) if shutil.which("dwi2fod") else []),
    ]
    note = "DIPY fits a part of the voxels in one process; times of different counts are compared per voxel."
    show("csd", table("Single-shell CSD, b=3500 of 193 volumes", ["what", "ours", "theirs", "ratio"], rows, note),
         write=options.write)  # fmt: skip


def _against_dipy(head: object, n_dipy: int, n_recursive: int, repeats: int) -> list[list[str]]:
    import dipy.core.gradients as gradients
    from dipy.data import default_sphere
    from dipy.direction.peaks import peaks_from_model
    from dipy.reconst.csdeconv import ConstrainedSphericalDeconvModel, recursive_response

    shell = head.gradients.get_shell(B)
    volumes = np.concatenate([np.flatnonzero(head.gradients.is_b0), shell.indices])
    part = head.gradients.subset(volumes)
    data = head.signal[head.tissue[..., 0] > 0.3][:, volumes].astype(np.float64)
    data = data[np.random.default_rng(0).permutation(len(data))]
    few, some = data[:n_dipy], data[:n_recursive]
    theirs = gradients.gradient_table(part.bvals, bvecs=part.directions)
    ours = face.gradient_table(part.bvals, bvecs=part.directions)
    response = (EVALS, 1000.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer, model = ConstrainedSphericalDeconvModel(theirs, response), face.ConstrainedSphericalDeconvModel(
            ours, response
        )  # fmt: skip

        def quiet(function: Callable[..., object], *args: object, **kwargs: object) -> Callable[[], object]:
            def run() -> object:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return function(*args, **kwargs)

            return run

        per_voxel = len(few) / len(data)
        fits = _scaled(alternate(quiet(model.fit, data), quiet(peer.fit, few), repeats), per_voxel)
        grid = {"relative_peak_threshold": 0.5, "min_separation_angle": 25}
        peaks = _scaled(
            alternate(
                quiet(face.peaks_from_model, model, data, face.default_sphere, **grid),
                quiet(peaks_from_model, peer, few, default_sphere, **grid),
                repeats,
            ),
            per_voxel,
        )
        calibrated = {"sh_order_max": 8, "peak_thr": 0.01, "iter": 8}
        recursive = alternate(
            quiet(face.recursive_response, ours, some, **calibrated),
            quiet(recursive_response, theirs, some, **calibrated),
            max(1, repeats // 2),
        )
    return [
        fits.row(f"CSD of {len(data)} voxels, DIPY"),
        peaks.row(f"peaks_from_model of {len(data)} voxels, DIPY"),
        recursive.row(f"recursive response from {len(some)} voxels, DIPY"),
    ]


def _against_mrtrix(head: object, repeats: int) -> list[list[str]]:
    """Fits and peaks in memory against the commands with files in memory (uncompressed), same voxels."""
    scan = Dwi.from_arrays(head.signal, head.affine, head.gradients)
    mask = InMemoryVolumeResource(head.brain_mask.astype(np.uint8), head.affine)
    response = tensor_response(EVALS, 1000.0, B)
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as name:
        folder = Path(name)
        scan.save(folder, basename="dwi")
        NiftiVolumeResource.save(scan.volume, folder / "dwi.nii")
        NiftiVolumeResource.save(mask, folder / "mask.nii")
        write_response(response, folder)

        def call(*command: str) -> Callable[[], object]:
            return lambda: subprocess.run([*command, "-quiet", "-force"], check=True, cwd=folder)

        grad = ("-fslgrad", "dwi.bvec", "dwi.bval")
        fod = call("dwi2fod", "csd", "dwi.nii", "wm.txt", "fod.nii", "-mask", "mask.nii", "-shells", f"{B:g}",
                   "-lmax", "8", *grad)  # fmt: skip
        fits = alternate(lambda: compute_csd_fods(scan, mask, response), fod, repeats)
        fods = compute_csd_fods(scan, mask, response)
        NiftiVolumeResource.save(fods, folder / "ours.nii")
        peaks = call("sh2peaks", "ours.nii", "peaks.nii", "-num", "5", "-mask", "mask.nii")
        rows = []
        for threshold in (0.0, 0.5):
            pair = alternate(
                lambda t=threshold: combine_csd_peaks_to_vector_volume(
                    *find_fod_peaks(fods, mask, n_peaks=5, relative_peak_threshold=t)
                ),
                peaks,
                repeats,
            )
            rows.append(pair.row(f"peaks, 5 per voxel, threshold {threshold}, sh2peaks"))
    count = int(head.brain_mask.sum())
    return [fits.row(f"CSD of {count} voxels, dwi2fod csd"), *rows, _kernel_row(head, response)]


def _kernel_row(head: object, response: object) -> list[str]:
    """Voxels per second of the models alone."""
    rows = head.signal[head.brain_mask]
    times = []
    for _ in range(3):
        start = time.perf_counter()
        fit = fit_csd(rows, head.gradients, response)
        middle = time.perf_counter()
        find_peaks(fit.coefs)
        times.append((middle - start, time.perf_counter() - middle))
    fitted, found = np.median(times, axis=0)
    return [
        "the models alone",
        f"{len(rows) / fitted / 1e3:.0f} k voxels/s CSD, {len(rows) / found / 1e3:.0f} k peaks",
        "",
        "",
    ]


def _scaled(pair: Pair, share: float) -> Pair:
    """A pair whose other side did only ``share`` of the voxels."""
    return Pair(pair.ours, pair.theirs / share, pair.ratio / share)


if __name__ == "__main__":
    main()
