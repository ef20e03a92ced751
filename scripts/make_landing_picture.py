"""Draw docs/images/landing.png: the phantom as the pipeline sees it.

usage: make_landing_picture.py DEMO_FOLDER [OUT.png]   (DEMO_FOLDER: what `arcuate demo --out` or `arcuate run` wrote)
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from arcuate.figures import render_fods
from arcuate.figures.views import Canonical, View
from arcuate.report import SubjectFiles, find_subjects
from arcuate.report.pictures import color_fa
from arcuate.volumes.resource import InMemoryVolumeResource

HEIGHT = 500
GAP = 14
N_GLYPHS = 26  # across the close-up


def main() -> None:
    """Write the picture."""
    subject = find_subjects(Path(sys.argv[1]))[0]
    path = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parents[1] / "docs" / "images" / "landing.png"
    picture = draw(subject)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, optimize=True)
    print(f"{path}: {picture.shape[1]} x {picture.shape[0]}, {path.stat().st_size / 1e3:.0f} kB")


def draw(subject: SubjectFiles) -> np.ndarray:
    """(height, width, 3) uint8: colour FA, NDI, ODI and FODs of one slice."""
    import matplotlib

    maps = {
        key: subject.get_map(*key)
        for key in (("tensor", "fa"), ("tensor", "evecs"), ("noddi", "icvf"), ("noddi", "odi"))
    }
    fods = subject.get_map(subject.csd_model or "", "fod")
    if fods is None or any(found is None for found in maps.values()):
        raise SystemExit("the folder holds no tensor, NODDI or FOD maps; run all steps first")
    fa, evecs, ndi, odi = (np.asarray(found.volume.get_array()) for found in maps.values() if found is not None)
    affine = fods.volume.get_affine()
    frame = Canonical(affine)
    canonical = {name: frame.reorder(a) for name, a in (("color", color_fa(fa, evecs)), ("ndi", ndi), ("odi", odi))}
    n_slices = canonical["ndi"].shape[2]
    view = View("axial", round(0.55 * n_slices))
    columns, rows = (np.flatnonzero(view.take(canonical["ndi"]).any(axis=axis)) for axis in (0, 1))
    crop = np.s_[max(rows[0] - 1, 0) : rows[-1] + 2, max(columns[0] - 1, 0) : columns[-1] + 2]
    close_up = _square(crop, N_GLYPHS)
    whole = np.clip(1.25 * view.take(canonical["color"])[crop], 0, 1) ** 0.8
    panels = [("colour FA", (255 * whole).astype(np.uint8))]
    for name, colormap in (("ndi", "viridis"), ("odi", "magma")):
        mapped = matplotlib.colormaps[colormap](view.take(canonical[name])[crop], bytes=True)[..., :3].copy()
        mapped[view.take(canonical["ndi"])[crop] == 0] = 0
        panels.append((name.upper(), mapped))
    images = [(name, _fit(picture)) for name, picture in panels]
    images.append(("fibre orientations", _draw_fods(fods.volume, fa, view, close_up)))
    return _side_by_side(images)


def _square(crop: tuple[slice, slice], side: int) -> tuple[slice, slice]:
    """The middle of a crop."""
    starts = [(part.start + part.stop - side) // 2 for part in crop]
    rows, columns = (slice(max(start, 0), max(start, 0) + side) for start in starts)
    return rows, columns


def _draw_fods(volume: object, fa: np.ndarray, view: View, crop: tuple[slice, slice]) -> Image.Image:
    affine = volume.get_affine()  # type: ignore[attr-defined]
    frame = Canonical(affine)
    coefs = frame.reorder(np.asarray(volume.get_array()))  # type: ignore[attr-defined]
    height = coefs.shape[1]
    up = slice(height - crop[0].stop, height - crop[0].start)
    box = np.s_[crop[1], up, view.slice_of(coefs.shape[2]) : view.slice_of(coefs.shape[2]) + 1]
    placed = np.eye(4)
    placed[:3, :3] = frame.rotation @ np.diag(frame.voxel_size)
    anatomy = frame.reorder(fa)[box]
    part = InMemoryVolumeResource(np.where(anatomy[..., None] > 0.1, coefs[box], 0), placed)
    size = (round(HEIGHT * anatomy.shape[0] / anatomy.shape[1]), HEIGHT)
    return Image.fromarray(render_fods(part, background=anatomy, size=size, scale=0.7))


def _fit(picture: np.ndarray) -> Image.Image:
    width = round(HEIGHT * picture.shape[1] / picture.shape[0])
    return Image.fromarray(picture).resize((width, HEIGHT), Image.Resampling.BICUBIC)


def _side_by_side(images: list[tuple[str, Image.Image]]) -> np.ndarray:
    width = sum(image.width for _, image in images) + GAP * (len(images) + 1)
    page = Image.new("RGB", (width, HEIGHT + 64), "black")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(24)
    x = GAP
    for name, image in images:
        page.paste(image, (x, 50))
        pen.text((x + image.width / 2, 26), name, fill="white", font=font, anchor="mm")
        x += image.width + GAP
    return np.asarray(page)


if __name__ == "__main__":
    main()
