"""The methods paragraph says what was done, and cites it."""

from __future__ import annotations

import re

from arcuate.report.methods import REFERENCES, methods_paragraph

TENSOR = {"FitMethod": "WLS", "BValuesUsed": [0.0, 1000.0]}


def test_only_what_was_done_is_said_and_cited() -> None:
    text, references = methods_paragraph({"dti": TENSOR})
    assert "weighted linear least squares to the volumes with b = 0, 1000 s/mm²" in text
    assert references == [REFERENCES["tensor"], REFERENCES["wls"]]
    assert "NODDI" not in text
    assert "denoised" not in text


def test_numbers_in_the_text_are_those_of_the_references() -> None:
    steps = {
        "denoise": {"Method": "patch2self"},
        "mask": {"Method": "hdbet"},
        "dti": TENSOR,
        "noddi": {"Fit": "convex", "ParallelDiffusivity": 1.7e-3, "IsotropicDiffusivity": 3e-3},
        "fod": {"x": 1},
        "peaks": {"NPeaks": 3, "RelativePeakThreshold": 0.5, "MinSeparationAngle": 25.0},
    }
    text, references = methods_paragraph(steps, algorithm="dhollander", csd_model="msmtcsd", n_tracts=72)
    cited = [int(n) for group in re.findall(r"\[([\d, ]+)\]", text) for n in group.split(",")]
    assert sorted(set(cited)) == list(range(1, len(references) + 1))
    assert references[0] == REFERENCES["patch2self"]
    assert REFERENCES["msmtcsd"] in references
    assert "72 white-matter tracts" in text
    assert "multi-shell multi-tissue" in text


def test_single_shell_models_are_not_called_multi_tissue() -> None:
    text, references = methods_paragraph({"fod": {"x": 1}}, algorithm="tournier", csd_model="csd")
    assert "single-shell constrained" in text
    assert references == [REFERENCES["tournier"], REFERENCES["csd"]]
