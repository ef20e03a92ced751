"""Brain masks without a network against HD-BET's five folds, and DIPY's and MRtrix3's beside them, on a real head."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from dipy.segment.mask import median_otsu

from arcuate.dwi import Dwi
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource
from arcuate.masks import extract_brain
from benchmarks.side_by_side import alternate, arguments, show, table

ROOT = Path(__file__).resolve().parents[1]
HEADS = ROOT.parent / "shared" / "data" / "canon_dti"
GOLDEN = ROOT / "tests" / "golden" / "hdbet_canon.npz"  # by scripts/make_hdbet_golden.py


def main() -> None:
    """Print the table: Dice of each method on each series, and seconds."""
    options = arguments(__doc__).parse_args()
    if not HEADS.is_dir():
        raise SystemExit(f"found no folder {HEADS}; this benchmark needs the scans of canon_dti.")
    rows, seconds = [], []
    with np.load(GOLDEN) as golden:
        for path in sorted(HEADS.glob("*.nii.gz"), key=lambda p: int(p.name.split("_")[0])):
            series = path.name.split("_")[0]
            with tempfile.TemporaryDirectory() as name:
                methods = _methods(path, Path(name))
                shape = nib.load(path).shape[:3]
                expected = np.unpackbits(golden[series], count=int(np.prod(shape))).reshape(shape) > 0
                voxel = abs(np.linalg.det(nib.load(path).affine[:3, :3])) / 1000
                cells = []
                for run in methods.values():
                    inside = run()
                    cells.append(f"{dice(inside, expected):.3f}; {inside.sum() * voxel:.0f} ml")
                rows.append([series, f"{expected.sum() * voxel:.0f} ml", *cells])
                names = list(methods)
                seconds += [
                    alternate(methods[names[0]], methods[other], options.repeats).row(f"series {series}, {other}")
                    for other in names[1:]
                ]
    note = (
        "Dice with HD-BET's mask (release 1, five folds), and volume. The three series are slabs that hold different "
        "parts of one head."
    )
    texts = [
        table("Brain masks of canon_dti", ["series", "HD-BET", *names], rows, note),
        table("Brain mask, seconds (MRtrix3's with its reading)", ["what", "ours", "theirs", "ratio"], seconds),
    ]
    show("masks", "\n".join(texts), write=options.write)


def _methods(path: Path, folder: Path) -> dict[str, Callable[[], np.ndarray]]:
    """What makes a mask (x, y, z) bool of a scan, ours first."""
    stem = path.name.removesuffix(".nii.gz")
    bval, bvec = path.with_name(f"{stem}.bval"), path.with_name(f"{stem}.bvec")
    scan = Dwi(NiftiVolumeResource(path), FslBvalResource(bval), FslBvecResource(bvec)).load()
    array = np.asarray(scan.volume.get_array())
    b0 = array[..., scan.gradients.is_b0].mean(axis=-1)
    found: dict[str, Callable[[], np.ndarray]] = {
        "arcuate, no network": lambda: np.asarray(extract_brain(scan, method="otsu").get_array()) > 0,
        "DIPY median_otsu, radius 2, 3 passes": lambda: median_otsu(b0, median_radius=2, numpass=3)[1],
        "DIPY median_otsu, defaults": lambda: median_otsu(b0)[1],
    }
    if shutil.which("dwi2mask"):
        nib.save(nib.load(path), folder / "dwi.nii")

        def mrtrix() -> np.ndarray:
            words = ("dwi2mask", "dwi.nii", "mask.nii", "-fslgrad", str(bvec), str(bval))
            subprocess.run([*words, "-quiet", "-force", "-nthreads", "2"], cwd=folder, check=True, capture_output=True)
            return np.asarray(nib.load(folder / "mask.nii").dataobj) > 0

        found["MRtrix3 dwi2mask"] = mrtrix
    return found


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of two masks."""
    return 2 * float(np.sum(a & b)) / float(a.sum() + b.sum())


if __name__ == "__main__":
    main()
