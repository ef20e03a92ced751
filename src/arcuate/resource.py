"""kwneuro's name for :mod:`arcuate.volumes.resource`: scripts that come from there keep their imports."""

from arcuate.volumes.resource import (
    InMemoryBvalResource,
    InMemoryBvecResource,
    InMemoryVolumeResource,
    Resource,
    VectorResource,
    VolumeResource,
)

BvalResource = BvecResource = VectorResource

__all__ = [
    "BvalResource",
    "BvecResource",
    "InMemoryBvalResource",
    "InMemoryBvecResource",
    "InMemoryVolumeResource",
    "Resource",
    "VolumeResource",
]
