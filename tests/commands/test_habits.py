"""Command lines as users of MRtrix3, FSL and DIPY type them: each works, or is answered with the right spelling."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest

from arcuate import cli
from arcuate.commands.manual import MANUAL
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource, save_volume
from arcuate.report.citations import DOIS
from arcuate.volumes.resource import InMemoryVolumeResource

Arcuate = Callable[..., object]


@pytest.fixture
def place(make_head: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to type in: a scan as NIfTI and .mif, gradients under other names, a mask, a FOD."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bids" / "sub-01").mkdir(parents=True)
    scan = make_head(12)
    NiftiVolumeResource.save(scan.volume, "data.nii.gz")
    FslBvalResource.save(scan.bval, "my_bvals")
    FslBvecResource.save(scan.bvec, "my_bvecs")
    save_volume(scan.volume, "dwi.mif", scan.gradients)
    Path("grad.b").write_text("".join(" ".join(map(str, row)) + "\n" for row in scan.gradients.to_mrtrix()))
    inside = np.asarray(scan.volume.get_array())[..., 0] > 300
    save_volume(scan.volume.with_array(inside), "mask.nii.gz")
    save_volume(scan.volume.with_array(inside), "mask.mif")
    fod = np.zeros((4, 4, 4, 15), np.float32)
    fod[..., 0] = 1
    save_volume(InMemoryVolumeResource(fod), "fod.mif")
    return tmp_path


WORKS = {  # what is typed after arcuate, and a file that it leaves
    "dwi2mask dwi.mif out.mif": ("mask dwi.mif out.mif -method otsu -quiet", "out.mif"),
    "dwi2mask -fslgrad": ("mask -fslgrad my_bvecs my_bvals data.nii.gz out.mif --method otsu", "out.mif"),
    "dwi2mask -grad": ("mask data.nii.gz -grad grad.b -nthreads 1 -method otsu -o out.nii.gz", "out.nii.gz"),
    "options before the image": ("mask --method OTSU --output out.nii.gz dwi.mif", "out.nii.gz"),
    "dwidenoise": ("denoise dwi.mif out.mif -noise noise.mif -extent 3 -mask mask.mif -method mppca -force",
                   "noise.mif"),
    "dwi2tensor": ("dti dwi.mif -mask mask.mif -out dt -nthreads 2 -info", "dt/fa.nii.gz"),
    "dtifit short": ("dti -k data.nii.gz -o dt -m mask.nii.gz -r my_bvecs -b my_bvals", "dt/fa.nii.gz"),
    "dtifit long": ("dti --data=data.nii.gz --out=dt --mask=mask.nii.gz --bvecs=my_bvecs --bvals=my_bvals",
                    "dt/fa.nii.gz"),
    "dipy_fit_dti": ("dti data.nii.gz my_bvals my_bvecs --mask mask.nii.gz --out_dir dt", "dt/md.nii.gz"),
    "dipy_median_otsu": ("mask data.nii.gz my_bvals my_bvecs --out_mask out.nii.gz --method otsu", "out.nii.gz"),
    "sh2peaks": ("peaks fod.mif out.mif -num 3 -nthreads 1", "out.mif"),
    "mrinfo": ("info dwi.mif -quick", "dwi.mif"),
    "help of a command": ("help dti", "dwi.mif"),
    "version of a command": ("dti --version", "dwi.mif"),
    "verbose": ("mask -v dwi.mif out.nii.gz --method otsu --overwrite", "out.nii.gz"),
}  # fmt: skip
ANSWERED = {  # what is typed after arcuate, and what the answer must hold
    "dwi2tensor dwi.mif dt.mif": "arcuate dti DWI --mask MASK --out FOLDER",
    "bet data brain": "arcuate mask DWI --out MASK",
    "dwi2fod msmt_csd dwi.mif wm.txt wm.mif": "--response wm.txt",
    "csd dwi.mif": "arcuate fod DWI",
    "version": "arcuate info --version",
    "register T1.nii.gz fa.nii.gz -o t": "--fixed",
    "dit dwi.mif": "Did you mean dti?",
    "dti dwi.mif --msak mask.mif -o dt": "--mask",
    "dti dwi.mif -o dt.nii.gz": "expected a folder",
    "mask dwi.mif -o out": "ending in .nii.gz",
    "dti dwi.mif": "found no --out",
    "dti -o dt": "found no DWI",
    "mask dwi.mif out.mif --method mdian": "expected one of auto, hdbet, otsu",
    "response tournier dwi.mif -o out": "Type --algorithm tournier",
    "response dwi.mif --algorithm dholander -o out": "Did you mean dhollander?",
    "run dwi.mif -o out --steps ndodi": "Did you mean noddi?",
    "run dwi.mif -o out --denoise mpca": "Did you mean mppca?",
    "dti -fslgrad my_bvecs": "-fslgrad BVECS BVALS",
    "dti dwi.mif mask.mif -o dt": "If it is the mask, type --mask mask.mif",
    "run bids -o out": "arcuate cohort bids OUT participant",
    "fetch stanford_hardy": "Did you mean stanford_hardi?",
}


@pytest.mark.parametrize(("typed", "leaves"), WORKS.values(), ids=WORKS)
def test_what_people_are_used_to_typing_works(typed: str, leaves: str, arcuate: Arcuate, place: Path) -> None:
    done = arcuate(*typed.split())
    assert done.code == 0, done.err
    assert Path(leaves).is_file()
    if "-quiet" in typed:
        assert (done.out, done.err) == ("", "")
    if "-v " in typed:
        assert "13" in done.err
        assert "GradientTable" in done.err


@pytest.mark.parametrize(("typed", "said"), ANSWERED.items(), ids=ANSWERED)
def test_what_cannot_work_is_answered_with_the_right_spelling(
    typed: str, said: str, arcuate: Arcuate, place: Path
) -> None:
    before = sorted(place.rglob("*"))
    done = arcuate(*typed.split())
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1, "one line"
    assert sorted(place.rglob("*")) == before


def test_other_peoples_results_stay_without_force(arcuate: Arcuate, place: Path) -> None:
    Path("mine.nii.gz").write_bytes(Path("mask.nii.gz").read_bytes())
    Path("dt").mkdir()
    Path("dt/fa.nii.gz").write_bytes(b"FSL's")
    for typed in ("mask dwi.mif mine.nii.gz --method otsu", "dti dwi.mif -o dt"):
        done = arcuate(*typed.split())
        assert done.code == 2
        assert "exists, and nothing says that an earlier `arcuate" in done.err
        assert "--force" in done.err
    assert Path("dt/fa.nii.gz").read_bytes() == b"FSL's"
    assert arcuate("dti", "dwi.mif", "-o", "dt", "--force").code == 0
    assert arcuate("dti", "dwi.mif", "-o", "dt", "--n-reweight", "0").code == 0, "its own results are replaced"
    assert json.loads(Path("dt/fa.json").read_text())["NReweight"] == 0
    assert arcuate("denoise", "dwi.mif", "dt/fa.nii.gz", "--method", "mppca").code == 2, "another command's result"


def test_a_run_writes_over_nothing_that_no_run_wrote(arcuate: Arcuate, place: Path) -> None:
    words = ("run", "dwi.mif", "-o", "out", "--steps", "mask", "--mask-method", "otsu", "--no-report", "--subject", "7")
    page = place / "out" / "sub-7.html"
    page.parent.mkdir()
    page.write_text("the page of another program")
    assert arcuate(*words).code == 2
    assert page.read_text() == "the page of another program"
    page.unlink()
    assert arcuate(*words, "--session", "b").code == 0
    assert (place / "out/sub-7/ses-b/dwi/sub-7_ses-b_desc-brain_mask.nii.gz").is_file()
    again = arcuate(*words, "--session", "b")
    assert again.code == 0, again.err
    wrong = arcuate(*words[:-1], "7_8")
    assert wrong.code == 2
    assert "--subject 7_8; expected letters and digits" in wrong.err


DRY = ["dti dwi.mif -o dt", "mask dwi.mif out.nii.gz --method otsu", "denoise dwi.mif den.nii.gz --method mppca",
       "peaks fod.mif p.mif", "run dwi.mif -o out --mask-method otsu",
       "fixels fod.mif -o f"]  # fmt: skip


@pytest.mark.parametrize("typed", DRY)
def test_a_dry_run_checks_and_says_what_it_would_do_and_does_nothing(typed: str, arcuate: Arcuate, place: Path) -> None:
    before = sorted(place.rglob("*"))
    done = arcuate(*typed.split(), "--dry-run")
    assert done.code == 0, done.err
    assert "would" in done.out
    assert sorted(place.rglob("*")) == before
    bad = arcuate(*typed.replace("dwi.mif", "nowhere.mif").replace("fod.mif", "nowhere.mif").split(), "--dry-run")
    assert bad.code == 2


def test_a_session_needs_a_subject(arcuate: Arcuate, place: Path) -> None:
    done = arcuate("run", "dwi.mif", "-o", "out", "--session", "b", "--dry-run")
    assert done.code == 2
    assert "give --subject as well" in done.err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_ends_with_two_examples_or_more_that_are_right(name: str) -> None:
    context = click.Context(cli.app, info_name="arcuate")
    command = cli.app.get_command(context, name)
    assert command is not None
    parts = [(name, command)] if not isinstance(command, click.Group) else [
        (f"{name} {sub}", command.get_command(context, sub)) for sub in command.list_commands(context)
    ]  # fmt: skip
    for full, part in parts:
        manual = MANUAL[full]
        assert len(manual.examples) >= 2
        for example in manual.examples:
            words = example.partition(" >>")[0].split()[1 + len(full.split()) :]
            part.make_parser(click.Context(part, parent=context)).parse_args(words)  # every option is known
        for doi in [
            text.rstrip(".;,") for text in " ".join(manual.papers).split() if text.startswith("https://doi.org")
        ]:
            assert doi.removeprefix("https://doi.org/") in {*DOIS.values(), *KNOWN_DOIS}


KNOWN_DOIS = {
    "10.1002/mrm.20508",
    "10.1002/mrm.22655",
    "10.1016/j.neuroimage.2012.11.049",
    "10.1093/biostatistics/kxj037",
    "10.1016/j.neuroimage.2017.08.047",
    "10.1109/TMI.2010.2046908",
    "10.1007/s12021-011-9109-y",
    "10.1016/j.media.2007.06.004",
    "10.1109/42.963816",
    "10.1016/j.neuroimage.2009.09.062",
}  # in docs/methods by volume


def test_without_a_word_the_list_of_commands_is_shown(arcuate: Arcuate) -> None:
    done = arcuate()
    assert (done.code, done.err) == (0, "")
    assert "  dti " in done.out
    assert "  ls " in arcuate("cache").out


@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_the_list_of_commands_is_not_cut(columns: str) -> None:
    words = [sys.executable, "-m", "arcuate", "--help"]
    environment = os.environ | {"COLUMNS": columns, "TERM": "dumb"}
    shown = subprocess.run(words, capture_output=True, text=True, env=environment, check=True).stdout
    assert "..." not in shown.partition("Options:")[2]
    text = "".join(shown.split())
    for name, listed in cli.COMMANDS.items():
        assert name + listed.summary.replace(" ", "") in text
    assert shown.index("Microstructure:") < shown.index("Fibre orientations:")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_options_and_choices(shell: str) -> None:
    script = subprocess.run([sys.executable, "-m", "arcuate", "completion", shell], capture_output=True, text=True)
    assert "_ARCUATE_COMPLETE" in script.stdout
    code = "from arcuate import cli; cli.main()"
    for typed, expected in (("arcuate no", "noddi"), ("arcuate dti --ten", "--tensor-order"),
                            ("arcuate dti --tensor-order m", "mrtrix")):  # fmt: skip
        place = typed.split()[-1] if shell == "fish" else str(typed.count(" "))
        asked = {"_ARCUATE_COMPLETE": f"{shell}_complete", "COMP_WORDS": typed, "COMP_CWORD": place}
        environment = os.environ | asked
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert expected in shown.stdout, (shell, typed, shown.stderr)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("info", ""), "DWI"),
        (("run", "", "--out", "out"), "DWI"),
        (("run", "dwi.mif", "--mask", "", "--out", "out"), "--mask"),
        (("dti", "dwi.mif", "--bval", " ", "--out", "out"), "--bval"),
        (("cohort", "", "out", "participant"), "BIDS_DIR"),
        (("fod", "dwi.mif", "--response", "", "--out", "out"), "--response"),
    ],
)
def test_a_variable_that_is_not_set_is_no_path_to_this_folder(arcuate, place: Path, words, name) -> None:
    done = arcuate(*words)
    assert done.code == 2
    assert f"found an empty {name}; expected a path" in " ".join(done.err.split())
    assert not (place / "out").exists()


def test_an_option_given_twice_is_told_and_the_last_one_counts(arcuate, place: Path) -> None:
    done = arcuate("run", "dwi.mif", "--mask", "mask.mif", "--out", "o", "--steps", "dti", "--steps=mask", "--dry-run")
    assert done.code == 0
    assert "warning: --steps was given 2 times; the last one counts." in done.err
    assert "would do dti" not in done.out + done.err
    assert "times" not in arcuate("dti", "dwi.mif", "--out", "o", "--robust", "--robust", "--dry-run").err
