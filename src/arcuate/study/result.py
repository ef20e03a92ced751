"""What a run of one subject made, as the report, the demo and the closing words take it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from arcuate.study.outputs import Outputs
from arcuate.study.plan import Plan
from arcuate.study.stages import StageLog

if TYPE_CHECKING:
    from arcuate.csd import Fods
    from arcuate.dti import Dti
    from arcuate.dwi import Dwi
    from arcuate.freewater import FreeWater
    from arcuate.kurtosis import Dki
    from arcuate.models.response import Response
    from arcuate.noddi import Noddi
    from arcuate.study.bids import Derivatives
    from arcuate.volumes.resource import VolumeResource


@dataclass(frozen=True, eq=False)
class SubjectResult:
    """What a run made: None for a step that it left out."""

    plan: Plan
    outputs: Outputs
    log: StageLog
    scan: Dwi  # as it was given
    examined: Any = None  # what ``examine`` said of the scan, None where it was not at hand
    denoised: Dwi | None = None  # on disk
    mask: VolumeResource | None = None  # (x, y, z) of 0 and 1
    dti: Dti | None = None
    kurtosis: Dki | None = None
    water: FreeWater | None = None
    noddi: Noddi | None = None
    response: Response | None = None
    fods: Fods | None = None
    peaks: tuple[VolumeResource, VolumeResource] | None = None
    tracts: VolumeResource | None = None
    doubts: tuple[str, ...] = ()  # about the scan, said while it was at hand
    notes: tuple[str, ...] = ()  # sentences about what was found in the output folder

    @property
    def names(self) -> Derivatives:
        """Where the results lie."""
        return self.outputs.names

    def without_maps(self) -> SubjectResult:
        """The same run with its maps on disk alone, where the report reads them."""
        return replace(self, dti=None, kurtosis=None, water=None, noddi=None, fods=None, peaks=None, tracts=None)
