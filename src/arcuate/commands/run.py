"""``arcuate run``: the main job, from a scan to every map."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from arcuate import masks
from arcuate.commands.ahead import Ahead
from arcuate.commands.options import (
    PATH,
    TEMPLATE,
    ScanFiles,
    command,
    mask_option,
    read_image,
    read_mask,
    scan_options,
    second_pass_option,
    tensor_order_option,
)  # fmt: skip
from arcuate.commands.paths import OutFolder, out_folder_option
from arcuate.commands.planned import PlannedRun
from arcuate.commands.report import drawing_meanwhile, end_with_report, examination
from arcuate.commands.shell import Choice, is_asked_for, tell
from arcuate.commands.stage_lines import StageLines
from arcuate.commands.written import check_run_outputs
from arcuate.csd import ALGORITHMS
from arcuate.errors import InputError
from arcuate.study.bids import read_json
from arcuate.study.expected import expected_seconds, in_words
from arcuate.study.kernel_notes import are_noted, note_kernels, note_name
from arcuate.study.memory import check_memory, expected_memory
from arcuate.study.pipeline import run_subject
from arcuate.study.plan import DENOISE_METHODS, STEPS, Settings, make_plan

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.models.response import Response
    from arcuate.study.plan import Plan
    from arcuate.study.regions import Atlas
    from arcuate.study.result import SubjectResult
    from arcuate.volumes.resource import VolumeResource


class StepList(click.ParamType):
    """Names of steps, separated by commas."""

    name = "list"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        steps = tuple(step.strip() for step in str(value).split(",") if step.strip())
        if not steps:
            raise InputError(f"found no step in --steps {str(value)!r}; expected some of {', '.join(STEPS)}.")
        return steps


@command()
@scan_options
@partial(mask_option, default="made, see --mask-method")
@out_folder_option("Folder of the derivatives; made if it is not there.")
@click.option(
    "--steps",
    type=StepList(),
    default=None,
    metavar="STEP,...",
    help=f"Some of {','.join(STEPS)}, and what they need; all,freewater for "
    "all of them. Default: all that the scan allows, but freewater.",
)
@click.option(
    "--denoise",
    type=Choice(DENOISE_METHODS),
    default=Settings.denoise_method,
    show_default=True,
    help="auto: none, since no method leaves FA, V1, MD and NDI all as near to the truth; the run says why.",
)
@click.option(
    "--mask-method",
    type=Choice(masks.METHODS),
    default=Settings.mask_method,
    show_default=True,
    help="See `arcuate mask`; left alone where --mask is given.",
)
@click.option(
    "--algorithm",
    type=Choice(ALGORITHMS),
    default=Settings.response_algorithm,
    show_default=True,
    help="Response: see `arcuate response`.",
)
@click.option(
    "--robust", is_flag=True, help="Tensor: leave out volumes that do not fit, voxel by voxel; see `arcuate dti`."
)
@click.option(
    "--rician", is_flag=True, help="Tensor: maximise the likelihood of Rician noise; needs --noise; see `arcuate dti`."
)
@click.option("--noise", type=PATH, help="Noise map of DWI, as `arcuate denoise --noise` writes it; see `arcuate dti`.")
@click.option("--wmti", is_flag=True, help="Kurtosis: white-matter tract integrity too; see `arcuate dki`.")
@click.option(
    "--response",
    "responses",
    type=PATH,
    multiple=True,
    help="Of `arcuate response`, a group or MRtrix3, one file per tissue: wm.txt, gm.txt, csf.txt. Default: estimated.",
)
@tensor_order_option
@second_pass_option
@click.option("--subject", metavar="LABEL", help="Names the results: 01 for sub-01. Default: as the file's BIDS name.")
@click.option("--session", metavar="LABEL", help="Names the results: 02 for ses-02. Default: as the file's BIDS name.")
@click.option(
    "--atlas", type=TEMPLATE, help="Image of labels: a table of the maps in its regions. See `arcuate regions`."
)
@click.option("--atlas-names", help="Names of the labels; default: the table beside the atlas. Or: freesurfer.")
@click.option("--atlas-to-scan", type=PATH, help="Transform that brings the atlas to the scan; see `arcuate register`.")
@click.option("--scan-to-atlas", type=PATH, help="Transform whose way back brings the atlas to the scan.")
@click.option(
    "--report/--no-report", "with_report", default=True, show_default=True, help="End with a page of pictures."
)
@click.option(
    "--mem-mb",
    "--mem_mb",
    type=click.IntRange(1),
    metavar="N",
    help="Most memory that the run may take (MiB); one that may take more is refused before it starts.",
)
@click.option(
    "--cache",
    "cache_folder",
    type=OutFolder(must_be_writable=False),
    help="Folder of kept results; default: OUT/.arcuate-cache.",
)
def run(
    scan: ScanFiles,
    mask: Path | None,
    out: Path,
    steps: tuple[str, ...] | None,
    denoise: str,
    mask_method: str,
    algorithm: str,
    robust: bool,
    rician: bool,
    noise: Path | None,
    wmti: bool,
    responses: tuple[Path, ...],
    tensor_order: str,
    second_pass: bool | None,
    subject: str | None,
    session: str | None,
    atlas: Path | None,
    atlas_names: str | None,
    atlas_to_scan: Path | None,
    scan_to_atlas: Path | None,
    with_report: bool,
    mem_mb: int | None,
    cache_folder: Path | None,
) -> PlannedRun | None:
    """The whole pipeline on DWI: every map, response, fibre orientations, and a report.

    What the run will do is decided and checked before any voxel is read. Stopped at any moment and started again, it
    goes on where it was.
    """
    from arcuate.cache import Cache
    from arcuate.study.bids import Derivatives

    settings = Settings(steps or (), denoise, mask_method, algorithm, robust=robust, rician=rician, wmti=wmti,
                        tensor_order=tensor_order, second_pass=second_pass)  # fmt: skip
    response = _read_response(responses, algorithm)
    regions = _read_atlas(atlas, atlas_names, atlas_to_scan, scan_to_atlas)
    names = Derivatives.of_scan(out, scan.dwi).named(subject, session)
    others = {role: path for role, path in (("mask", mask), ("noise", noise), ("atlas", atlas)) if path}
    inputs = scan.inputs | others | {f"response_{p.stem}": p for p in responses}
    check_run_outputs(names, inputs)
    unread = scan.checked
    inside = read_mask(mask, unread.volume)
    plan = make_plan(unread, settings, inside, response, regions, noise=read_image(noise) if noise else None)
    note = note_name(settings, with_report=with_report)
    needed = _checked_memory(plan, unread, inside, mem_mb, with_report=with_report, compiles=not are_noted(note)[1])
    console = Console(stderr=True, quiet=is_asked_for("quiet"))
    lines = StageLines(console, expected_seconds(plan, unread.volume, inside, out, with_report=with_report))
    lines.say_all(plan.sentences)
    if is_asked_for("dry_run"):
        scan.check_whole()
        return PlannedRun(plan, unread, inputs, names, needed).told()
    stages = [*plan.steps, *(["report"] if with_report else [])]
    kept = Cache(cache_folder or out / ".arcuate-cache")
    with Ahead.of_steps(stages) as ahead, kept, drawing_meanwhile(with_report, unread.volume) as early:
        result = run_subject(
            scan.scan, names, inputs=inputs, mask=inside, listener=ahead.listener(lines), plan=plan, response=response,
            atlas=regions, keeps_maps=False, examine=examination(with_report), written=early.draw if early else None,
        )  # fmt: skip
        if with_report:
            end_with_report(result, early)
    note_kernels(note)
    lines.say_all(closing_words(result, with_report))
    tell(f"{names.folder}")
    return None


def _checked_memory(
    plan: Plan, scan: Dwi, inside: VolumeResource | None, mem_mb: int | None, *, with_report: bool, compiles: bool
) -> int:
    """Bytes that the run may take, which are no more than what was allowed."""
    needed = expected_memory(plan, scan.volume, scan.gradients, inside, with_report=with_report, compiles=compiles)
    if mem_mb is not None:
        check_memory(needed, mem_mb)
    return needed


def _read_response(files: tuple[Path, ...], algorithm: str) -> Response | None:
    from arcuate.io.responses import read_response

    if files and algorithm != Settings.response_algorithm:
        raise InputError(
            f"found --response together with --algorithm {algorithm}; expected one. Leave one of them out."
        )
    return read_response(files) if files else None


def _read_atlas(labels: Path | None, names: str | None, to_scan: Path | None, from_scan: Path | None) -> Atlas | None:
    from arcuate.study.regions import Atlas

    if labels is not None:
        return Atlas.of_files(labels, names, to_scan, from_scan)
    if names or to_scan or from_scan:
        raise InputError("found names or a transform of an atlas, and no atlas; give it with --atlas.")
    return None


def closing_words(run: SubjectResult, with_report: bool) -> list[str]:
    """What was made, what was left out and why, what is doubtful, and where all is, in sentences."""
    from arcuate.report import SubjectFiles, doubts_of, is_current

    made = [stage for stage in run.log.stages if stage.skipped is None]
    compiling = sum(stage.compiling for stage in made)
    words = [
        f"made: {', '.join(stage.name for stage in made)}, in {in_words(sum(stage.seconds for stage in made))}"
        + (f" and {in_words(compiling)} of compiling, which the next run does not need" if compiling >= 1 else "")
    ]
    words += [f"left out: {stage.name}, {stage.skipped}" for stage in run.log.stages if stage.skipped is not None]
    facts = run.names.path("desc-scan_facts.json")
    if facts.is_file():
        words += [f"check: {doubt}" for doubt in doubts_of(SubjectFiles(run.names), read_json(facts))]
    words += [f"note: {note}" for note in run.notes]
    n_files = len(run.outputs.record.files)
    words.append(f"where: {n_files} file{'s' * (n_files != 1)} in {run.names.folder}")
    if with_report and run.names.report.is_file():
        words.append(f"look at: {run.names.report}")
    elif run.names.report.is_file() and not is_current(SubjectFiles(run.names)):
        words.append(
            f"note: {run.names.report} is the page of a former run; make it anew with: arcuate report {run.names.out}"
        )
    return words
