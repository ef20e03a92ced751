"""A cache of steps, keyed on what went in, never on paths or dates.

::

    from arcuate.cache import Cache, cacheable

    @cacheable(version=1)
    def estimate_dti(dwi: Dwi, mask: VolumeResource | None = None, *, b_max: float = 1500.0) -> Dti: ...

    @cacheable(version=1, outputs=("csd_peak_dirs", "csd_peak_values"))
    def compute_csd_peaks(dwi, mask, response, n_peaks=5): ...  # a tuple of two volumes

What a step may take as arguments: numbers, strings, None, enums, numpy arrays, volumes, b-values and b-vectors,
``pathlib.Path`` (the content of the file counts), lists, tuples, dicts and sets of these, dataclasses of these (a
field made with ``field(compare=False)`` does not count), and objects with ``to_cache``. With anything else the step
is computed, and not kept.

What a step may return: the same, arrays and volumes bit for bit. A class that is no dataclass, or whose fields are not
what should be kept, says so itself::

    class Noddi:
        def to_cache(self) -> tuple[dict[str, VolumeResource], dict[str, Any]]:
            return {"volume": self.volume, "directions": self.directions}, {"d_par": self.d_par}

        @classmethod
        def from_cache(cls, volumes: dict[str, VolumeResource], facts: dict[str, Any]) -> Noddi:
            return cls(volumes["volume"], volumes["directions"], facts["d_par"])

with ``@cacheable(version=1, outputs={"volume": "estimate_noddi", "directions": "estimate_noddi_directions"})`` above
the step. Facts are what JSON and this list can hold.
"""

from __future__ import annotations

from arcuate.cache.fingerprints import UnknownValueError, fingerprint
from arcuate.cache.session import Cache, CacheWarning, StepCall, file_sha256
from arcuate.cache.step import cacheable

__all__ = ["Cache", "CacheWarning", "StepCall", "UnknownValueError", "cacheable", "file_sha256", "fingerprint"]
