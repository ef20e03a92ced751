"""Draw docs/images/masks.png: brain masks of one head in three scans, in the scanner's frame, to be looked at.

usage: make_mask_picture.py CANON_DTI_FOLDER [OUT.png]

Each row is a scan of shared/data/canon_dti: its b = 0 image, HD-BET's five-fold mask in red, the embedded method's in
yellow, and the edge of the field of view in blue. The rows are resampled to one grid of the scanner's axes, so that
what differs is what the tilted slabs hold.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from arcuate.dwi import Dwi
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource
from arcuate.masks import extract_brain

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden" / "hdbet_canon.npz"
SERIES = ("3000", "5000", "11000")
CENTER, HALF, STEP = (2.0, 15.0, 22.0), (84.0, 104.0, 84.0), 1.0  # mm, scanner
CUTS = ((0, -22.0), (0, 2.0), (0, 42.0), (1, -35.0), (1, 25.0), (2, -5.0), (2, 40.0))  # axis, mm


def main() -> None:
    """Write the picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    out = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "images" / "masks.png"
    sides = [np.arange(c - h, c + h, STEP) for c, h in zip(CENTER, HALF, strict=True)]
    figure, panels = plt.subplots(len(SERIES), len(CUTS), figsize=(12, 5.0), facecolor="black")
    for row, series in zip(panels, SERIES, strict=True):
        images = _resampled(Path(sys.argv[1]), series, sides)
        for panel, (axis, where) in zip(row, CUTS, strict=True):
            k = int(np.argmin(np.abs(sides[axis] - where)))
            b0, network, embedded, seen = (np.take(image, k, axis=axis).T for image in images)
            panel.imshow(b0, origin="lower", cmap="gray", vmin=0, vmax=np.percentile(images[0], 99.5))
            for image, color in ((seen, "deepskyblue"), (embedded, "gold"), (network, "red")):
                panel.contour(image, [0.5], colors=color, linewidths=0.7)
            panel.axis("off")
        row[0].set_title(series, color="white", fontsize=8, pad=1)
    figure.subplots_adjust(0, 0, 1, 0.97, 0.01, 0.05)
    figure.savefig(out, dpi=80)
    small = Image.open(out).convert("P", palette=Image.Palette.ADAPTIVE, colors=128)
    small.save(out, optimize=True)
    print(f"{out}: {out.stat().st_size / 1e3:.0f} kB")


def _resampled(folder: Path, series: str, sides: list[np.ndarray]) -> list[np.ndarray]:
    """b = 0, mask of the network, embedded mask and field of view on the scanner's axes."""
    path = next(folder.glob(f"{series}_*.nii.gz"))
    stem = path.name.removesuffix(".nii.gz")
    bval, bvec = FslBvalResource(folder / f"{stem}.bval"), FslBvecResource(folder / f"{stem}.bvec")
    scan = Dwi(NiftiVolumeResource(path), bval, bvec)
    mean_b0 = scan.compute_mean_b0()
    b0 = np.asarray(mean_b0.get_array())
    with np.load(GOLDEN) as golden:
        network = np.unpackbits(golden[series], count=b0.size).reshape(b0.shape)
    embedded = extract_brain(scan, method="otsu").get_array()
    to_voxels = np.linalg.inv(mean_b0.get_affine())
    points = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1)
    index = np.moveaxis(points @ to_voxels[:3, :3].T + to_voxels[:3, 3], -1, 0)
    last = np.array(b0.shape).reshape(3, 1, 1, 1) - 0.5
    seen = np.all((index >= -0.5) & (index <= last), axis=0)
    images = [ndimage.map_coordinates(i.astype(np.float32), index, order=1, mode="nearest") * seen
              for i in (b0, network, embedded)]  # fmt: skip
    return [*images, seen.astype(np.float32)]


if __name__ == "__main__":
    main()
