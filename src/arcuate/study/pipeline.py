"""One subject, from the scan to every map: the steps in order, each written as soon as it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arcuate.errors import InputError
from arcuate.io.atomic import remove_abandoned
from arcuate.study.bids import Derivatives, input_facts, write_json, write_map
from arcuate.study.maps import Map, tensor_maps
from arcuate.study.stages import Listener, Stage, StageLog

if TYPE_CHECKING:
    from arcuate.dti import Dti
    from arcuate.dwi import Dwi
    from arcuate.resource import VolumeResource

STEPS = ("mask", "dti")


@dataclass(frozen=True)
class Settings:
    """What a run does, and how.

    Parameters
    ----------
    steps : names from ``STEPS``; empty for all that the scan and the machine allow
    mask_method : see :func:`arcuate.masks.extract_brain`
    """

    steps: tuple[str, ...] = ()
    mask_method: str = "auto"

    def __post_init__(self) -> None:
        unknown = [step for step in self.steps if step not in STEPS]
        if unknown:
            raise InputError(f"found the steps {', '.join(unknown)}; expected some of {', '.join(STEPS)}.")

    def wants(self, step: str) -> bool:
        """Whether the run does ``step``."""
        return not self.steps or step in self.steps

    def insists_on(self, step: str) -> bool:
        """Whether the user named ``step``: then what stands in its way is an error, and no reason to leave it out."""
        return step in self.steps


@dataclass
class SubjectResult:
    """Everything a run made, for the report and for the table that ends it."""

    names: Derivatives
    log: StageLog
    scan: Dwi
    denoised: Dwi | None = None
    mask: VolumeResource | None = None
    dti: Dti | None = None
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)  # sidecar facts by step


class _Writer:
    """Writes maps under their BIDS names with what every sidecar of this run says."""

    def __init__(self, names: Derivatives, inputs: dict[str, Path]) -> None:
        self.names = names
        self.common = {"Inputs": input_facts(inputs)}

    def image(self, name: str, volume: VolumeResource, facts: dict[str, Any]) -> VolumeResource:
        return write_map(volume, self.names.path(name), {**facts, **self.common})

    def maps(self, model: str, maps: Iterable[Map], facts: dict[str, Any]) -> None:
        for image in maps:
            write_map(image.volume, self.names.dwimap(model, image.param), {**image.facts, **facts, **self.common})


def run_subject(
    scan: Dwi,
    names: Derivatives,
    *,
    inputs: dict[str, Path],
    mask: VolumeResource | None = None,
    settings: Settings | None = None,
    listener: Listener | None = None,
) -> SubjectResult:
    """Run the pipeline on one scan and write its derivatives.

    Inside an open :class:`arcuate.cache.Cache` finished steps are not repeated.

    Parameters
    ----------
    scan : the scan; its voxels may still be on disk
    names : where the results go
    inputs : files that the results come from, by role, for the sidecars
    mask : (x, y, z); found from the b = 0 volumes if None
    settings : which steps, and how
    listener : told when a stage begins and ends

    Raises
    ------
    InputError
        The scan cannot be used, or a step that was asked for by name cannot be done with it.
    """
    settings = settings or Settings()
    run = SubjectResult(names, StageLog(listener), scan)
    for folder in (names.out, names.folder):
        remove_abandoned(folder)
    names.write_dataset_description()
    writer = _Writer(names, inputs)

    def stage(step: str, do: Callable[[SubjectResult, Settings, _Writer, Stage], None]) -> None:
        if not settings.wants(step):
            return
        try:
            with run.log.stage(step) as now:
                do(run, settings, writer, now)
        except InputError as error:
            if settings.insists_on(step) or step in {"mask", "dti"}:
                raise
            run.log.skip(step, str(error))

    if mask is not None:
        run.mask = mask
    else:
        stage("mask", _mask)
    stage("dti", _dti)
    write_json(names.path("timings.json"), {s.name: round(s.seconds, 3) for s in run.log.stages})
    return run


def _mask(run: SubjectResult, settings: Settings, writer: _Writer, now: Stage) -> None:
    from arcuate.masks import extract_brain, mask_quality, resolve_method, voxel_size

    run.mask = extract_brain(run.denoised or run.scan, method=settings.mask_method)
    quality = mask_quality(np.asarray(run.mask.get_array()) > 0, voxel_size(run.mask.get_affine()))
    facts = {
        "Type": "Brain",
        "Method": resolve_method(settings.mask_method),
        "B0Threshold": run.scan.b0_threshold,
        "VolumeMl": round(quality.volume_ml, 1),
    }
    writer.image("desc-brain_mask.nii.gz", run.mask, facts)
    run.facts["mask"] = facts
    now.facts = {"ml": round(quality.volume_ml), "method": facts["Method"]}


def _dti(run: SubjectResult, settings: Settings, writer: _Writer, now: Stage) -> None:
    dti = (run.denoised or run.scan).estimate_dti(run.mask)
    writer.maps("tensor", tensor_maps(dti), dti.parameters)
    run.dti = dti
    run.facts["dti"] = dti.parameters
    now.facts = {"voxels": dti.parameters["VoxelsByStatus"]}
