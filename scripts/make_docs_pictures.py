"""Draw the pictures of human scans in docs/images, with the functions that make pictures for papers.

usage: make_docs_pictures.py TWO_SHELLS ONE_SHELL   (what `arcuate run` wrote of mdt_b1k_b2k and of canon_dti 3000)
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from arcuate.figures import render_fods
from arcuate.figures.plotting import Panel, plot_maps
from arcuate.figures.views import View
from arcuate.io import NiftiVolumeResource
from arcuate.report import SubjectFiles, find_subjects
from arcuate.report.pictures import color_fa

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDTH = 1200
HEAD = ((12, 68), (6, 72))  # voxels of canon_dti


def main() -> None:
    """Write the pictures."""
    two, one = (find_subjects(Path(word))[0] for word in sys.argv[1:3])
    tensor, affine = _maps(one, ("tensor", "fa"), ("tensor", "md"), ("tensor", "evecs"))
    _save(
        "clinical.png",
        _tensor_panels(tensor),
        affine,
        slices=(18, 22, 28),
        mask=tensor["fa"] > 0,
        region=HEAD,
        scale_bar=50,
    )

    found, affine = _maps(two, ("tensor", "fa"), ("tensor", "md"), ("tensor", "evecs"))
    inside = np.asarray(NiftiVolumeResource(two.names.path("desc-brain_mask.nii.gz")).get_array()) > 0
    b0 = np.asarray(NiftiVolumeResource(two.names.path("desc-b0_dwiref.nii.gz")).get_array())
    _save("walk_mask.png", [Panel(b0, "mean b = 0 and mask", "gray", contour=inside)], affine, slices=2)
    _save("walk_tensor.png", _tensor_panels(found), affine, slices=(0,), mask=inside, scale_bar=50)
    noddi, _ = _maps(two, ("noddi", "icvf"), ("noddi", "odi"), ("noddi", "isovf"))
    panels = [
        Panel(noddi["icvf"] * (1 - noddi["isovf"]), "NDI, weighted by tissue", "viridis", (0, 0.8)),
        Panel(noddi["odi"], "ODI", "magma", (0, 0.8)),
        Panel(noddi["isovf"], "free water", "gray", (0, 1)),
    ]
    _save("walk_noddi.png", panels, affine, slices=(0,), mask=inside)
    fods = two.get_map(two.csd_model or "", "fod")
    if fods is None:
        raise SystemExit("the first folder holds no FODs; run all steps there")
    picture = render_fods(
        fods.volume, view=View("axial", 0), region=((34, 70), (52, 76)), size=(1200, 800), background=found["fa"]
    )
    _write("walk_fods.png", Image.fromarray(picture))


def _maps(subject: SubjectFiles, *keys: tuple[str, str]) -> tuple[dict[str, Any], np.ndarray]:
    maps = {key[1]: subject.get_map(*key) for key in keys}
    missing = [name for name, found in maps.items() if found is None]
    if missing:
        raise SystemExit(f"{subject.names.folder} holds no map {missing[0]}")
    volumes = {name: found.volume for name, found in maps.items() if found is not None}
    return {name: np.asarray(v.get_array()) for name, v in volumes.items()}, volumes[keys[0][1]].get_affine()


def _tensor_panels(maps: dict[str, Any]) -> list[Panel]:
    color = np.clip(1.25 * color_fa(maps["fa"], maps["evecs"]), 0, 1) ** 0.8
    return [
        Panel(color, "colour FA"),
        Panel(maps["fa"], "FA", "gray", (0, 1)),
        Panel(1e3 * maps["md"], "MD (1e-3 mm²/s)", "gray", (0, 1.5)),
    ]


def _save(name: str, panels: list[Panel], affine: np.ndarray, *, slices: Any, **options: Any) -> None:
    rows = [[panel] for panel in panels] if len(tuple(np.atleast_1d(slices))) == 1 and len(panels) > 1 else [panels]
    pictures = []
    for row in rows:  # panels of one slice side by side
        buffer = io.BytesIO()
        plot_maps(row, affine, slices=slices, paper="black", **options).savefig(buffer, dpi=200, bbox_inches="tight")
        pictures.append(Image.open(buffer).convert("RGB"))
    height = min(picture.height for picture in pictures)
    pictures = [p.resize((round(p.width * height / p.height), height), Image.Resampling.LANCZOS) for p in pictures]
    joined = Image.new("RGB", (sum(p.width for p in pictures), height))
    for i, picture in enumerate(pictures):
        joined.paste(picture, (sum(p.width for p in pictures[:i]), 0))
    _write(name, joined)


def _write(name: str, picture: Image.Image) -> None:
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    path = IMAGES / name
    picture.quantize(192).save(path, optimize=True)
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
