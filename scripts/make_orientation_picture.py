"""Draw docs/images/second_pass.png: FODs of a human scan by one pass and by two, side by side.

usage: make_orientation_picture.py SCAN MASK   (sub-mdt_dwi.nii.gz and sub-mdt_mask.nii.gz of mdt_b1k_b2k)
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from arcuate.csd import estimate_fods, estimate_response_function
from arcuate.dwi import Dwi
from arcuate.figures import render_fods
from arcuate.figures.views import View
from arcuate.io import NiftiVolumeResource
from arcuate.volumes.resource import InMemoryVolumeResource

OUT = Path(__file__).parents[1] / "docs" / "images" / "second_pass.png"
REGION, SLICE = ((26, 48), (50, 70)), 0  # of the picture: white matter beside a ventricle, where fibres cross and fan
SIZE = (780, 700)


def main() -> None:
    """Write the picture and say how large it is."""
    scan = Dwi.from_files(Path(sys.argv[1])).load()
    mask = NiftiVolumeResource(sys.argv[2]).load()
    response = estimate_response_function(scan, mask)
    part = np.zeros(mask.shape, np.uint8)
    part[..., SLICE] = np.asarray(mask.get_array())[..., SLICE] > 0
    inside = InMemoryVolumeResource(part, mask.get_affine())
    fa = np.asarray(scan.estimate_dti(mask=mask).fa.get_array())
    pictures = []
    for second_pass in (False, True):
        fods = estimate_fods(scan, inside, response, second_pass=second_pass).volumes["wm"]
        pictures.append(
            Image.fromarray(
                render_fods(fods, view=View("axial", SLICE), region=REGION, size=SIZE, background=fa, scale=0.6)
            )
        )
    joined = Image.new("RGB", (2 * SIZE[0] + 8, SIZE[1]), "white")
    for i, picture in enumerate(pictures):
        joined.paste(picture, (i * (SIZE[0] + 8), 0))
    joined.quantize(192).save(OUT, optimize=True)
    print(f"{OUT}: {joined.width} x {joined.height}, {OUT.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
