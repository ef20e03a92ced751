"""A head whose truth is known in every voxel, and the signals a scanner would measure of it.

No fitting model is used here, and none shares this code: a fit that recovers the phantom's truth has been tested
against an independent calculation.
"""

import arcuate.numerics  # noqa: F401  # settles the place of kernels before one is decorated
from arcuate.phantom.anatomy import REGIONS
from arcuate.phantom.bundles import BUNDLE_NAMES
from arcuate.phantom.image import Phantom, make_phantom
from arcuate.phantom.scheme import spread_directions, three_shell_gradients
from arcuate.phantom.signal import TRUTHS, add_rician_noise, simulate_rows, tensor_signals

__all__ = [
    "BUNDLE_NAMES",
    "REGIONS",
    "TRUTHS",
    "Phantom",
    "add_rician_noise",
    "make_phantom",
    "simulate_rows",
    "spread_directions",
    "tensor_signals",
    "three_shell_gradients",
]
