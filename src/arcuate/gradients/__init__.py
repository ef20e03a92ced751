"""Gradient tables: b-values, directions in the scanner frame, the shells they form, and what is repaired in files."""

from arcuate.gradients.repair import B_UNITS, NORM_EXACT, NORM_TOLERANCE, in_s_per_mm2
from arcuate.gradients.table import (
    B0_THRESHOLD,
    NO_B0,
    SHELL_GAP,
    SHELL_WIDTH,
    GradientTable,
    Shell,
    bvecs_as_rows,
    image_to_scanner,
)

__all__ = [
    "B0_THRESHOLD",
    "B_UNITS",
    "NORM_EXACT",
    "NORM_TOLERANCE",
    "NO_B0",
    "SHELL_GAP",
    "SHELL_WIDTH",
    "GradientTable",
    "Shell",
    "bvecs_as_rows",
    "image_to_scanner",
    "in_s_per_mm2",
]
