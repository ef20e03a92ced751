"""Pages that show whether images lie on each other: one registration, or the heads of a template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from arcuate.figures.mosaic import Layout, box_of, draw_mosaic
from arcuate.figures.panels import Panel, choose_slices, robust_limits
from arcuate.figures.views import Canonical, View
from arcuate.io import write_text_atomically
from arcuate.numerics.interpolation import map_points
from arcuate.registration import TransformResource
from arcuate.report.arrays import thick_planes
from arcuate.report.section import Picture, Section, Table
from arcuate.report.template import render, shared_facts
from arcuate.volumes.geometry import nearest_rotation, voxel_size
from arcuate.volumes.resource import VolumeResource
from arcuate.volumes.transforms import Affine, jacobians

REGISTRATION_PAGE = "registration.html"
TEMPLATE_PAGE = "template.html"
_EDGE = np.array((230, 159, 0)) / 255  # Okabe and Ito's orange
_EDGE_SCALE = 2.0  # mm, at which edges are looked for
_STRONG = 0.5  # of the 95th percentile of the gradient, which an edge must reach
_MOST_POINTS = 20_000
_BINS = 32
_ROWS = {"sagittal": 0, "coronal": 1, "axial": 2}
_STAY = TransformResource(np.eye(4)[None])


class Named(NamedTuple):
    """An image (x, y, z) and what it is called."""

    name: str
    volume: VolumeResource


class Borders(NamedTuple):
    """What the edges of an image (x, y, z) are found from, bool each."""

    is_positive: np.ndarray  # its Laplacian
    is_steep: np.ndarray


class Agreement(NamedTuple):
    """What a transform does to a head, and what the images then share."""

    information: tuple[float, float]  # mutual, bits, before and after
    moved: np.ndarray  # (n_points,) mm
    volumes: np.ndarray  # (n_points,) determinant of the derivative
    affine: np.ndarray  # (4, 4), the product of the linear links


def write_registration_page(
    path: Path, fixed: Named, moving: Named, transform: TransformResource, warped: VolumeResource
) -> Path:
    """Write the page of a registration; its path.

    Parameters
    ----------
    path : of the page
    fixed, moving : the images, each on its own grid
    transform : from the moving image to the fixed one
    warped : (x, y, z), the moving image on the grid of the fixed one
    """
    before = _STAY.apply(moving.volume, fixed.volume)
    agreement = agreement_of(fixed.volume, (before, warped), transform)
    pictures = Section("alignment", "Before and after")
    pictures.text = (
        f"Orange are the edges of {fixed.name}. They should run along the same borders of {moving.name} once it is "
        "brought over; the slider goes from where the headers alone put it to where the transform does."
    )
    both = Section("both", "The two images")
    both.text = (
        f"What both show should go on across the line: left of it lies {fixed.name}, right of it {moving.name}, "
        "brought over."
    )
    affine, head = fixed.volume.get_affine(), _head(_array(fixed.volume))
    grey = {which: _grey(v) for which, v in (("before", before), ("after", warped), ("fixed", fixed.volume))}
    borders = borders_of(_array(fixed.volume), affine)
    for plane in thick_planes(head.shape, affine):
        edges = edges_of(borders, affine, plane)
        shown = {which: _drawn(_marked(grey[which], edges), affine, plane, head) for which in ("before", "after")}
        pictures.pictures.append(
            Picture(f"{plane.capitalize()} slices of {moving.name} with the edges of {fixed.name}.",
                    f"{moving.name} with the edges of {fixed.name}, {plane}.", f"edges_{plane}",
                    png=shown["before"], after=shown["after"])
        )  # fmt: skip
        pair = [_drawn(_colors(grey[which]), affine, plane, head) for which in ("fixed", "after")]
        both.pictures.append(
            Picture(f"{plane.capitalize()} slices of both images.", f"{fixed.name}, and {moving.name} brought over, "
                    f"{plane}.", f"both_{plane}", png=pair[0], after=pair[1], sides=("fixed", "moving"))
        )  # fmt: skip
    pictures.tables.append(_numbers(agreement))
    return _write(path, f"{moving.name} to {fixed.name}", "Registration by ANTs", [pictures, both], _doubts(agreement))


def write_template_page(
    path: Path, templates: Mapping[str, VolumeResource], before: Mapping[str, VolumeResource],
    transforms: Mapping[str, TransformResource],
) -> Path:  # fmt: skip
    """Write the page of a template; its path.

    Parameters
    ----------
    path : of the page
    templates : (x, y, z) of each metric
    before : the means of the subjects' maps where their headers put them
    transforms : of each subject to the template
    """
    first = next(iter(templates.values()))
    affine, head = first.get_affine(), _head(_array(first))
    section = Section("template", "Template")
    section.text = (
        f"The mean head of {len(transforms)} subjects. The slider goes from their mean without registration, which is "
        "blurred, to the template, in which folds and tracts should stand out."
    )
    for name, template in templates.items():
        grey = _grey(_STAY.apply(before[name], template)), _grey(template)
        for plane in thick_planes(head.shape, affine):
            pair = [_drawn(_colors(image), affine, plane, head) for image in grey]
            section.pictures.append(
                Picture(f"{plane.capitalize()} slices of the template of {name}.", f"{name}, {plane}: the mean without "
                        "registration, and the template.", f"{name}_{plane}", png=pair[0], after=pair[1],
                        sides=("mean", "template"))
            )  # fmt: skip
    rows = []
    points = _points(head, affine)
    for subject, transform in transforms.items():
        moved, volumes = _motion(transform, points, affine)
        rows.append((subject, *(f"{v:.1f}" for v in np.percentile(moved, [50, 95])),
                     *(f"{v:.2f}" for v in np.percentile(volumes, [5, 95]))))  # fmt: skip
    head_row = ("subject", "median shift (mm)", "95 % (mm)", "volume, 5 %", "volume, 95 %")
    subjects = Section("subjects", "Subjects")
    subjects.tables.append(Table("From the template to each subject, within the head", head_row, rows))
    return _write(path, f"Template of {len(transforms)} subjects", "Template by ANTs", [section, subjects], [])


def borders_of(image: np.ndarray, affine: np.ndarray) -> Borders:
    """Where an image (x, y, z) bends up, and where it is steep, from one smoothing for all planes."""
    from scipy.ndimage import gaussian_gradient_magnitude, gaussian_laplace

    values = np.nan_to_num(np.asarray(image, dtype=np.float32))
    scale = [max(_EDGE_SCALE / size, 0.8) for size in voxel_size(affine)]
    positive = gaussian_laplace(values, scale) > 0
    gradient = gaussian_gradient_magnitude(values, scale)
    known = gradient[gradient > 0]
    is_steep = gradient > _STRONG * np.percentile(known, 95) if known.size else np.zeros(values.shape, dtype=bool)
    return Borders(positive, is_steep)


def edges_of(borders: Borders, affine: np.ndarray, plane: str) -> np.ndarray:
    """Where the borders of an image run in slices of a plane, (x, y, z) bool, one voxel wide.

    Notes
    -----
    The Laplacian of the smoothed image changes its sign between neighbours of the plane, where the gradient is strong.
    """
    through = int(np.argmax(np.abs(affine[_ROWS[plane], :3])))
    crossing = np.zeros(borders.is_steep.shape, dtype=bool)
    for axis in {0, 1, 2} - {through}:
        step = np.diff(borders.is_positive, axis=axis)  # True where the sign changes
        at = [slice(None)] * 3
        at[axis] = slice(1, None)
        crossing[tuple(at)] |= step
    return crossing & borders.is_steep


def agreement_of(
    fixed: VolumeResource, images: tuple[VolumeResource, VolumeResource], transform: TransformResource
) -> Agreement:
    """What the transform does at points of the head, and what the images (x, y, z) before and after share with it."""
    affine, values = fixed.get_affine(), _array(fixed)
    head = _head(values)
    points = _points(head, affine)
    moved, volumes = _motion(transform, points, affine)
    before, after = (mutual_information(values[head], _array(image)[head]) for image in images)
    linear = np.eye(4)
    for link in transform.transform.links:
        if isinstance(link, Affine):
            linear = link.matrix @ linear
    return Agreement((before, after), moved, volumes, linear)


def mutual_information(one: np.ndarray, other: np.ndarray) -> float:
    """Mutual information of two images (n,) at the same points, bits, from a histogram of 32 x 32 cells of rank."""
    coded = [np.searchsorted(np.quantile(x, np.linspace(0, 1, _BINS + 1)[1:-1]), x, "right") for x in (one, other)]
    counts = np.bincount(coded[0] * _BINS + coded[1], minlength=_BINS**2).reshape(_BINS, _BINS).astype(np.float64)
    joint = counts / max(counts.sum(), 1)
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    known = joint > 0
    return float(np.sum(joint[known] * np.log2(joint[known] / apart[known])))


def _head(values: np.ndarray) -> np.ndarray:
    """Where an image (x, y, z) is brighter than its mean, which leaves out the air around a head."""
    finite = np.nan_to_num(values)
    return finite > 0.5 * finite.mean()


def _points(head: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Scanner coordinates (n, 3) of some voxels of a mask (x, y, z), evenly taken."""
    index = np.argwhere(head)
    index = index[:: max(1, len(index) // _MOST_POINTS)]
    return map_points(index, affine)


def _motion(transform: TransformResource, points: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far a transform moves points (n, 3), mm, and what it makes of the volume there, (n,) each."""
    moved = np.linalg.norm(transform.map_points(points) - points, axis=1)
    return moved, np.linalg.det(jacobians(transform.transform, points, 0.5 * min(voxel_size(affine))))


def _numbers(agreement: Agreement) -> Table:
    linear = agreement.affine[:3, :3]
    turn = nearest_rotation(linear)
    degrees = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    scales = np.linalg.svd(linear, compute_uv=False)
    moved, volumes = np.percentile(agreement.moved, [50, 95]), np.percentile(agreement.volumes, [5, 95])
    rows = [
        ("mutual information before (bits)", f"{agreement.information[0]:.2f}"),
        ("mutual information after (bits)", f"{agreement.information[1]:.2f}"),
        ("shift, median (mm)", f"{moved[0]:.1f}"), ("shift, 95 % (mm)", f"{moved[1]:.1f}"),
        ("rotation of the linear part (degrees)", f"{degrees:.1f}"),
        ("scale of the linear part, smallest", f"{scales.min():.3f}"),
        ("scale of the linear part, largest", f"{scales.max():.3f}"),
        ("moving tissue per volume of fixed, 5 %", f"{volumes[0]:.2f}"),
        ("moving tissue per volume of fixed, 95 %", f"{volumes[1]:.2f}"),
        ("folded (%)", f"{100 * np.mean(agreement.volumes <= 0):.2f}"),
    ]  # fmt: skip
    return Table("What the transform does within the head of the fixed image", ("measure", "value"), rows)


def _doubts(agreement: Agreement) -> list[str]:
    before, after = agreement.information
    doubts = []
    if after < before:
        doubts.append(
            f"the images share less information after registration ({after:.2f} bits) than where their headers put "
            f"them ({before:.2f} bits): look at the edges below, and try another --transform or masks of both"
        )
    folded = float(np.mean(agreement.volumes <= 0))
    if folded > 0:
        doubts.append(f"the warp folds space at {folded:.2%} of the points of the head: do not trust it there")
    return doubts


def _array(volume: VolumeResource) -> np.ndarray:
    return np.asarray(volume.get_array(), dtype=np.float32)


def _grey(volume: VolumeResource) -> np.ndarray:
    """(x, y, z) float16 from black to white."""
    values = _array(volume)
    low, high = robust_limits(values)
    return np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1).astype(np.float16)


def _colors(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=-1)


def _marked(grey: np.ndarray, edges: np.ndarray) -> np.ndarray:
    color = _colors(grey)
    color[edges] = _EDGE
    return color


def _drawn(color: np.ndarray, affine: np.ndarray, plane: str, head: np.ndarray) -> bytes:
    """Six slices over the head."""
    slices: Sequence[int] = choose_slices(Canonical(affine).reorder(head), View(plane), 6)
    return draw_mosaic(
        Panel(color), affine, Layout(plane, slices=slices, has_bar=False), box=box_of(head, affine)
    ).png()


def _write(path: Path, title: str, subtitle: str, sections: list[Section], doubts: list[str]) -> Path:
    facts: dict[str, Any] = {
        "title": title, "subtitle": subtitle, "doubts": doubts, "sections": sections, "stem": path.stem,
        **shared_facts("page.js"),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, render("pictures.html.j2", facts))
    return path


__all__ = [
    "REGISTRATION_PAGE",
    "TEMPLATE_PAGE",
    "Named",
    "write_registration_page",
    "write_template_page",
]
