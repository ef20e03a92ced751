"""The methods paragraph says what was done, and cites it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from arcuate.report.methods import REFERENCES, methods_paragraph
from arcuate.study.outputs import RunRecord

TENSOR = {"FitMethod": "WLS", "BValuesUsed": [0.0, 1000.0]}
NODDI = {"Refined": False, "ParallelDiffusivity": 1.7e-3, "IsotropicDiffusivity": 3e-3}
THREE = {"algorithm": "dhollander", "bvals": [0.0, 1000.0, 3000.0], "tissues": {"wm": [], "gm": [], "csf": []}}
ONE = {"algorithm": "tournier", "bvals": [0.0, 3000.0], "tissues": {"wm": []}}


def _run(**steps: dict[str, Any]) -> RunRecord:
    return RunRecord(steps=steps)


def test_only_what_was_done_is_said_and_cited() -> None:
    text, references = methods_paragraph(_run(dti=TENSOR))
    assert "weighted linear least squares to the volumes with b = 0, 1000 s/mm²" in text
    assert references == [REFERENCES["tensor"], REFERENCES["wls"]]
    assert "NODDI" not in text
    assert "Images were not denoised." in text


def test_numbers_in_the_text_are_those_of_the_references() -> None:
    text, references = methods_paragraph(
        _run(
            denoise={"Method": "patch2self"},
            mask={"Method": "hdbet", "Network": "HD-BET 2"},
            dti=TENSOR,
            noddi=NODDI,
            response=THREE,
            fod={"Response": THREE, "IntensityNormalisation": {"Order": 3}},
            peaks={"NPeaks": 3, "RelativePeakThreshold": 0.5, "MinSeparationAngle": 25.0},
            tracts={"TractsFound": 72},
        )
    )
    cited = [int(n) for group in re.findall(r"\[([\d, ]+)\]", text) for n in group.split(",")]
    assert sorted(set(cited)) == list(range(1, len(references) + 1))
    assert references[0] == REFERENCES["patch2self"]
    assert REFERENCES["msmtcsd"] in references
    assert "72 white-matter tracts" in text
    assert "HD-BET 2" in text
    assert "multi-tissue constrained" in text


def test_single_shell_models_are_not_called_multi_tissue() -> None:
    text, references = methods_paragraph(_run(response=ONE, fod={"Response": ONE}))
    assert "single-shell constrained" in text
    assert references == [REFERENCES["tournier"], REFERENCES["csd"]]


def test_a_second_pass_says_what_was_allowed_and_when_it_stood() -> None:
    second = {
        "slack": 0.2,
        "planarity": 0.06,
        "emptiness": 0.5,
        "unexplained": 0.005,
        "evidence": 20.0,
        "least_evidence": 16.0,
        "of_all_degrees": 0.5,
    }
    text, _ = methods_paragraph(_run(fod={"Response": THREE, "SecondPass": second}))
    assert "down to -0.2 of the mean allowed" in text
    kept = "the second fit was kept where the log of the likelihood ratio of degrees above 2"
    assert f"{kept} and 0.5 of that of all degrees exceeded 8" in text
    several = {**second, "evidence": 11.0, "least_evidence": 8.0, "of_all_degrees": 0.0}
    text, _ = methods_paragraph(_run(fod={"Response": THREE, "SecondPass": several}))
    assert f"{kept} exceeded 4." in text
    text, _ = methods_paragraph(_run(fod={"Response": THREE, "SecondPass": {**second, "evidence": 0.0}}))
    assert "the second fit was kept throughout" in text
    assert "Laplace-Beltrami" not in text
    text, _ = methods_paragraph(_run(fod={"Response": THREE, "SecondPass": {**second, "dispersed": 0.05}}))
    assert "neither planar nor mostly empty were fitted once more with a Laplace-Beltrami term" in text
    assert "fitted once more" not in methods_paragraph(_run(fod={"Response": THREE}))[0]


def test_three_tissues_on_one_shell_cite_their_paper_and_peaks_say_their_least_amplitude() -> None:
    model = "single-shell three-tissue constrained spherical deconvolution"
    rule = {"NPeaks": 3, "RelativePeakThreshold": 0.2, "MinSeparationAngle": 15.0, "MinAmplitude": 0.1}
    text, references = methods_paragraph(_run(fod={"Response": THREE, "Model": model}, peaks=rule))
    assert "single-shell three-tissue constrained" in text
    assert REFERENCES["three_tissue"] in references
    assert "above 0.2 of the largest and 0.1 of the unit of the distribution, at least 15.0 degrees apart" in text


def test_normalised_intensities_are_said_with_both_papers_and_only_where_it_was_done() -> None:
    done = methods_paragraph(_run(fod={"Response": THREE, "IntensityNormalisation": {"Order": 3}}))
    assert "order 3" in done[0]
    assert {"Raffelt D", "Dhollander T"} <= {reference.split(",")[0] for reference in done[1]}
    assert any("2017:3541" in r for r in done[1])
    assert any("2021:2472" in r for r in done[1])
    left = methods_paragraph(_run(fod={"Response": THREE, "IntensityNormalisationLeftOut": "no voxel"}))
    assert "normalised" not in left[0]


def test_rician_correction_is_said_with_its_paper() -> None:
    text, references = methods_paragraph(_run(denoise={"Method": "mppca", "RicianBiasRemoved": True}))
    assert "Rician" in text
    assert REFERENCES["rician"] in references
    assert "Rician" not in methods_paragraph(_run(denoise={"Method": "mppca", "RicianBiasRemoved": False}))[0]


def test_a_scan_that_was_not_denoised_says_why() -> None:
    run = RunRecord(steps={"dti": TENSOR}, left_out={"denoise": "it was denoised before."})
    assert "Images were not denoised (it was denoised before)." in methods_paragraph(run)[0]


@pytest.mark.parametrize(("excluded", "words"), [([7], "Volume 7 (counted from 0) was"), ([3, 5], "Volumes 3, 5")])
def test_joined_series_and_excluded_volumes_are_said(excluded: list[int], words: str) -> None:
    run = RunRecord(steps={"dti": TENSOR}, scan={"Parts": [33, 65], "VolumesExcluded": excluded})
    text, _ = methods_paragraph(run)
    assert "2 series were joined." in text
    assert words in text


def test_parts_that_were_scaled_and_shells_that_were_kept_are_said() -> None:
    run = RunRecord(steps={"dti": TENSOR}, scan={"Parts": [33, 65], "PartScales": [1.0, 0.2], "ShellsKept": [0, 700]})
    text, _ = methods_paragraph(run)
    assert "2 series were joined, brought to one scale" in text
    assert "b = 0, 700 s/mm² were taken" in text


def test_a_mask_that_was_given_is_no_method() -> None:
    text, references = methods_paragraph(_run(mask={"Method": "given"}))
    assert "made beforehand" in text
    assert references == []
