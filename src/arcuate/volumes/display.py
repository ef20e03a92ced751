"""How objects of the lower floors are drawn: by the figures, which lie above them and are looked up by name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from arcuate.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from arcuate.gradients import GradientTable
    from arcuate.models.response import Response
    from arcuate.volumes.scan import Scan


def figures() -> Any:
    """The module that draws maps, loaded when a picture is asked for: the one arrow that points up."""
    return importlib.import_module("arcuate.figures.plotting")


def describe_scan(scan: Scan) -> str:
    """A scan in one line: its grid, its volumes and shells, or what is wrong with them; no voxel is read."""
    from arcuate.volumes.resource import describe_grid  # which takes the figures from here

    try:
        gradients = repr(scan.gradients)
    except (InputError, OSError) as error:
        gradients = f"gradients that do not fit: {error}"
    return f"{type(scan).__name__}({describe_grid(scan.volume)}; {gradients})"


def html_of_gradients(gradients: GradientTable) -> str:
    """For notebooks: volumes by shell, and their directions on the sphere."""
    shells = {float(shell.b): gradients.directions[shell.indices] for shell in gradients.shells}
    facts: dict[str, object] = {"volumes": len(gradients), "b = 0": int(gradients.is_b0.sum())}
    facts |= {f"b = {b:.0f} s/mm²": f"{len(directions)} directions" for b, directions in shells.items()}
    chart = importlib.import_module("arcuate.figures.charts").directions_chart(shells) if shells else ""
    return str(figures().html_of(facts, None, "")) + chart


def html_of_response(response: Response) -> str:
    """For notebooks: tissues, shells, algorithm, and a curve per shell against the angle to the fibre."""
    facts: dict[str, object] = {
        "response": ", ".join(response.tissues),
        "shells": ", ".join(f"b = {b:.0f}" for b in response.shells) + " s/mm²",
        "algorithm": response.algorithm,
    }
    facts |= {"voxels": response.n_voxels} if response.n_voxels else {}
    charts = importlib.import_module("arcuate.figures.charts").response_charts(response, {})
    return str(figures().html_of(facts, None, "")) + "".join(charts.values())


def html_of_scan(scan: Scan) -> str:
    """For notebooks: the facts, the directions, and the middle slice of a b = 0 volume and of one of each shell."""
    volume = scan.volume
    try:
        gradients = scan.gradients
        first = {"b = 0": int(np.flatnonzero(gradients.is_b0)[0])} if gradients.is_b0.any() else {}
        first |= {f"b = {shell.b:.0f}": int(shell.indices[0]) for shell in gradients.shells}
        table = html_of_gradients(gradients)
    except InputError as error:
        return str(figures().html_of({"scan": repr(volume), "gradients": error}, None, ""))
    panels = []
    for name, index in first.items():
        image = np.asarray(volume.get_volume(index), dtype=np.float32)
        panels.append(figures().Panel(image, name, "gray", (0.0, float(np.percentile(image, 99.5)) or 1.0)))
    try:
        figure = figures().plot_maps(panels, volume.get_affine(), slices=1)
    except MissingExtraError:
        figure = None
    facts = {"scan": " x ".join(map(str, volume.shape))}
    return str(figures().html_of(facts, figure, f"a slice at {', '.join(first)}")) + table


def html_of_fit(name: str, fit: Any, alt: str) -> str:
    """For notebooks: size and counts of voxels of a fit, and its plot; ``alt`` stands for the plot."""
    try:
        figure = fit.plot()
    except MissingExtraError:
        figure = None
    facts = {name: fit.volume.shape[:3], **(fit.parameters.get("VoxelsByStatus") or {})}
    html: str = figures().html_of(facts, figure, alt)
    return html
