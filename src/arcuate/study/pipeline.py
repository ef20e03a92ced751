"""One subject, from the scan to every map: the steps in order, each written as soon as it is done."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from arcuate.errors import InputError, MissingExtraError
from arcuate.io.atomic import remove_abandoned
from arcuate.study.bids import Derivatives, input_facts, write_json, write_map
from arcuate.study.maps import Map, noddi_maps, tensor_maps
from arcuate.study.stages import Listener, Stage, StageLog

if TYPE_CHECKING:
    from arcuate.csd import Fods
    from arcuate.dti import Dti
    from arcuate.dwi import Dwi
    from arcuate.models.response import Response
    from arcuate.noddi import Noddi
    from arcuate.volumes.resource import VolumeResource

STEPS = ("denoise", "mask", "dti", "noddi", "response", "fod", "peaks", "tracts")

DENOISE_METHODS = ("patch2self", "mppca", "none")


@dataclass(frozen=True)
class Settings:
    """What a run does, and how.

    Parameters
    ----------
    steps : names from ``STEPS``; empty for all that the scan and the machine allow
    denoise_method : see :func:`arcuate.denoise.run_denoising`; "none" for a scan that was denoised before
    mask_method : see :func:`arcuate.masks.extract_brain`
    response_algorithm : see :func:`arcuate.csd.estimate_response_function`
    n_peaks : peaks written per voxel
    """

    steps: tuple[str, ...] = ()
    denoise_method: str = "patch2self"
    mask_method: str = "auto"
    response_algorithm: str = "auto"
    n_peaks: int = 3

    def __post_init__(self) -> None:
        unknown = [step for step in self.steps if step not in STEPS]
        if unknown:
            raise InputError(f"found the steps {', '.join(unknown)}; expected some of {', '.join(STEPS)}.")
        if self.denoise_method not in DENOISE_METHODS:
            expected = ", ".join(DENOISE_METHODS)
            raise InputError(f"found the denoising method {self.denoise_method!r}; expected one of {expected}.")

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
    noddi: Noddi | None = None
    response: Response | None = None
    fods: Fods | None = None
    peaks: tuple[VolumeResource, VolumeResource] | None = None
    tracts: VolumeResource | None = None
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)  # sidecar facts by step
    on_disk: Dwi | None = None  # the denoised scan as it was written

    def release_signal(self, scan: Dwi) -> None:
        """Back to the ``scan`` as it was given and the denoised one on disk: no more model needs all their voxels."""
        self.scan, self.denoised = scan, self.on_disk

    def release_maps(self) -> None:
        """Let go of what the steps made: all of it lies on disk, where the report reads it."""
        self.dti = self.noddi = self.fods = self.peaks = self.tracts = None


class _Writer:
    """Writes maps under their BIDS names with what every sidecar of this run says."""

    def __init__(self, names: Derivatives, inputs: dict[str, Path]) -> None:
        self.names = names
        self.common = {"Inputs": input_facts(inputs)}

    def image(self, name: str, volume: VolumeResource, facts: dict[str, Any]) -> VolumeResource:
        return write_map(volume, self.names.path(name), {**facts, **self.common})

    def maps(self, model: str, maps: Iterable[Map], facts: dict[str, Any]) -> None:
        for image in maps:
            path = self.names.dwimap(model, image.param, image.label)
            write_map(image.volume, path, {**image.facts, **facts, **self.common})


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
        except (InputError, MissingExtraError) as error:
            if settings.insists_on(step) or step in {"mask", "dti"}:
                raise
            run.log.skip(step, str(error))

    if settings.denoise_method != "none":
        stage("denoise", _denoise)
    if run.denoised is None:
        run.scan = scan.load()  # else every step would read it from disk again
    if mask is not None:
        run.mask = mask
    else:
        stage("mask", _mask)
    stage("dti", _dti)
    stage("noddi", _noddi)
    stage("response", _response)
    if run.response is not None:
        stage("fod", _fod)
    run.release_signal(scan)
    if run.fods is not None:
        stage("peaks", _peaks)
        stage("tracts", _tracts)
    write_json(names.path("timings.json"), {s.name: round(s.seconds, 3) for s in run.log.stages})
    return run


def _denoise(run: SubjectResult, settings: Settings, writer: _Writer, now: Stage) -> None:
    from arcuate.denoise import residual_facts, run_denoising, shell_residuals
    from arcuate.io import FslBvalResource, FslBvecResource

    denoising = run_denoising(run.scan, method=cast(Any, settings.denoise_method))
    residual = residual_facts(shell_residuals(run.scan, denoising.dwi))
    facts = {**denoising.parameters, "Residual": residual}
    written = writer.image("desc-denoised_dwi.nii.gz", denoising.dwi.volume, facts)
    run.on_disk = replace(denoising.dwi, volume=written)
    FslBvalResource.save(denoising.dwi.bval, run.names.path("desc-denoised_dwi.bval"))
    FslBvecResource.save(denoising.dwi.bvec, run.names.path("desc-denoised_dwi.bvec"))
    writer.image("desc-noise_dwimap.nii.gz", denoising.noise, {"Type": "noise level", **denoising.parameters})
    run.denoised = denoising.dwi
    run.facts["denoise"] = facts
    now.facts = {"method": facts["Method"], "noise": f"{facts['MedianNoise']:.4g}", "clipped": facts["VoxelsClipped"]}


def _mask(run: SubjectResult, settings: Settings, writer: _Writer, now: Stage) -> None:
    from arcuate.masks import extract_brain, mask_facts

    run.mask = extract_brain(run.denoised or run.scan, method=settings.mask_method)
    facts = mask_facts(run.mask, run.scan, settings.mask_method)
    writer.image("desc-brain_mask.nii.gz", run.mask, facts)
    run.facts["mask"] = facts
    now.facts = {"ml": round(facts["VolumeMl"]), "method": facts["Method"]}


def _dti(run: SubjectResult, settings: Settings, writer: _Writer, now: Stage) -> None:
    dti = (run.denoised or run.scan).estimate_dti(run.mask)
    writer.maps("tensor", tensor_maps(dti), dti.parameters)
    run.dti = dti
    run.facts["dti"] = dti.parameters
    now.facts = {"voxels": dti.parameters["VoxelsByStatus"]}


def _noddi(run: SubjectResult, settings: Settings, writer: _Writer, now: Stage) -> None:
    noddi = (run.denoised or run.scan).estimate_noddi(run.mask)
    writer.maps("noddi", noddi_maps(noddi), noddi.parameters)
    run.noddi = noddi
    run.facts["noddi"] = noddi.parameters
    now.facts = {"voxels": noddi.parameters["VoxelsByStatus"]}


def _response(run: SubjectResult, settings: Settings, writer: _Writer, now: Stage) -> None:
    from arcuate.csd import estimate_response_function
    from arcuate.io.responses import write_response

    response = estimate_response_function(run.denoised or run.scan, run.mask, settings.response_algorithm)
    stem = f"{run.names.prefix}_model-{_csd_model(response)}_label-{{tissue}}_response"
    write_response(response, run.names.folder, stem)
    run.response = response
    run.facts["response"] = response.to_dict()
    now.facts = {"algorithm": response.algorithm, "tissues": ", ".join(response.tissues)}


def _fod(run: SubjectResult, settings: Settings, writer: _Writer, now: Stage) -> None:
    from arcuate.csd import estimate_fods
    from arcuate.study.maps import fod_maps

    assert run.response is not None
    fods = _normalised(estimate_fods(run.denoised or run.scan, run.mask, run.response), run.mask)
    maps = fod_maps(fods, is_multi_tissue=not run.response.is_single_shell)
    writer.maps(_csd_model(run.response), maps, fods.parameters)
    run.fods = fods
    run.facts["fod"] = fods.parameters
    now.facts = {"voxels": fods.parameters["VoxelsByStatus"]}


def _normalised(fods: Fods, mask: VolumeResource | None) -> Fods:
    """Tissues made comparable between places and subjects; as they are where there is one, or no sum to balance."""
    from arcuate.mtnormalise import mtnormalise

    if mask is None or len(fods.volumes) == 1:
        return fods
    try:
        result = mtnormalise(fods.volumes, mask)
    except InputError as error:
        return replace(fods, parameters={**fods.parameters, "IntensityNormalisation": f"left out: {error}"})
    return replace(
        fods,
        volumes=result.volumes,
        parameters={**fods.parameters, "IntensityNormalisation": result.parameters},
    )


def _peaks(run: SubjectResult, settings: Settings, writer: _Writer, now: Stage) -> None:
    from arcuate.csd import combine_csd_peaks_to_vector_volume, find_fod_peaks
    from arcuate.study.maps import peak_facts

    assert run.response is not None
    assert run.fods is not None
    white = run.fods.volumes[run.response.tissues[0]]
    directions, values = find_fod_peaks(white, run.mask, n_peaks=settings.n_peaks)
    defaults = inspect.signature(inspect.unwrap(find_fod_peaks)).parameters
    chosen = (float(defaults[name].default) for name in ("relative_peak_threshold", "min_separation_angle"))
    facts = peak_facts(settings.n_peaks, *chosen)
    path = writer.names.dwimap(_csd_model(run.response), "peaks")
    write_map(combine_csd_peaks_to_vector_volume(directions, values), path, {**facts, **writer.common})
    density = {
        "Units": "arbitrary",
        "Description": "apparent fibre density along each peak, strongest first: the amplitude of the FOD",
    }
    write_map(values, writer.names.dwimap(_csd_model(run.response), "peakafd"), {**density, **facts, **writer.common})
    run.peaks = directions, values
    run.facts["peaks"] = facts
    now.facts = {"voxels": int(np.sum(np.asarray(values.get_array())[..., 0] > 0))}


def _tracts(run: SubjectResult, settings: Settings, writer: _Writer, now: Stage) -> None:
    from arcuate.study.maps import tract_maps
    from arcuate.tractseg import find_fod_tracts, tract_facts

    assert run.response is not None
    assert run.fods is not None
    output_type = "tract_segmentation"
    run.tracts = find_fod_tracts(run.fods.volumes[run.response.tissues[0]], run.mask)
    facts = tract_facts(output_type)
    folder = writer.names.path("bundles")
    for image in tract_maps(run.tracts, output_type):
        write_map(image.volume, folder / f"{image.param}.nii.gz", {**image.facts, **facts, **writer.common})
    run.facts["tracts"] = facts
    now.facts = {"tracts": int(np.any(np.asarray(run.tracts.get_array()), axis=(0, 1, 2)).sum())}


def _csd_model(response: Response) -> str:
    """BIDS label of the model that a response decides."""
    return "csd" if response.is_single_shell else "msmtcsd"
