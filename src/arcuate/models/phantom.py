"""Moved to :mod:`arcuate.phantom`; this name goes with version 0.3."""

import warnings

from arcuate.phantom import *  # noqa: F403

warnings.warn("arcuate.models.phantom is now arcuate.phantom", DeprecationWarning, stacklevel=2)
