"""Which maxima of a fibre orientation distribution count as peaks: the response decides."""

from __future__ import annotations

from typing import NamedTuple

from arcuate.models.response import Response


class PeakRule(NamedTuple):
    """What a maximum must be to count."""

    relative_peak_threshold: float  # of the strongest peak of the voxel
    min_separation_angle: float  # degrees; of two maxima closer than this the stronger counts
    min_amplitude: float  # unit of the FOD: a voxel of one coherent bundle has a peak near 1

    def changed(
        self, relative_peak_threshold: float | None, min_separation_angle: float | None, min_amplitude: float | None
    ) -> PeakRule:
        """The rule with what was asked for in place of its own."""
        asked = (relative_peak_threshold, min_separation_angle, min_amplitude)
        return PeakRule(*(own if value is None else value for value, own in zip(asked, self, strict=True)))


SOFT = PeakRule(0.5, 25.0, 0.0)
HARD = PeakRule(0.2, 15.0, 0.1)
ALL_MAXIMA = PeakRule(0.0, 0.0, 0.0)  # as MRtrix3's sh2peaks
NETWORK = PeakRule(0.0, 25.0, 0.0)  # what TractSeg's networks were made for: every maximum, however weak


def peak_rule_of(response: Response | None) -> PeakRule:
    """The rule for FODs of a response; that of soft FODs without one.

    Multi-tissue FODs are non-negative everywhere and leave next to nothing in grey matter and fluid, so an absolute
    threshold parts fibres from the rest, and a low relative one keeps fibres of a third. Those of the soft method
    (one tissue on one shell) have low lobes all over, which only a high relative threshold keeps out.
    """
    return SOFT if response is None or response.is_single_shell else HARD
