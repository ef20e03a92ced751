"""Label images and names of labels, as the tools of the field write them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from arcuate.errors import InputError, InputWarning
from arcuate.io import NiftiVolumeResource
from arcuate.io.labels import as_labels, find_label_names, read_image, read_label_names
from arcuate.volumes.resource import InMemoryVolumeResource

FREESURFER = """#$Id: a colour table
#No. Label Name:                            R   G   B   A

0   Unknown                                 0   0   0   0
2   Left-Cerebral-White-Matter              245 245 245 0
17  Left-Hippocampus                        220 216 20  0
11101  ctx lh G_and_S_frontomargin            23  220  60   0
"""
BIDS = "index\tname\tabbreviation\tcolor\n2\tLeft white matter\tLWM\t#f5f5f5\n17\tLeft Hippocampus\tLHi\t#dcd814\n"
FSL = """<?xml version="1.0" encoding="ISO-8859-1"?>
<atlas version="1.0">
<header><name>Test</name><type>{}</type></header>
<data>
<label index="2" x="90" y="126" z="72">Left white matter</label>
<label index="17" x="90" y="126" z="72">Left Hippocampus</label>
</data>
</atlas>
"""
SNAP = """################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
    0     0    0    0        0  0  0    "Clear Label"
    2   255    0    0        1  1  1    "Left white matter"
   17     0  255    0        1  1  1    "Left Hippocampus"
"""


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("lut.txt", FREESURFER, {2: "Left-Cerebral-White-Matter", 17: "Left-Hippocampus", 0: "Unknown",
                                 11101: "ctx lh G_and_S_frontomargin"}),
        ("dseg.tsv", BIDS, {2: "Left white matter", 17: "Left Hippocampus"}),
        ("names.csv", BIDS.replace("\t", ","), {2: "Left white matter", 17: "Left Hippocampus"}),
        ("jhu.xml", FSL.format("Label"), {2: "Left white matter", 17: "Left Hippocampus"}),
        ("prob.xml", FSL.format("Probabilistic"), {3: "Left white matter", 18: "Left Hippocampus"}),
        ("snap.label", SNAP, {0: "Clear Label", 2: "Left white matter", 17: "Left Hippocampus"}),
    ],
)  # fmt: skip
def test_reads_the_names_of_every_tool(tmp_path: Path, name: str, text: str, expected: dict[int, str]) -> None:
    (tmp_path / name).write_text(text)
    assert read_label_names(tmp_path / name) == expected


def test_knows_the_labels_that_freesurfer_fastsurfer_and_synthseg_write() -> None:
    names = read_label_names("FreeSurfer")
    known = {2: "Left-Cerebral-White-Matter", 10: "Left-Thalamus", 17: "Left-Hippocampus", 54: "Right-Amygdala",
             16: "Brain-Stem", 251: "CC_Posterior", 1002: "ctx-lh-caudalanteriorcingulate",
             1035: "ctx-lh-insula", 2024: "ctx-rh-precentral"}  # fmt: skip
    assert {label: names[label] for label in known} == known


def test_what_is_no_table_of_labels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    for text in ("a,b\n1,2\n", "<atlas><data></data></atlas>", "<atlas>", "one two\nthree four\n"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"expected (names of labels|an atlas of FSL)"):
            read_label_names(path)
    path.write_text("index,name\n1.5,a\n")
    with pytest.raises(InputError, match="no whole numbers"):
        read_label_names(path)


def test_finds_the_table_beside_the_image(tmp_path: Path) -> None:
    assert find_label_names(tmp_path / "dseg.nii.gz") is None
    (tmp_path / "dseg.tsv").write_text(BIDS)
    assert find_label_names(tmp_path / "dseg.nii.gz") == tmp_path / "dseg.tsv"


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_reads_mgz_with_its_affine(tmp_path: Path, dtype: type) -> None:
    labels = np.random.default_rng(0).integers(0, 200, (5, 6, 7)).astype(dtype)
    affine = np.array([[-1.0, 0, 0, 10], [0, 0, 1, -20], [0, -1, 0, 30], [0, 0, 0, 1]])
    nib.MGHImage(labels, affine).to_filename(tmp_path / "aseg.mgz")
    volume = read_image(tmp_path / "aseg.mgz")
    np.testing.assert_array_equal(as_labels(volume), labels)
    np.testing.assert_allclose(volume.get_affine(), affine, atol=1e-5)


def test_a_damaged_or_absent_mgz_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_image(tmp_path / "a.mgz")
    (tmp_path / "a.mgz").write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot be read as an image of FreeSurfer"):
        read_image(tmp_path / "a.mgz")


def test_large_labels_keep_their_value(tmp_path: Path) -> None:
    labels = np.array([0, 2**24 + 1, 1100000001], dtype=np.int32).reshape(3, 1, 1)
    path = tmp_path / "l.nii.gz"
    NiftiVolumeResource.save(InMemoryVolumeResource(labels), path)
    np.testing.assert_array_equal(as_labels(read_image(path)), labels)


def test_labels_that_were_interpolated_are_refused_with_the_remedy() -> None:
    between = InMemoryVolumeResource(np.array([[[0.0, 1.5, 2.0]]], dtype=np.float32))
    with pytest.raises(InputError, match=r"1 voxels between whole numbers.*--interpolation label"):
        as_labels(between)
    with pytest.raises(InputError, match="not finite"):
        as_labels(InMemoryVolumeResource(np.array([[[np.nan]]])))
    with pytest.raises(InputError, match=r"of shape \(2, 2, 2, 3\); expected \(x, y, z\)"):
        as_labels(InMemoryVolumeResource(np.zeros((2, 2, 2, 3))))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.tsv", "index\tname\n1\tA\n2\tB\n2\tC\n1\tA\n"),
        ("x.txt", "1 A 0 0 0 0\n2 B 0 0 0 0\n2 C 0 0 0 0\n1 A 0 0 0 0\n"),
        (
            "x.xml",
            '<atlas><label index="1">A</label><label index="2">B</label><label index="2">C</label></atlas>',
        ),
    ],
)
def test_a_label_of_two_names_is_told(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.warns(InputWarning, match="two names for the label 2, B and C: the last is taken"):
        assert read_label_names(tmp_path / name) == {1: "A", 2: "C"}


def test_names_in_another_encoding_say_which_is_expected(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_bytes("index\tname\n1\tK\xf6rper\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"no text in UTF-8; expected names of labels as plain text\. Save it so"):
        read_label_names(tmp_path / "x.tsv")
