"""One subject, from the scan to every map: the steps of a plan in order, each written as soon as it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from arcuate.cache import cacheable
from arcuate.errors import NotApplicable, warn
from arcuate.io.atomic import remove_abandoned
from arcuate.study.bids import Derivatives, write_json
from arcuate.study.maps import (
    fod_maps,
    free_water_maps,
    kurtosis_maps,
    noddi_maps,
    normalised,
    peak_maps,
    tensor_maps,
)
from arcuate.study.outputs import REPORT, Outputs, possible_files, refuse_overwriting
from arcuate.study.plan import STAGES, STEPS, Plan, Settings, make_plan
from arcuate.study.regions import Atlas, write_regions
from arcuate.study.result import SubjectResult
from arcuate.study.stages import NOT_ASKED, Listener, Stage, StageLog, voxels_in_words
from arcuate.volumes.noise_map import check_noise_level
from arcuate.volumes.scale_steps import scale_doubts
from arcuate.volumes.voxels import check_mask

if TYPE_CHECKING:
    from arcuate.csd import FodPeaks, Fods
    from arcuate.dti import Dti
    from arcuate.dwi import Dwi
    from arcuate.freewater import FreeWater
    from arcuate.kurtosis import Dki
    from arcuate.masks import BrainMask
    from arcuate.models.response import Response
    from arcuate.noddi import Noddi
    from arcuate.tractseg import Tracts
    from arcuate.volumes.resource import VolumeResource

__all__ = ["STEPS", "Settings", "SubjectResult", "run_subject"]

T = TypeVar("T")


class _Run:
    """Does the steps of a plan one by one, times them, and leaves out what turns out not to apply to the scan."""

    def __init__(
        self, plan: Plan, outputs: Outputs, log: StageLog, written: Callable[[Outputs, str], None] | None
    ) -> None:
        self.plan, self.outputs, self.log, self.written = plan, outputs, log, written
        self.left_out = dict(plan.left_out)

    def do(self, step: str, make: Callable[..., T], *given: Any) -> T | None:
        """Result of ``make(*given, context)``; None where the plan, or the data, leave the step out.

        Raises
        ------
        InputError
            The step was asked for by name and does not apply to the scan; or an error of another class.
        """
        if step not in self.plan:
            if not self.left_out[step].startswith(NOT_ASKED):
                self.log.skip(step, self.left_out[step])
            return None
        try:
            missing = next((need for need in STAGES[step].needs if need in self.left_out), None)
            if missing is not None:
                raise NotApplicable(f"it needs the {missing}, which was left out.")
            with self.log.stage(step) as stage:
                made = make(*given, _Context(step, self.plan, self.outputs, stage))
            if self.written is not None:
                self.written(self.outputs, step)
            return made
        except NotApplicable as error:
            if self.plan.insists_on(step):
                raise
            self.left_out[step] = str(error)
            self.log.skip(step, str(error))
            return None

    def examine(self, examine: Callable[..., Any], scan: Dwi, inside: VolumeResource | None) -> Any:
        """What ``examine`` says of the scan; a stage of its own, and no step of the plan."""
        with self.log.stage("checks") as stage:
            found = examine(scan, inside)
            stage.words = "of signals, volumes and directions"
        return found


@dataclass(frozen=True)
class _Context:
    """What every step is told: what to do, where to write, and the stage that shows it."""

    step: str
    plan: Plan
    outputs: Outputs
    stage: Stage

    @property
    def made_from(self) -> tuple[str, ...]:
        """Steps whose results this one took, and the signal: denoised, or as it was given."""
        needs = STAGES[self.step].needs
        is_denoised = "denoise" in self.plan and self.step != "denoise"
        signal = () if "fod" in needs else ("denoise",) if is_denoised else ("dwi",)
        return (*signal, *needs)

    def image(self, name: str, volume: VolumeResource, facts: dict[str, Any], role: str) -> VolumeResource:
        """Write one image of the step."""
        return self.outputs.image(name, volume, facts, role=role, step=self.step, made_from=self.made_from)

    def end(self, facts: dict[str, Any], words: str) -> None:
        """Note what the step says of itself: facts for the sidecars' readers, words for the log."""
        self.outputs.note(self.step, facts, self.stage.warnings)
        self.stage.facts, self.stage.words = facts, words


