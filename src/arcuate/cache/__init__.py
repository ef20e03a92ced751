"""A cache of steps, keyed on what went in, never on paths or dates.

::

    from arcuate.cache import Cache, cacheable

    @cacheable(version=1)
    def estimate_dti(dwi: Dwi, mask: VolumeResource | None = None, *, b_max: float = 1500.0) -> Dti: ...

    @cacheable(version=1, outputs=("csd_peak_dirs", "csd_peak_values"))
    def compute_csd_peaks(dwi, mask, response, n_peaks=5): ...  # a tuple of two volumes

What a step may take as arguments: numbers, strings, None, enums, numpy arrays, volumes, b-values and b-vectors,
``pathlib.Path`` (the content of the file counts), lists, tuples, dicts and sets of these, and dataclasses of these (a
field made with ``field(compare=False)`` does not count). With anything else the step is computed, and not kept.

What a step may return: numbers, strings, None, numpy arrays, volumes, b-values and b-vectors, lists, tuples and dicts
of these, and dataclasses of these that are marked with ``@storable``; arrays and volumes bit for bit::

    @storable
    @dataclass(frozen=True)
    class Noddi:
        volume: VolumeResource
        directions: VolumeResource

A step that calls other steps says so, ``@cacheable(version=1, calls=(estimate_fods, find_fod_peaks))``, so that their
versions count.
"""

from __future__ import annotations

from arcuate.cache.fingerprints import UnknownValueError, fingerprint
from arcuate.cache.results import storable
from arcuate.cache.session import Cache, CacheWarning, StepCall, file_sha256
from arcuate.cache.step import CacheSpec, cacheable

__all__ = [
    "Cache", "CacheSpec", "CacheWarning", "StepCall", "UnknownValueError", "cacheable", "file_sha256", "fingerprint",
    "storable",
]  # fmt: skip
