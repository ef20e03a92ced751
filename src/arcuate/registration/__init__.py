"""Registration: images brought together by ANTs, and what lies in one brought to the other, directions turned along."""

from arcuate.registration.resampling import KINDS
from arcuate.registration.steps import (
    SEED,
    register_dwi_to_structural,
    register_volumes,
    register_volumes_multimetric,
)
from arcuate.registration.transforms import InverseTransform, TransformResource

__all__ = [
    "KINDS",
    "SEED",
    "InverseTransform",
    "TransformResource",
    "register_dwi_to_structural",
    "register_volumes",
    "register_volumes_multimetric",
]