def run_subject(
    scan: Dwi,
    names: Derivatives,
    *,
    inputs: dict[str, Path],
    mask: VolumeResource | None = None,
    settings: Settings | None = None,
    listener: Listener | None = None,
    plan: Plan | None = None,
    response: Response | None = None,
    atlas: Atlas | None = None,
    keeps_maps: bool = True,
    examine: Callable[[Dwi, VolumeResource | None], Any] | None = None,
    written: Callable[[Outputs, str], None] | None = None,
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
    plan : one that was made of the same scan, mask, settings and response; made here if None
    response : one that was made before, as that of a group; estimated if None
    atlas : regions for a table of the maps; no table if None
    keeps_maps : whether the result holds the maps; without, they are on disk alone as soon as no step needs them
    examine : shown the scan as it was given, not where it is denoised, and the mask; what it says is in the result
    written : told of each step whose files were written, by its name, with the list of them; the next step waits for it

    Raises
    ------
    InputError
        The scan or the noise map cannot be used, an output would overwrite an input, a step that was asked for by name
        cannot be done with the scan, or another run writes the same results at this moment.
    """
    plan = plan or make_plan(scan, settings or Settings(), mask, response, atlas)
    given = None if mask is None else _as_drawn(mask, scan)
    refuse_overwriting(possible_files(names), inputs)
    check_noise_level(scan, plan.noise, rician=plan.settings.rician)
    with names.written_alone():
        run = _Run(plan, _open_outputs(Outputs(names, inputs, scan.origin), plan), StageLog(listener), written)
        return _do_steps(run, scan, given, response, atlas, keeps_maps=keeps_maps, examine=examine)


def _do_steps(
    run: _Run,
    scan: Dwi,
    given: VolumeResource | None,
    response: Response | None,
    atlas: Atlas | None,
    *,
    keeps_maps: bool,
    examine: Callable[[Dwi, VolumeResource | None], Any] | None,
) -> SubjectResult:
    """The steps in their order, and what they made; see :func:`run_subject`."""
    plan, doubts = run.plan, _warn_of_scales(scan)
    denoised = run.do("denoise", _denoise, scan)
    signal = denoised.signal if denoised else scan.load()  # else every step would read it from disk again
    brain = run.do("mask", _mask, signal, given)
    inside = brain.volume if brain else None
    examined = run.examine(examine, signal, inside) if examine is not None and denoised is None else None
    keep: Callable[[Any], Any] = (lambda maps: maps) if keeps_maps or "regions" in plan else (lambda maps: None)
    dti = keep(run.do("dti", _dti, signal, inside, denoised.noise if denoised else None))
    kurtosis = keep(run.do("kurtosis", _kurtosis, signal, inside))
    water = keep(run.do("freewater", _free_water, signal, inside))
    noddi = keep(run.do("noddi", _noddi, signal, inside))
    response = run.do("response", _response, signal, inside, response)
    on_disk = denoised.on_disk if denoised else None
    last = [signal]
    del signal, denoised  # FODs take it from the list: no later step needs the voxels of the scan
    fods = run.do("fod", _fod, last, inside, response)
    last.clear()
    peaks = run.do("peaks", _peaks, fods, inside, response)
    tracts = run.do("tracts", _tracts, fods, inside, response)
    run.do("regions", write_regions, atlas, scan, inside, (dti, kurtosis, noddi))
    result = SubjectResult(
        plan=plan,
        outputs=run.outputs,
        log=run.log,
        scan=scan,
        examined=examined,
        denoised=on_disk,
        mask=inside,
        dti=dti,
        kurtosis=kurtosis,
        water=water,
        noddi=noddi,
        response=response,
        fods=fods,
        peaks=(peaks.directions, peaks.values) if peaks else None,
        tracts=tracts.volume if tracts else None,
        doubts=doubts,
        notes=_close_outputs(run),
    )
    return result if keeps_maps else result.without_maps()


def _open_outputs(outputs: Outputs, plan: Plan) -> Outputs:
    for folder in (outputs.names.out, outputs.names.folder):
        remove_abandoned(folder)
    outputs.names.write_dataset_description(outputs.links)
    outputs.describe(options=vars(plan.settings), left_out=plan.left_out)
    outputs.save()  # from here on a later run knows what lies here as a run's
    return outputs


def _close_outputs(run: _Run) -> tuple[str, ...]:
    path = run.outputs.names.path("timings.json")
    write_json(path, {stage.name: round(stage.seconds, 3) for stage in run.log.stages if stage.skipped is None})
    run.outputs.add_unhashed(path, role="timings", step=REPORT)
    run.outputs.describe(left_out=run.left_out)
    return tuple(run.outputs.finish())


def _warn_of_scales(scan: Dwi) -> tuple[str, ...]:
    """Warn where parts of the scan have several scales of intensity; the sentences."""
    if np.count_nonzero(scan.gradients.is_b0) < 2 and "Parts" not in scan.origin:
        return ()
    doubts = find_scale_doubts(scan)
    for doubt in doubts:
        warn(doubt)
    return tuple(doubts)


@cacheable(version=1)
def find_scale_doubts(scan: Dwi) -> list[str]:
    """What the b = 0 volumes say against one scale of intensity in all of the scan, a sentence each."""
    return scale_doubts(scan.find_parts())


def _as_drawn(mask: VolumeResource, scan: Dwi) -> VolumeResource:
    """The mask as the run uses it, (x, y, z) uint8 of 0 and 1 on the grid of the scan; checked."""
    return scan.volume.with_array(check_mask(scan.volume, mask).astype(np.uint8))


@dataclass(frozen=True, eq=False)
class _Denoised:
    """A denoised scan, in memory for the steps and on disk for the report."""

    signal: Dwi
    on_disk: Dwi
    noise: VolumeResource  # (x, y, z), unit of the signal


def _denoise(scan: Dwi, to: _Context) -> _Denoised:
    from arcuate.denoise import residual_facts, run_denoising, shell_residuals
    from arcuate.io import FslBvalResource, FslBvecResource

    scan = scan.load()  # once: what is left of it is looked at, too
    denoising = run_denoising(scan, method=cast(Any, to.plan.how("denoise")))
    facts = {**denoising.parameters, "Residual": residual_facts(shell_residuals(scan, denoising.dwi))}
    on_disk = replace(
        denoising.dwi,
        volume=to.image(
            "desc-denoised_dwi.nii.gz", denoising.dwi.volume, {**facts, "SkullStripped": False}, "denoised"
        ),
    )
    for role, resource, vectors in (("bval", FslBvalResource, on_disk.bval), ("bvec", FslBvecResource, on_disk.bvec)):
        path = to.outputs.check(to.outputs.names.path(f"desc-denoised_dwi.{role}"))
        resource.save(vectors, path)
        to.outputs.add(path, role=role, step="denoise", made_from=to.made_from)
    noise = {"Type": "noise level", **denoising.parameters}
    to.image("desc-noise_dwimap.nii.gz", denoising.noise, noise, "noise")
    clipped = facts["VoxelsClipped"]
    words = f"{facts['Method']}: median noise {facts['MedianNoise']:.4g}"
    to.end(facts, words + (f"; negative signals raised to 0 in {clipped} voxels" if clipped else ""))
    return _Denoised(denoising.dwi, on_disk, denoising.noise)


def _mask(signal: Dwi, given: VolumeResource | None, to: _Context) -> BrainMask:
    from arcuate.masks import describe_mask, find_brain

    brain = describe_mask(given) if given is not None else find_brain(signal, method=to.plan.settings.mask_method)
    facts = brain.parameters
    to.image("desc-brain_mask.nii.gz", brain.volume, facts, "mask")
    to.end(facts, f"{facts['VolumeMl']:.4g} ml, {'as it was given' if given is not None else facts['Method']}")
    return brain


def _dti(signal: Dwi, inside: VolumeResource | None, noise: VolumeResource | None, to: _Context) -> Dti:
    robust, rician = to.plan.settings.robust, to.plan.settings.rician
    known = to.plan.noise if to.plan.noise is not None or not robust else noise
    dti = signal.estimate_dti(inside, robust=robust, rician=rician, noise=known)
    to.outputs.maps(
        "tensor", tensor_maps(dti, to.plan.settings.tensor_order), dti.parameters, step="dti", made_from=to.made_from
    )
    to.end(dti.parameters, voxels_in_words(dti.parameters["VoxelsByStatus"]))
    return dti


def _kurtosis(signal: Dwi, inside: VolumeResource | None, to: _Context) -> Dki:
    dki = signal.estimate_dki(inside, wmti=to.plan.settings.wmti)
    maps = kurtosis_maps(dki, to.plan.settings.tensor_order)
    to.outputs.maps("kurtosis", maps, dki.parameters, step="kurtosis", made_from=to.made_from)
    to.end(dki.parameters, voxels_in_words(dki.parameters["VoxelsByStatus"]))
    return dki


def _free_water(signal: Dwi, inside: VolumeResource | None, to: _Context) -> FreeWater:
    water = signal.estimate_free_water(inside)
    maps = free_water_maps(water, to.plan.settings.tensor_order)
    to.outputs.maps("fwdti", maps, water.parameters, step="freewater", made_from=to.made_from)
    to.end(water.parameters, voxels_in_words(water.parameters["VoxelsByStatus"]))
    return water


def _noddi(signal: Dwi, inside: VolumeResource | None, to: _Context) -> Noddi:
    noddi = signal.estimate_noddi(inside)
    to.outputs.maps("noddi", noddi_maps(noddi), noddi.parameters, step="noddi", made_from=to.made_from)
    to.end(noddi.parameters, voxels_in_words(noddi.parameters["VoxelsByStatus"]))
    return noddi


def _response(signal: Dwi, inside: VolumeResource | None, given: Response | None, to: _Context) -> Response:
    from arcuate.csd import estimate_response_function
    from arcuate.io.responses import write_response

    if given is not None:
        response = given.on_shells_of(signal.gradients)
    else:
        response = estimate_response_function(signal, inside, to.plan.how("response"))
    names = to.outputs.names
    stem = f"{names.prefix}_model-{csd_model(response)}".replace("{", "{{").replace("}", "}}")
    for i, path in enumerate(write_response(response, names.folder, stem + "_label-{tissue}_response")):
        label = response.tissues[i // 2]
        to.outputs.add(path, role="response", step="response", made_from=to.made_from, label=label)
    shells = ", ".join(f"{b:.0f}" for b in response.shells)
    to.end(response.to_dict(), f"{response.algorithm}: {' '.join(response.tissues)} at b = {shells} s/mm²")
    return response


def _fod(scan: list[Dwi], inside: VolumeResource | None, response: Response, to: _Context) -> Fods:
    """FODs of the one scan in the list, which is taken out: its voxels go before the FODs are there twice."""
    from arcuate.csd import estimate_fods

    found = estimate_fods(scan.pop(), inside, response, second_pass=to.plan.settings.second_pass)
    fods = normalised(found, inside)
    maps = fod_maps(fods, is_multi_tissue=not response.is_single_shell)
    to.outputs.maps(csd_model(response), maps, fods.parameters, step="fod", made_from=to.made_from)
    to.end(fods.parameters, voxels_in_words(fods.parameters["VoxelsByStatus"]))
    return fods


def _peaks(fods: Fods, inside: VolumeResource | None, response: Response, to: _Context) -> FodPeaks:
    from arcuate.csd import locate_fod_peaks

    white, n_peaks = fods.volumes[response.tissues[0]], to.plan.settings.n_peaks
    peaks = locate_fod_peaks(white, inside, n_peaks=n_peaks, response=response)
    maps = peak_maps(peaks)
    to.outputs.maps(csd_model(response), maps, peaks.parameters, step="peaks", made_from=to.made_from)
    n_found = int(np.sum(np.asarray(peaks.values.get_array())[..., 0] > 0))
    to.end(peaks.parameters, f"found in {n_found} voxels, at most {peaks.parameters['NPeaks']} each")
    return peaks


def _tracts(fods: Fods, inside: VolumeResource | None, response: Response, to: _Context) -> Tracts:
    from arcuate.study.maps import tract_maps
    from arcuate.tractseg import locate_fod_tracts

    tracts = locate_fod_tracts(fods.volumes[response.tissues[0]], inside)
    images = tract_maps(tracts.volume, tracts.parameters["OutputType"])
    for i, image in enumerate(images):
        facts, role = {**image.facts, **tracts.parameters}, "tract" if i else "tracts"
        to.outputs.tract(image, facts, role=role, made_from=to.made_from)
    n_found = int(np.any(np.asarray(tracts.volume.get_array()), axis=(0, 1, 2)).sum())
    to.end({**tracts.parameters, "TractsFound": n_found}, f"{n_found} of {len(images) - 1} tracts found")
    return tracts


def csd_model(response: Response) -> str:
    """BIDS label of the model that a response decides."""
    return "csd" if response.is_single_shell else "msmtcsd"
