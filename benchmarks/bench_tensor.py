"""Tensor with FA, MD and eigenvectors, side by side with DIPY (and MRtrix3 where it is installed).

usage: python -m benchmarks.bench_tensor [--small] [--write] [--repeats N]
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import dipy.reconst.dti as peer
import numba
import numpy as np
from dipy.core.gradients import gradient_table

from arcuate import dipy as face
from arcuate.dwi import Dwi
from arcuate.gradients import GradientTable
from arcuate.io import NiftiVolumeResource
from arcuate.models.tensor import prepare_tensor
from arcuate.phantom import make_phantom, three_shell_gradients
from arcuate.volumes.resource import InMemoryVolumeResource
from benchmarks.side_by_side import Pair, alternate, arguments, show, table

SHAPE = (96, 96, 60)
SMALL = (32, 32, 20)


def make_scan(shape: tuple[int, int, int]) -> tuple[Dwi, np.ndarray]:
    """The phantom, 1 b=0 and 64 directions at each of b = 1000, 2000, 3500, and its mask."""
    gradients = three_shell_gradients()
    head = make_phantom(gradients, shape=shape, voxel_size=192.0 / shape[0])
    return Dwi.from_arrays(head.signal, head.affine, gradients), head.brain_mask


def fit_by_dipy(rows: np.ndarray, gradients: GradientTable) -> tuple[np.ndarray, ...]:
    """FA, MD and eigenvectors."""
    model = peer.TensorModel(gradient_table(gradients.bvals, bvecs=gradients.directions), fit_method="WLS")
    fit = model.fit(rows)
    return fit.fa, fit.md, fit.evecs


def compare_rows(rows: np.ndarray, gradients: GradientTable, b_max: float, repeats: int) -> tuple[Pair, float]:
    """Seconds for the same volumes of the same voxels, and the largest difference of FA."""
    volumes, _ = prepare_tensor(gradients, b_max=b_max)
    rows, used = np.ascontiguousarray(rows[:, volumes]), gradients.subset(volumes)

    def fit() -> tuple[np.ndarray, ...]:
        result = prepare_tensor(used, b_max=b_max)[1].fit(rows)
        return result.fa, result.md, result.evecs

    pair = alternate(fit, lambda: fit_by_dipy(rows, used), repeats)
    return pair, float(np.abs(fit()[0] - fit_by_dipy(rows.astype(np.float64), used)[0]).max())


def compare_mrtrix(scan: Dwi, mask: np.ndarray, repeats: int) -> Pair:
    """The step on the image against ``dwi2tensor`` and ``tensor2metric``, files (.nii) read and written by both."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        NiftiVolumeResource.save(scan.volume, folder / "dwi.nii")
        NiftiVolumeResource.save(InMemoryVolumeResource(mask, scan.volume.get_affine()), folder / "mask.nii")
        np.savetxt(folder / "grad.txt", scan.gradients.to_mrtrix())
        threads = ["-nthreads", str(numba.get_num_threads()), "-quiet", "-force"]

        def ours() -> None:
            lazy = Dwi(NiftiVolumeResource(folder / "dwi.nii"), scan.bval, scan.bvec)
            dti = lazy.estimate_dti(mask=NiftiVolumeResource(folder / "mask.nii"), b_max=1e4)
            fa, md = dti.get_fa_md()
            for what, volume in {"dt": dti.volume, "fa": fa, "md": md, "v": dti.get_eig()[1]}.items():
                NiftiVolumeResource.save(volume, folder / f"our_{what}.nii")

        def theirs() -> None:
            first = ["dwi2tensor", folder / "dwi.nii", folder / "dt.nii", "-mask", folder / "mask.nii"]
            subprocess.run([*first, "-grad", folder / "grad.txt", *threads], check=True)
            maps = ["-fa", folder / "fa.nii", "-adc", folder / "md.nii", "-vector", folder / "v.nii", "-num", "1,2,3"]
            subprocess.run(["tensor2metric", folder / "dt.nii", *maps, *threads], check=True)

        return alternate(ours, theirs, repeats)


def main() -> None:
    """Print the table; with ``--write`` keep it."""
    options = arguments(__doc__).parse_args()
    warnings.simplefilter("ignore")
    scan, mask = make_scan(SMALL if options.small else SHAPE)
    gradients = scan.gradients
    array = scan.volume.get_array()
    rows = array[mask]
    lines = []
    for b_max in (1500.0, 1e4):
        pair, difference = compare_rows(rows, gradients, b_max, options.repeats)
        n_volumes = 65 if b_max < 2000 else 193
        name = f"WLS + FA MD evecs, {n_volumes} volumes, against DIPY (largest difference of FA {difference:.0e})"
        lines.append(pair.row(name))
    plain = gradient_table(gradients.bvals, bvecs=gradients.directions)

    def image_fit(model: object) -> tuple[np.ndarray, ...]:
        fit = model.fit(array, mask=mask)  # type: ignore[attr-defined]
        return fit.fa, fit.md, fit.evecs

    pair = alternate(
        lambda: image_fit(face.TensorModel(plain)), lambda: image_fit(peer.TensorModel(plain)), options.repeats
    )
    lines.append(pair.row("`arcuate.dipy` on the masked image, 193 volumes, against DIPY"))
    if shutil.which("dwi2tensor"):
        pair = compare_mrtrix(scan, mask, options.repeats)
        lines.append(pair.row("files to files, 193 volumes, against MRtrix3's dwi2tensor + tensor2metric"))
    title = f"Tensor: {len(rows)} voxels in the mask of {' x '.join(map(str, array.shape))}"
    note = f"{numba.get_num_threads()} threads; medians of runs in turns."
    show("tensor", table(title, ("what", "arcuate", "peer", "ratio"), lines, note), write=options.write)


if __name__ == "__main__":
    main()
