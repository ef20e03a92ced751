"""Moved to :mod:`arcuate.volumes.resource`; this name goes with version 0.3."""

import warnings

from arcuate.volumes.resource import *  # noqa: F403

warnings.warn("arcuate.resource is now arcuate.volumes.resource", DeprecationWarning, stacklevel=2)
