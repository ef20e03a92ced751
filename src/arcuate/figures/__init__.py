"""Pictures in three dimensions, drawn without a display: glyphs, peaks, responses, tracts (extra ``[viz]``).

Each function returns the picture, (height, width, 3) uint8, and saves it as PNG where a path is given.
"""

from arcuate.figures.glyphs import render_fods, render_glyphs, render_glyphs_and_peaks, render_peaks
from arcuate.figures.surfaces import render_response, render_tracts

__all__ = [
    "render_fods",
    "render_glyphs",
    "render_glyphs_and_peaks",
    "render_peaks",
    "render_response",
    "render_tracts",
]
