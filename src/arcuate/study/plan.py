"""What a run will do: decided and checked before the first voxel of the scan is read.

A run is three things: this plan, the pipeline that does it (:mod:`arcuate.study.pipeline`), and the list of what it
wrote (:mod:`arcuate.study.outputs`), from which the report is drawn.

To add a stage, make one edit in each of the three:

1. here, a line in ``STAGES`` in the order of the run: its name, the stages whose results it takes, and a function that
   says in words how it will be done with this scan, or raises :class:`~arcuate.errors.NotApplicable` with the reason;
2. in ``pipeline.py``, a function that does it and writes its maps, and its line in ``run_subject``;
3. in ``outputs.py``, a line in ``FILES`` with the names of its files.

A sentence for the methods paragraph goes to ``arcuate/report/methods.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from arcuate import denoise, masks
from arcuate.csd import ALGORITHMS
from arcuate.csd.peaks import N_WRITTEN
from arcuate.dti import TENSOR_ORDERS
from arcuate.errors import InputError, MissingExtraError, NotApplicable, did_you_mean, silenced_warnings
from arcuate.io.sidecars import sidecars_of
from arcuate.nets.brain import is_installed
from arcuate.study.idle_options import warn_of_idle_options
from arcuate.study.stages import NOT_ASKED
from arcuate.volumes.noise_map import check_noise

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.models.response import Response
    from arcuate.study.regions import Atlas
    from arcuate.volumes.resource import VolumeResource

REGIONS = "regions"  # the step of an atlas
GIVEN = "given"  # how a mask or a response comes that the user gave
RESPONSE_TISSUES = ("wm", "gm", "csf")
DENOISE_METHODS = ("auto", *denoise.METHODS, "none")


@dataclass(frozen=True)
class Settings:
    """What a user asks of a run.

    Parameters
    ----------
    steps : names from ``STEPS``; empty, or "all" among them, for all that the scan and the machine allow but those of
        ``ON_REQUEST``
    denoise_method : "auto", see :func:`arcuate.denoise.choose_denoising`; or one of :func:`run_denoising`'s, or "none"
    mask_method : see :func:`arcuate.masks.extract_brain`
    response_algorithm : see :func:`arcuate.csd.estimate_response_function`
    n_peaks : peaks written per voxel
    robust : whether the tensor leaves out volumes that do not fit, see :meth:`arcuate.dti.Dti.estimate_dti`
    rician : whether the tensor is fitted by maximum likelihood under Rician noise, see there; needs a noise map
    wmti : whether kurtosis comes with tract integrity, see :meth:`arcuate.kurtosis.Dki.estimate_dki`
    tensor_order : of the six elements of tensors in files, "fsl" or "mrtrix"
    second_pass : whether crossings are fitted once more, see :func:`arcuate.csd.estimate_fods`

    Raises
    ------
    InputError
        A name that is not known, or two options that contradict each other.
    """

    steps: tuple[str, ...] = ()
    denoise_method: str = "auto"
    mask_method: str = "auto"
    response_algorithm: str = "auto"
    n_peaks: int = N_WRITTEN
    robust: bool = False
    rician: bool = False
    wmti: bool = False
    tensor_order: str = "fsl"
    second_pass: bool | None = None

    def __post_init__(self) -> None:
        unknown = [step for step in self.steps if step not in (*STEPS, ALL)]
        if unknown:
            meant = did_you_mean(unknown[0], STEPS)
            raise InputError(f"found the steps {', '.join(unknown)}; expected some of {', '.join(STEPS)}.{meant}")
        _check_choice("denoising method", self.denoise_method, DENOISE_METHODS)
        _check_choice("mask method", self.mask_method, masks.METHODS)
        _check_choice("tensor order", self.tensor_order, tuple(TENSOR_ORDERS))
        _check_choice("response algorithm", self.response_algorithm, ALGORITHMS)
        if "denoise" in self.steps and self.denoise_method == "none":
            raise InputError("found the step denoise together with the denoising method none; leave out one of them.")
        if self.n_peaks < 1:
            raise InputError(f"found n_peaks = {self.n_peaks}; expected 1 or more.")

    def insists_on(self, step: str) -> bool:
        """Whether the user named ``step``: then what stands in its way is an error, and no reason to leave it out."""
        return step in self.steps


class Step(NamedTuple):
    """One step of a plan."""

    how: str  # "otsu", "tournier" ...: the method where there is a choice, else empty
    needed_by: str  # a step that the user named and that takes its result; empty where it is wanted for itself
    is_insisted_on: bool  # named by the user, or needed by what was named


@dataclass(frozen=True)
class Plan:
    """Which steps a run does and how, and why the others are left out.

    Parameters
    ----------
    settings : what was asked for
    steps : those to be done, in their order
    left_out : one sentence for each step that was wanted and cannot be done, or that nobody asked for
    remarks : sentences that say why a step is done as it is
    noise : the noise map that was given for the tensor, if any
    """

    settings: Settings
    steps: dict[str, Step]
    left_out: dict[str, str]
    remarks: tuple[str, ...] = ()
    noise: VolumeResource | None = None

    def __contains__(self, step: str) -> bool:
        return step in self.steps

    def how(self, step: str) -> str:
        """The method of a step that is done."""
        return self.steps[step].how

    def insists_on(self, step: str) -> bool:
        """Whether a step must not be left out."""
        return step in self.steps and self.steps[step].is_insisted_on

    @property
    def sentences(self) -> list[str]:
        """The plan in words, for the log."""
        names = [f"{name} ({step.how})" if step.how else name for name, step in self.steps.items()]
        words = [f"plan: {', '.join(names)}", *self.remarks]
        for name, step in self.steps.items():
            if step.needed_by and step.how != GIVEN:
                words.append(f"{name} was not named and is done because {step.needed_by} needs it")
        return words


class _Case(NamedTuple):
    """What a plan is made from."""

    scan: Dwi
    settings: Settings
    has_mask: bool
    remarks: list[str]  # why steps are done as they are, for the log
    response: Response | None = None
    atlas: Atlas | None = None


class Stage(NamedTuple):
    """What the plan knows of one kind of step."""

    needs: tuple[str, ...]
    plan: Callable[[_Case], str]


def make_plan(
    scan: Dwi, settings: Settings, mask: Any = None, response: Response | None = None, atlas: Atlas | None = None,
    *, noise: VolumeResource | None = None,
) -> Plan:  # fmt: skip
    """The plan for a scan, from its header and gradients, the options, and what is installed.

    Parameters
    ----------
    scan : none of its voxels is read
    settings : what is asked for
    mask : the brain mask that was given, if any; see :func:`arcuate.volumes.voxels.check_mask` for what it must be
    response : the response that was given, if any, as that of a group
    atlas : the regions of the table, if any
    noise : the noise map (x, y, z) for a robust or a Rician tensor, if any

    Raises
    ------
    InputError
        The gradients do not fit the scan, or a step that was named (or that it needs) cannot be done with the scan.
    MissingExtraError
        What was asked for by name is not installed.
    """
    _ = scan.gradients.levels  # warnings about the b-values are heard here
    check_noise(scan.volume, noise, robust=settings.robust, rician=settings.rician)
    case = _Case(scan, settings, mask is not None, [], response, atlas)
    wanted = _wanted(settings, atlas is not None)
    steps: dict[str, Step] = {}
    left_out: dict[str, str] = {}
    for name, stage in STAGES.items():
        if name == REGIONS and atlas is None and not settings.insists_on(name):
            left_out[name] = f"{NOT_ASKED}: no atlas was given."
            continue
        if name not in wanted:
            left_out[name] = _why_not_wanted(name, settings)
            continue
        needed_by = wanted[name]
        is_insisted_on = settings.insists_on(needed_by or name)
        missing = next((need for need in stage.needs if need in left_out), None)
        try:
            if missing is not None:
                raise NotApplicable(f"it needs the {missing}, which is left out.")
            steps[name] = Step(stage.plan(case), needed_by, is_insisted_on)
        except (NotApplicable, MissingExtraError) as error:
            if is_insisted_on and needed_by:
                raise InputError(f"{needed_by} needs {name}, which cannot be done: {error}") from error
            if is_insisted_on:
                raise
            left_out[name] = str(error)
    warn_of_idle_options(settings, left_out)
    if settings.rician and {"denoise", "dti"} <= steps.keys():
        raise InputError(
            "found rician (--rician) for a scan that is denoised first: what is left has no Rician noise of the map's "
            "level. Leave one of the two out."
        )
    return Plan(settings, steps, left_out, tuple(case.remarks), noise)


def _wanted(settings: Settings, has_atlas: bool) -> dict[str, str]:
    """Steps to be done, each with the named step that needs it, which is empty for those wanted for themselves."""
    named = [step for step in settings.steps if step != ALL]
    wanted = dict.fromkeys(named, "")
    if not named or ALL in settings.steps:
        default = {name: "" for name in STEPS if name not in ON_REQUEST}
        if settings.denoise_method == "none":
            del default["denoise"]
        return default | wanted
    if has_atlas:
        wanted[REGIONS] = ""  # an atlas was given, and with it the step
    if settings.denoise_method not in {"auto", "none"}:
        wanted["denoise"] = ""  # a method was named, and with it the step
    for name in reversed(STEPS):
        if name in wanted:
            for need in STAGES[name].needs:
                wanted.setdefault(need, wanted[name] or name)
    return wanted


def _why_not_wanted(name: str, settings: Settings) -> str:
    if name == "denoise" and settings.denoise_method == "none":
        return f"{NOT_ASKED}: the denoising method is none."
    if name in ON_REQUEST and (not settings.steps or ALL in settings.steps):
        return f"{NOT_ASKED}: it is done where it is named (--steps {ALL},{name})."
    return f"{NOT_ASKED}: other steps were named."


def _check_choice(what: str, found: str, expected: tuple[str, ...]) -> None:
    if found not in expected:
        raise InputError(f"found the {what} {found!r}; expected one of {', '.join(expected)}.")


def _plan_denoise(case: _Case) -> str:
    settings = case.settings
    choice = denoise.choose_denoising(
        case.scan.gradients,
        sidecars_of(case.scan.volume),
        asked=settings.denoise_method,
        is_step_named="denoise" in settings.steps,
    )
    method = choice.method
    if method == "none":
        raise NotApplicable(choice.reason)
    is_b0 = case.scan.gradients.is_b0
    if method == "patch2self" and max(is_b0.sum(), (~is_b0).sum()) < 2:
        raise NotApplicable(
            f"patch2self predicts a volume from others of its kind; found {is_b0.sum()} volumes of b=0 and "
            f"{(~is_b0).sum()} weighted ones, expected two or more of one kind."
        )
    if len(is_b0) < 2:
        raise NotApplicable("denoising needs two volumes or more; found one.")
    case.remarks.append(choice.reason)
    return method


def _plan_mask(case: _Case) -> str:
    if case.has_mask:
        return GIVEN
    method = masks.resolve_method(case.settings.mask_method, case.scan)
    if method == "hdbet" and not is_installed():
        raise MissingExtraError("HD-BET", "hdbet", "the mask method hdbet")
    return method


def _plan_dti(case: _Case) -> str:
    from arcuate.models.robust_tensor import prepare_robust_tensor
    from arcuate.models.tensor import select_volumes

    with silenced_warnings():  # of the checks of a model: the step itself gives them again
        if not case.settings.robust:
            select_volumes(case.scan.gradients)
            return "rician" if case.settings.rician else ""
        prepare_robust_tensor(case.scan.gradients)
    return "robust"


def _plan_kurtosis(case: _Case) -> str:
    from arcuate.models.kurtosis import select_kurtosis_volumes

    with silenced_warnings():
        select_kurtosis_volumes(case.scan.gradients)
    return ""


def _plan_free_water(case: _Case) -> str:
    from arcuate.models.free_water import prepare_free_water

    with silenced_warnings():
        prepare_free_water(case.scan.gradients)
    return ""


def _plan_noddi(case: _Case) -> str:
    from arcuate.models.noddi import check_noddi_gradients

    with silenced_warnings():
        check_noddi_gradients(case.scan.gradients)
    return ""


def _plan_response(case: _Case) -> str:
    from arcuate.csd.responses import check_response_gradients

    if case.response is not None:
        _check_given_response(case.response)
        return GIVEN
    with silenced_warnings():
        check_response_gradients(case.scan.gradients, case.settings.response_algorithm)
    return case.settings.response_algorithm


def _check_given_response(response: Response) -> None:
    """Refuse tissues that the names of the results have no word for."""
    unknown = [tissue for tissue in response.tissues if tissue not in RESPONSE_TISSUES]
    if unknown:
        raise InputError(
            f"found a response of {', '.join(unknown)}; a run takes those of {', '.join(RESPONSE_TISSUES)}. Name the "
            "files after their tissues: wm.txt, gm.txt, csf.txt."
        )


def _plan_fod(case: _Case) -> str:
    from arcuate.csd.fods import check_second_pass
    from arcuate.csd.responses import resolve_algorithm

    if case.response is not None:
        is_soft = case.response.is_single_shell
    else:
        with silenced_warnings():
            is_soft = resolve_algorithm(case.settings.response_algorithm, case.scan.gradients) != "dhollander"
    check_second_pass(case.settings.second_pass, is_soft=is_soft)
    return ""


def _plan_tracts(case: _Case) -> str:
    from arcuate.fetch.weights import tractseg_weights
    from arcuate.nets.unet import require_torch

    require_torch()
    try:
        tractseg_weights("tract_segmentation")
    except InputError as error:  # what is not on this machine says nothing about the scan, and no option is wrong
        raise NotApplicable(str(error)) from error
    return ""


def _plan_regions(case: _Case) -> str:
    if case.atlas is None:
        raise InputError("the step regions needs an atlas; give one: --atlas, or Atlas in Python.")
    if case.settings.steps and not {"dti", "kurtosis", "noddi"} & set(case.settings.steps):
        raise NotApplicable("the table of regions is of the maps of dti, kurtosis and noddi; none of them is named.")
    case.atlas.check(case.scan.volume)
    return ""


def _as_it_comes(_: _Case) -> str:
    return ""


STAGES: dict[str, Stage] = {
    "denoise": Stage((), _plan_denoise),
    "mask": Stage((), _plan_mask),
    "dti": Stage(("mask",), _plan_dti),
    "kurtosis": Stage(("mask",), _plan_kurtosis),
    "freewater": Stage(("mask",), _plan_free_water),
    "noddi": Stage(("mask",), _plan_noddi),
    "response": Stage(("mask",), _plan_response),
    "fod": Stage(("mask", "response"), _plan_fod),
    "peaks": Stage(("mask", "fod"), _as_it_comes),
    "tracts": Stage(("mask", "fod"), _plan_tracts),
    REGIONS: Stage(("mask",), _plan_regions),
}
STEPS = tuple(STAGES)
ON_REQUEST = ("freewater",)  # done only where they are named
ALL = "all"  # among the steps: what a run does without --steps
