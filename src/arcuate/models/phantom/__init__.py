"""A head whose truth is known in every voxel, and the signals a scanner would measure of it.

No fitting model is used here, and none shares this code: a fit that recovers the phantom's truth has been tested
against an independent calculation.
"""

from arcuate.models.phantom.anatomy import REGIONS
from arcuate.models.phantom.bundles import BUNDLE_NAMES
from arcuate.models.phantom.image import Phantom, make_phantom
from arcuate.models.phantom.scheme import spread_directions, three_shell_gradients
from arcuate.models.phantom.signal import TRUTHS, add_rician_noise, simulate_rows, tensor_signals

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
