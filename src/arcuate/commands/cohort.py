"""``arcuate cohort``: every scan of a BIDS data set, and what they say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from arcuate.commands.cohort_lines import CohortLines
from arcuate.commands.options import PATH
from arcuate.commands.paths import OutFolder
from arcuate.commands.run import run as run_command
from arcuate.commands.shell import ArcuateCommand, Choice, tell
from arcuate.errors import InputError
from arcuate.study.plan import Settings

if TYPE_CHECKING:
    from arcuate.study.bids_index import SessionScan
    from arcuate.study.cluster import Placement
    from arcuate.study.cohort import CohortRun
    from arcuate.study.cohort_task import Task

MOST_NAMED = 10  # subjects in one line
SOME_FAILED = 3  # exit status where scans failed, and everything else is done
LEVELS = ("participant", "group")
LABELS = ("participant-label", "session-label")
ATLAS = ("atlas", "atlas_names", "atlas_to_scan", "scan_to_atlas")  # may name the scan: {subject}, {session}
# options of `arcuate run` that hold for every scan of a cohort
PASSED_ON = (
    "steps", "denoise", "mask_method", "algorithm", "robust", "wmti", "tensor_order", "second_pass", "with_report",
    "b0_threshold", "b_unit", "shells", "scale_parts", *ATLAS,
)  # fmt: skip


@dataclass(frozen=True)
class Resources:
    """Processors and memory for all scans together.

    Parameters
    ----------
    n_cpus : that may be used; None for all that this process has
    threads : of each scan; None shares the processors among the scans
    n_workers : scans at once; None for as many as processors allow
    memory_mb : for all scans together; None for no limit
    """

    n_cpus: int | None
    threads: int | None
    n_workers: int | None
    memory_mb: float | None

    def share(self, n_tasks: int, *, is_local: bool) -> tuple[int, int, float | None]:
        """Scans at once, threads of each, and memory of each.

        Raises
        ------
        InputError
            More threads for one scan than there are processors.
        """
        from arcuate.numerics.threads import available_threads

        cpus = self.n_cpus or available_threads()
        if not is_local:
            n = self.n_workers or 1
            return n, self.threads or self.n_cpus or 1, None if self.memory_mb is None else self.memory_mb
        if self.threads and self.threads > cpus:
            raise InputError(f"found --nthreads {self.threads} and {cpus} processors; expected no more than those.")
        n = self.n_workers or (cpus // self.threads if self.threads else cpus)
        n = max(1, min(n, n_tasks))
        return n, self.threads or max(1, cpus // n), None if self.memory_mb is None else self.memory_mb / n


class BidsAppCommand(ArcuateCommand):
    """A command in which ``--participant-label 01 02`` names several, as BIDS Apps have it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Each label with the option before it, once the level was named: before it a second word is the data set."""
        found: list[str] = []
        option, is_first, has_level = "", False, False
        for word in args:
            if word.startswith("-"):
                name, equals, _ = word.partition("=")
                option = name if name.lstrip("-").replace("_", "-") in LABELS else ""
                is_first = not equals
            elif option and not is_first and has_level:
                found.append(option)
            else:
                has_level |= not (option and is_first) and word in LEVELS
                is_first = False
            found.append(word)
        return super().parse_args(ctx, found)


def _with_options_of_run(command: click.Command) -> click.Command:
    """Give a command those options of ``arcuate run`` that hold for every scan: a default is written once."""
    command.params += [p for p in run_command.params if p.name in PASSED_ON]
    return command


@_with_options_of_run
@click.command(cls=BidsAppCommand)
@click.argument("bids_dir", type=PATH)
@click.argument("out", type=OutFolder())
@click.argument("level", type=Choice(LEVELS))
@click.option(
    "--participant-label", multiple=True, metavar="LABEL", help="Subjects, with or without sub-. Default: all."
)
@click.option("--session-label", multiple=True, metavar="LABEL", help="Sessions, with or without ses-. Default: all.")
@click.option("--bids-filter-file", type=PATH, help='JSON: {"dwi": {"acquisition": "b3000", "space": "T1w"}}.')
@click.option("--skip-bids-validation", is_flag=True, help="Take a folder without dataset_description.json.")
@click.option("--n-cpus", "--n_cpus", type=click.IntRange(1), help="Processors for all subjects. Default: all.")
@click.option(
    "--nthreads", "--omp-nthreads", type=click.IntRange(1), help="Of each subject. Default: processors shared out."
)
@click.option("--workers", type=click.IntRange(1), help="Subjects at once; jobs of SLURM. Default: one per processor.")
@click.option(
    "--mem-mb", "--mem_mb", type=click.IntRange(1), help="Memory for all subjects at once; of each job of SLURM."
)
@click.option("-w", "--work-dir", type=OutFolder(), help="Caches, states and locks. Default: OUT/.arcuate-cohort.")
@click.option(
    "--scheduler",
    default="local",
    show_default=True,
    metavar="local|ADDRESS|slurm",
    help="Workers on this machine, those of a Dask scheduler (tcp://HOST:8786), or jobs of SLURM.",
)
@click.option(
    "--slurm",
    multiple=True,
    metavar="NAME=VALUE",
    help="Option of dask_jobqueue.SLURMCluster: queue=long, account=a, job_extra_directives=--exclusive.",
)
@click.option(
    "--response-from",
    type=PATH,
    metavar="GROUP",
    help="Responses of the group (folder OUT, OUT/group, or of wm.json) in place of each subject's own.",
)
@click.option("--response", "with_response", is_flag=True, help="group: average the subjects' responses.")
@click.option("--table", "with_table", is_flag=True, help="group: key numbers of all subjects, and the cohort's page.")
@click.option("--stop-on-first-crash", is_flag=True, help="Begin no further subject once one has failed.")
@click.option("--dry-run", is_flag=True, help="Check every scan, say what would be run and fail, and end.")
def cohort(bids_dir: Path, out: Path, level: str, **given: Any) -> None:
    """Every diffusion scan of BIDS_DIR (raw, or derivatives of QSIPrep or arcuate) as `arcuate run` does it, to OUT.

    The images of one session are parts of one scan. A subject that fails is a row in OUT/participants_status.tsv, and
    the others go on. Started again, the same command does what is missing. Exits with 0 when all are complete, 3 when
    some failed.
    """
    if out.resolve() == bids_dir.resolve():
        raise InputError(
            f"{out} is the data set itself; expected another folder, such as {out / 'derivatives/arcuate'}."
        )
    if level == "group":
        _group(out, with_response=given["with_response"], with_table=given["with_table"], dry_run=given["dry_run"])
        return
    if given["with_response"] or given["with_table"]:
        raise InputError(
            "--response and --table are for the level group; expected `arcuate cohort BIDS_DIR OUT group`."
        )
    code = _participants(bids_dir, out, given)
    if code:
        raise click.exceptions.Exit(code)


def _participants(bids_dir: Path, out: Path, given: dict[str, Any]) -> int:
    """Plan and run the scans; the exit status."""
    from arcuate.study.bids_index import Wanted, index_dataset, read_filters, without_scan
    from arcuate.study.cluster import Placement
    from arcuate.study.cohort import CohortOptions, CohortRun, describe_dataset, plan_tasks, split_finished
    from arcuate.study.cohort_status import STATUS_TABLE
    from arcuate.study.group import response_files
    from arcuate.study.kernel_notes import note_name

    settings = Settings(
        given["steps"] or (), given["denoise"], given["mask_method"], given["algorithm"],
        robust=given["robust"], wmti=given["wmti"], tensor_order=given["tensor_order"],
        second_pass=given["second_pass"],
    )  # fmt: skip
    slurm = _parse_slurm(given["slurm"], given["scheduler"])
    filters = read_filters(given["bids_filter_file"]) if given["bids_filter_file"] else {}
    wanted = Wanted(_split(given["participant_label"]), _split(given["session_label"]), filters)
    responses = [path.absolute() for path in response_files(given["response_from"])] if given["response_from"] else []
    scans = index_dataset(bids_dir, wanted, is_checked=not given["skip_bids_validation"])
    work = (given["work_dir"] or out / ".arcuate-cohort").absolute()
    resources = Resources(given["n_cpus"], given["nthreads"], given["workers"], given["mem_mb"])
    n_workers, threads, memory = resources.share(len(scans), is_local=given["scheduler"] == "local")
    arguments = [*_arguments(given), *(word for path in responses for word in ("--response", str(path)))]
    options = CohortOptions(
        out.absolute(), work, tuple(arguments), tuple(responses), threads, memory, _own_files(given)
    )
    tasks = plan_tasks([_absolute(scan) for scan in scans], options)
    left, done = split_finished(tasks, options.out)
    lines = CohortLines(Console(stderr=True), work)
    if empty := without_scan(bids_dir, wanted, scans):
        named = ", ".join(empty[:MOST_NAMED]) + (" ..." if len(empty) > MOST_NAMED else "")
        lines.say(f"no diffusion scan that is wanted: {named}" + (f" ({len(empty)})" if len(empty) > 1 else ""))
    placement = Placement(given["scheduler"], n_workers, threads, memory, work, slurm)
    if given["dry_run"]:
        return _say_what_would_run(scans, tasks, left, placement)
    describe_dataset(options.out, bids_dir)
    has_all = wanted == Wanted()
    run = CohortRun(tasks, options.out, lines, stops_on_failure=given["stop_on_first_crash"], has_all=has_all)
    run.note(done)
    if left:
        _run(run, left, len(done), placement, note_name(settings, with_report=given["with_report"]))
    run.write_table()
    tell(str(out))
    counts = run.counts
    words = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
    before = f" ({len(done)} of them before)" if done else ""
    lines.say(f"{len(tasks)} scans: {words}{before}; see {out / STATUS_TABLE}")
    return 0 if counts["complete"] == len(tasks) else SOME_FAILED


def _group(out: Path, *, with_response: bool, with_table: bool, dry_run: bool) -> None:
    """The level of the group: what was asked for, or all of it."""
    from arcuate.study.group import collect_rows, find_runs, write_group_response, write_group_table

    runs = find_runs(out)
    wants_all = not with_response and not with_table
    if dry_run:
        click.echo(f"{len(runs)} runs in {out}; nothing was done (--dry-run)")
        return
    if with_response or wants_all:
        try:
            files, names, left_out = write_group_response(out)
        except InputError as error:
            if with_response:
                raise
            click.echo(f"no mean response: {error}", err=True)
        else:
            for sentence in left_out:
                click.echo(f"left out: {sentence}", err=True)
            click.echo(f"{files[0].parent}: mean response of {len(names)} scans")
    if with_table or wants_all:
        from arcuate.report.cohort import write_cohort_methods, write_cohort_page
        from arcuate.study.group_regions import write_group_regions

        rows = collect_rows(out)
        click.echo(f"{write_group_table(out, rows)}: {len(rows)} scans")
        if (regions := write_group_regions(out)) is not None:
            click.echo(f"{regions[0]}: regions of {regions[1]} scans")
        click.echo(f"{write_cohort_methods(out)}")
        click.echo(f"{write_cohort_page(out, rows)}")


def _run(run: CohortRun, left: Sequence[Task], n_done: int, placement: Placement, note: str) -> None:
    """Run what is left."""
    from arcuate.study.cluster import open_cluster
    from arcuate.study.cohort import clear_running

    lines = run.listener
    assert isinstance(lines, CohortLines)
    clear_running(left)
    with open_cluster(placement) as cluster:
        lines.say(
            f"{len(left)} scans, {cluster.n_at_once} at once, {placement.threads} threads each"
            + (f"; dashboard: {cluster.dashboard}" if cluster.dashboard else "")
        )
        lines.begin(len(run.tasks), n_done)
        try:
            run.run([task.name for task in left], cluster, note)
        finally:
            lines.stop()


def _say_what_would_run(
    scans: Sequence[SessionScan], tasks: Sequence[Task], left: Sequence[Task], placement: Placement
) -> int:
    """What each scan would be, as its own dry run says it, then what holds for all; the exit status."""
    from arcuate.commands.planned import PlannedScans

    missing = {task.name for task in left}
    found = PlannedScans()
    for scan, task in zip(scans, tasks, strict=True):
        name = task.name if len(scan.images) == 1 else f"{task.name} ({len(scan.images)} parts)"
        for line in found.look_at(task, name) if task.name in missing else [f"{name}: complete"]:
            click.echo(line)
    is_local = placement.scheduler == "local"
    for sentence in found.sentences(min(placement.n_workers, max(1, len(left))), is_local=is_local):
        click.echo(sentence, err=True)
    click.echo(f"{len(tasks)} scans, {len(left)} to be run; nothing was done (--dry-run)", err=True)
    return SOME_FAILED if found.n_failing else 0


def _arguments(given: dict[str, Any]) -> list[str]:
    """Options of ``arcuate run`` that differ from its defaults, as they are typed."""
    words: list[str] = []
    for option in run_command.params:
        value = given.get(option.name or "")
        if option.name not in PASSED_ON or not isinstance(option, click.Option) or value in (None, "", ()):
            continue
        if option.name in ATLAS:  # named for each scan
            continue
        if isinstance(value, bool):
            if value != (option.default if option.secondary_opts else False):  # a flag alone is off by default
                words.append(option.opts[0] if value else option.secondary_opts[0])
        elif value != option.default:
            words += [option.opts[0], ",".join(value) if isinstance(value, tuple) else str(value)]
    return words


def _own_files(given: dict[str, Any]) -> dict[str, str]:
    """Options that name a file of each scan: value by option."""
    options = {p.name: p.opts[0] for p in run_command.params if p.name in ATLAS}
    if given["atlas"] is None and any(given[name] for name in ATLAS):
        raise InputError("found names or a transform of an atlas, and no atlas; give it with --atlas.")
    if given["atlas_to_scan"] and given["scan_to_atlas"]:
        raise InputError("found --atlas-to-scan and --scan-to-atlas; expected one of them. Leave one out.")
    found = {options[name]: str(given[name]) for name in ATLAS if given[name] is not None}
    for option, name in found.items():
        if option != "--atlas-names" and "{" not in name and not Path(name).is_file():
            raise InputError(
                f"found {option} {name}, which is no file; expected one for all scans, or a name with "
                "{subject} and {session} in it."
            )
    return found


def _split(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels given one by one or in one word: ``01 02``, ``01,02``."""
    return tuple(label for word in labels for label in word.replace(",", " ").split())


def _absolute(scan: SessionScan) -> SessionScan:
    mask = None if scan.mask is None else scan.mask.absolute()
    return replace(scan, images=tuple(image.absolute() for image in scan.images), mask=mask)


def _parse_slurm(words: Sequence[str], scheduler: str) -> list[tuple[str, str]]:
    if words and scheduler != "slurm":
        raise InputError(f"found --slurm {words[0]} with --scheduler {scheduler}; expected --scheduler slurm.")
    options = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"found --slurm {word}; expected NAME=VALUE, such as queue=long.")
        options.append((name, value))
    return options
