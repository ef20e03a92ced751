"""Jobs of SLURM without SLURM: the script that is submitted, and programs of its names that run it on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arcuate.errors import InputError, MissingExtraError
from arcuate.study.cluster import Placement, import_jobqueue, slurm_options
from arcuate.study.phantom_dataset import PhantomDataset, write_phantom_dataset

try:
    SLURMCluster = import_jobqueue().SLURMCluster
except MissingExtraError:
    pytest.skip("the extra [slurm] is not installed", allow_module_level=True)
OPTIONS = ("--steps", "mask", "--mask-method", "otsu", "--no-report")

SBATCH = """#!{python}
import os, pathlib, subprocess, sys
folder = pathlib.Path(os.environ["FAKE_SLURM"])
script = pathlib.Path(sys.argv[-1]).read_text()
number = len(list(folder.glob("*.pid"))) + 1
(folder / f"{{number}}.sh").write_text(script)
if os.environ.get("FAKE_SLURM_FULL"):
    sys.exit("sbatch: error: invalid account or account/partition combination")
with open(folder / f"{{number}}.out", "wb") as out:
    job = subprocess.Popen(["bash", folder / f"{{number}}.sh"], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                           start_new_session=True)
(folder / f"{{number}}.pid").write_text(str(job.pid))
print("Submitted batch job", number)
"""
SCANCEL = """#!{python}
import os, pathlib, signal, sys
pid = int((pathlib.Path(os.environ["FAKE_SLURM"]) / f"{{sys.argv[-1]}}.pid").read_text())
try:
    os.killpg(pid, signal.SIGTERM)
except ProcessLookupError:
    pass
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the jobs of a SLURM whose one node is this machine; its programs are on the path."""
    programs, jobs = tmp_path / "programs", tmp_path / "jobs"
    for folder in (programs, jobs):
        folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (programs / name).write_text(text.format(python=sys.executable))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(jobs))
    return jobs


def _placement(folder: Path, *slurm: tuple[str, str]) -> Placement:
    return Placement("slurm", 3, 2, 6000.0, folder, slurm)


def test_the_script_of_a_job_says_what_was_asked_for(tmp_path: Path) -> None:
    asked = [("queue", "long"), ("account", "007"), ("walltime", "08:00:00"), ("job_cpu", "4")]
    asked += [("job_extra_directives", "--exclusive"), ("job_extra_directives", "--gres=gpu:1")]
    options = slurm_options(_placement(tmp_path, *asked))
    with SLURMCluster(**options) as cluster:
        script = cluster.job_script()
    for line in ("-p long", "-A 007", "--cpus-per-task=4", "--mem=6G", "-t 08:00:00", "--exclusive", "--gres=gpu:1"):
        assert f"#SBATCH {line}\n" in script, script
    assert "--nthreads 2" in script
    assert "--resources subject=1" in script


def test_without_a_time_jobs_have_a_day_and_a_word_for_a_number_is_refused(tmp_path: Path) -> None:
    assert slurm_options(_placement(tmp_path))["walltime"] == "24:00:00"
    with pytest.raises(InputError, match=r"--slurm cores=two; expected a whole number"):
        slurm_options(_placement(tmp_path, ("cores", "two")))


def test_ctrl_c_stays_whose_it_was() -> None:
    """The package has a handler of its own, and sets it where it is imported."""
    code = (
        "import signal; from arcuate.study.cluster import import_jobqueue; before = signal.getsignal(signal.SIGINT); "
        "import_jobqueue(); assert signal.getsignal(signal.SIGINT) is before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _command(bids: Path, out: Path, *more: str) -> list[str]:
    words = ["cohort", str(bids), str(out), "participant", "--scheduler", "slurm", "--slurm", "interface=lo", *more]
    return [sys.executable, "-m", "arcuate", *words, *OPTIONS]


@pytest.fixture(scope="module")
def bids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slurm") / "bids"
    write_phantom_dataset(folder, PhantomDataset(3, shape=(12, 12, 8), voxel_size=16.0, n_directions=7))
    return folder


def test_jobs_that_slurm_does_not_take_end_the_command_with_its_words(slurm: Path, bids: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "FAKE_SLURM_FULL": "1"}
    done = subprocess.run(_command(bids, tmp_path / "out"), capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert "SLURM's jobs cannot be made" in done.stderr
    assert "invalid account" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cohort_runs_in_jobs_and_a_job_whose_time_is_up_is_followed_by_another(
    slurm: Path, bids: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(_command(bids, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not list((out / ".arcuate-cohort" / "states").glob("*.json")) and time.monotonic() < until:
        time.sleep(0.1)
    os.killpg(int((slurm / "1.pid").read_text()), signal.SIGTERM)  # as SLURM does at the end of the time
    try:
        _, said = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, said
    table = (out / "participants_status.tsv").read_text()
    assert table.count("\tcomplete\t") == 3
    assert len(list(slurm.glob("*.pid"))) >= 2, "no job followed the one that was ended"
