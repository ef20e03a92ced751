"""b-values, b-vectors and gradient tables in every layout met in the wild."""

from __future__ import annotations

import json
import os
import re
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from arcuate.errors import InputError, InputWarning
from arcuate.gradients import GradientTable
from arcuate.io import (
    FslBvalResource,
    FslBvecResource,
    NiftiVolumeResource,
    beside_image,
    common_name,
    find_gradients,
    find_images,
    image_stem,
    read_mrtrix_table,
    write_mrtrix_table,
)
from arcuate.io.sidecars import read_sidecar, warn_of_unlike_parts
from arcuate.volumes.resource import InMemoryBvalResource, InMemoryBvecResource, InMemoryVolumeResource

BVALS = np.array([0.0, 1000, 1000.5, 2e3])
BVECS = np.array([[0, 0, 0], [1, 0, 0], [-0.6, 0.8, 0], [0.5773502691896258, 0.5773502691896258, -0.5773502691896258]])
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

BVAL_TEXTS = {
    "row": "0 1000 1000.5 2000\n",
    "row without line end": "0 1000 1000.5 2000",
    "column": "0\n1000\n1000.5\n2000\n",
    "exponents": "0.000e+00 1.0E+03 1.0005e3 2E3\n",
    "tabs": "0\t1000\t1000.5\t2000\n",
    "trailing blanks": "0 1000 1000.5 2000   \t \n",
    "leading blanks": "   0  1000   1000.5 2000\n",
    "blank lines": "\n\n0 1000 1000.5 2000\n\n  \n",
    "Windows row": "0 1000 1000.5 2000\r\n",
    "Windows column": "0\r\n1000\r\n1000.5\r\n2000\r\n",
    "old Mac column": "0\r1000\r1000.5\r2000\r",
    "commas": "0,1000,1000.5,2000\n",
    "commas and blanks": "0, 1000, 1000.5, 2000,\n",
    "semicolons": "0;1000;1000.5;2000\n",
    "byte order mark": "\ufeff0 1000 1000.5 2000\n",
    "comment": "# b-values of the scan\n0 1000 1000.5 2000\n",
    "plus signs": "+0 +1000 +1000.5 +2000.\n",
    "no-break spaces": "0\u00a01000\u00a01000.5\u00a02000\n",
    "NULs of a fixed length": "0 1000 1000.5 2000\n\0\0\0\0",
    "end of file of DOS": "0\r\n1000\r\n1000.5\r\n2000\r\n\x1a",
}


@pytest.mark.parametrize("text", BVAL_TEXTS.values(), ids=BVAL_TEXTS.keys())
def test_b_values_are_read_in_this_layout(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.bval").write_bytes(text.encode())
    found = FslBvalResource(tmp_path / "x.bval").get()
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, BVALS)


def _text(rows: np.ndarray, separator: str = " ", end: str = "\n", form: str = "{!r}") -> str:
    return "".join(separator.join(form.format(float(v)) for v in row) + end for row in rows)


BVEC_TEXTS = {
    "three rows": _text(BVECS.T),
    "one vector per row": _text(BVECS),
    "exponents": _text(BVECS.T, form="{:.17e}"),
    "tabs, Windows": _text(BVECS.T, "\t", "\r\n"),
    "trailing blanks": _text(BVECS.T, end="  \n") + "\n \n",
    "rows, trailing tabs, Windows": _text(BVECS, end="\t\r\n"),
    "commas": _text(BVECS, ","),
    "byte order mark": "\ufeff" + _text(BVECS.T),
    "several blanks": _text(BVECS.T, "    "),
    "no last line end": _text(BVECS.T).rstrip(),
    "minus of a word processor": _text(BVECS.T).replace("-", "\u2212"),
    "dash for minus": _text(BVECS).replace("-", "\u2013"),
    "NULs at the end": _text(BVECS.T) + "\0" * 8,
}


@pytest.mark.parametrize("text", BVEC_TEXTS.values(), ids=BVEC_TEXTS.keys())
def test_b_vectors_are_read_in_this_layout(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.bvec").write_bytes(text.encode())
    found = FslBvecResource(tmp_path / "x.bvec").get()
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, BVECS)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_what_windows_editors_write_is_read(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "x.bvec").write_bytes(_text(BVECS.T, end="\r\n").encode(encoding))
    np.testing.assert_array_equal(FslBvecResource(tmp_path / "x.bvec").get(), BVECS)


def test_b_vectors_that_are_not_numbers_come_as_the_file_has_them(tmp_path: Path) -> None:
    (tmp_path / "x.bvec").write_text("nan NaN 1 0\nNAN -nan 0 1\nnan nan 0 0\n")
    found = FslBvecResource(tmp_path / "x.bvec").get()
    np.testing.assert_array_equal(found, [[np.nan] * 3, [np.nan] * 3, [1, 0, 0], [0, 1, 0]])


def test_three_rows_of_three_are_fsl_columns_unless_only_the_rows_are_unit_vectors(tmp_path: Path) -> None:
    vectors = np.array([[0, 0, 0], [0.6, 0.8, 0], [0, 0, 1]])
    for i, rows in enumerate([vectors, vectors.T]):
        (tmp_path / f"{i}.bvec").write_text(_text(rows))
        np.testing.assert_array_equal(FslBvecResource(tmp_path / f"{i}.bvec").get(), vectors)
    turned = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])  # unit both ways: FSL's layout decides
    (tmp_path / "both.bvec").write_text(_text(turned))
    np.testing.assert_array_equal(FslBvecResource(tmp_path / "both.bvec").get(), turned.T)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 60])
def test_a_file_of_n_vectors_is_read_in_both_layouts(n: int, tmp_path: Path) -> None:
    vectors = np.random.default_rng(n).normal(size=(n, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for name, rows in {"rows": vectors, "columns": vectors.T}.items():
        (tmp_path / name).write_text(_text(rows))
        np.testing.assert_array_equal(FslBvecResource(tmp_path / name).get(), vectors)


REFUSED_BVALS = {
    "empty": ("", "holds no numbers"),
    "blank": (" \n\t\r\n", "holds no numbers"),
    "words": ("0 1000 abc\n", "line 1.*'abc'.*numbers only"),
    "two rows": ("0 1000\n1000 2000\n", "2 rows of 2 numbers.*one row or one column"),
    "b-vectors": (_text(BVECS.T), "looks like a b-vector file"),
    "brackets": ("[0, 1000]", r"'\[0'"),
    "hexadecimal": ("0x10 1000", "'0x10'"),
    "underscore": ("1_000 0", "'1_000'"),
    "decimal commas": ("0,0 1000,5 2000,0\n", "commas may be decimal points"),
    "half a number": ("0 1000 2e\n", "'2e'"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED_BVALS.values(), ids=REFUSED_BVALS.keys())
def test_b_values_that_make_no_sense_are_refused_in_a_sentence(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.bval").write_bytes(text.encode())
    with pytest.raises(InputError, match=message):
        FslBvalResource(tmp_path / "x.bval").get()


REFUSED_BVECS = {
    "b-values": ("0 1000 1000 2000\n", "looks like a b-value file"),
    "MRtrix table": (_text(np.column_stack([BVECS, BVALS])[[0, 1, 2, 3, 3]]), "MRtrix3 gradient table.*--grad"),
    "ragged": ("0 1 0\n0 0 1 0\n1 0 0\n", "unequal length"),
    "two rows": ("0 1 0 0\n0 0 1 0\n", "2 rows of 4"),
    "empty": ("\n", "holds no numbers"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED_BVECS.values(), ids=REFUSED_BVECS.keys())
def test_b_vectors_that_make_no_sense_are_refused_in_a_sentence(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.bvec").write_bytes(text.encode())
    with pytest.raises(InputError, match=message):
        FslBvecResource(tmp_path / "x.bvec").get()


@pytest.mark.parametrize("reader", [FslBvalResource, FslBvecResource])
def test_a_missing_file_or_a_folder_is_refused_and_only_when_read(
    reader: type[FslBvalResource | FslBvecResource], tmp_path: Path
) -> None:
    absent = reader(tmp_path / "absent")
    with pytest.raises(InputError, match="does not exist"):
        absent.get()
    with pytest.raises(InputError, match="is a folder; expected a text file"):
        reader(tmp_path).load()


@same_folder
@given(content=st.binary(max_size=200))
@example(content=b"\xff\xfe0\x00 ")
@example(content=b"\xfe\xff")
@example(content=b"\x1f\x8b\x08\x00")
@example(content=b"1e999")
@example(content=b"\xef\xbb\xbf")
def test_any_bytes_are_read_or_refused_but_never_crash(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "any"
    path.write_bytes(content)
    for read in (FslBvalResource(path).get, FslBvecResource(path).get, lambda: read_mrtrix_table(path)):
        try:
            found = read()
        except InputError:
            continue
        assert found.dtype == np.float64
        assert found.size > 0


@same_folder
@given(content=st.text(alphabet="0123456789.eE+-nai \t\r\n,;#x", max_size=120))
def test_any_mixture_of_numbers_and_separators_is_read_or_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "any"
    path.write_text(content, newline="")
    for read in (FslBvalResource(path).get, FslBvecResource(path).get, lambda: read_mrtrix_table(path)):
        try:
            found = read()
        except InputError:
            continue
        assert found.ndim == 1 or found.shape[1] in (3, 4)


finite = st.floats(allow_nan=False, allow_infinity=False)


@same_folder
@given(values=st.lists(finite, min_size=1, max_size=30), data=st.data())
def test_b_values_come_back_to_the_last_bit(values: list[float], data: st.DataObject, tmp_path: Path) -> None:
    saved = FslBvalResource.save(InMemoryBvalResource(np.array(values)), tmp_path / "x.bval")
    np.testing.assert_array_equal(saved.get(), values)
    separator = data.draw(st.sampled_from([" ", "  ", "\t", ", ", "\n", "\r\n", " \r\n", ";"]))
    (tmp_path / "y.bval").write_text(separator.join(repr(v) for v in values), newline="")
    np.testing.assert_array_equal(FslBvalResource(tmp_path / "y.bval").get(), values)


@same_folder
@given(rows=st.lists(st.tuples(finite, finite, finite), min_size=4, max_size=20))
def test_b_vectors_come_back_to_the_last_bit(rows: list[tuple[float, float, float]], tmp_path: Path) -> None:
    saved = FslBvecResource.save(InMemoryBvecResource(np.array(rows)), tmp_path / "x.bvec")
    np.testing.assert_array_equal(saved.get(), rows)
    np.testing.assert_array_equal(saved.load().get(), rows)
    assert len((tmp_path / "x.bvec").read_text().splitlines()) == 3


def test_whole_b_values_are_written_without_decimals(tmp_path: Path) -> None:
    FslBvalResource.save(BVALS, tmp_path / "x.bval")
    assert (tmp_path / "x.bval").read_bytes() == b"0 1000 1000.5 2000\n"


def test_saving_vectors_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\(3, 4\).*\(n, 3\)"):
        FslBvecResource.save(BVECS.T, tmp_path / "x.bvec")
    with pytest.raises(InputError, match=r"expected \(n,\)"):
        FslBvalResource.save(BVALS[None], tmp_path / "x.bval")
    assert list(tmp_path.iterdir()) == []


# --- MRtrix3's tables


def test_an_mrtrix_table_written_by_us_is_what_mrtrix_reads(tmp_path: Path, mrtrix: Path) -> None:
    affine = np.diag([2.0, 2, 2, 1])
    table = GradientTable.from_fsl(BVALS, BVECS, affine)
    write_mrtrix_table(table, tmp_path / "x.b")
    volume = InMemoryVolumeResource(np.zeros((2, 3, 4, 4), np.float32), affine)
    NiftiVolumeResource.save(volume, tmp_path / "x.nii")
    command = [mrtrix / "mrinfo", "-quiet", "-bvalue_scaling", "false", tmp_path / "x.nii", "-grad", tmp_path / "x.b"]
    text = subprocess.run([*command, "-dwgrad"], capture_output=True, text=True, check=True).stdout
    np.testing.assert_allclose(np.loadtxt(text.splitlines()), table.to_mrtrix(), atol=1e-12)
    subprocess.run([*command, "-export_grad_mrtrix", tmp_path / "y.b"], check=True)
    assert (tmp_path / "y.b").read_text().startswith("#")
    np.testing.assert_allclose(read_mrtrix_table(tmp_path / "y.b"), table.to_mrtrix(), atol=1e-6)


_ROWS = np.column_stack([BVECS, BVALS])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.vstack([BVECS, BVECS]).T, r"expected four: x y z b.*--bvec"),
        (np.vstack([_ROWS, _ROWS]).T, r"expected four: x y z b.*four rows may be x, y, z and b"),
        (_ROWS[:, [3, 0, 1, 2]], r"b-values in the first of its columns.*in the last: x y z b.*--bval and --bvec"),
        (
            np.column_stack([_ROWS, _ROWS[:, 0]])[[0, 1, 2, 3, 3]],
            r"rows of 5 numbers; expected four.*Take other columns out",
        ),
    ],
    ids=["FSL's vectors", "four rows", "b first", "five columns"],
)
def test_what_is_no_table_of_mrtrix_is_refused_with_what_to_do(rows: np.ndarray, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.b").write_text(_text(rows))
    with pytest.raises(InputError, match=message):
        read_mrtrix_table(tmp_path / "x.b")


@pytest.mark.parametrize("text", ["0 1000\n1000 2000\n", "bvals\n0 1000\n", "[0, 1000]\n"])
def test_broken_lines_headings_and_brackets_are_refused_with_what_to_do(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.bval").write_text(text)
    with pytest.raises(InputError, match=r"Join lines that were broken|Take headings and brackets out"):
        FslBvalResource(tmp_path / "x.bval").get()


# --- files beside the image


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, :3] @= np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    volume = InMemoryVolumeResource(np.ones((2, 3, 4, 4), np.float32), affine)
    NiftiVolumeResource.save(volume, tmp_path / "sub-01_dwi.nii.gz")
    return tmp_path / "sub-01_dwi.nii.gz"


@pytest.mark.parametrize(
    ("bval", "bvec"),
    [("sub-01_dwi.bval", "sub-01_dwi.bvec"), ("sub-01_dwi.bvals", "sub-01_dwi.bvecs"), ("bvals", "bvecs")],
)
def test_gradient_files_are_found_beside_the_image(bval: str, bvec: str, scan: Path) -> None:
    FslBvalResource.save(BVALS, scan.with_name(bval))
    FslBvecResource.save(BVECS, scan.with_name(bvec))
    volume, bvals, bvecs = find_gradients(scan)
    assert volume.shape == (2, 3, 4, 4)
    np.testing.assert_array_equal(bvals.get(), BVALS)
    np.testing.assert_array_equal(bvecs.get(), BVECS)


def test_files_in_another_case_are_found_where_none_is_spelled_as_the_image(scan: Path) -> None:
    FslBvalResource.save(BVALS, scan.with_name("SUB-01_DWI.BVAL"))
    FslBvecResource.save(BVECS, scan.with_name("sub-01_dwi.BVEC"))
    _, bvals, bvecs = find_gradients(scan)
    np.testing.assert_array_equal(bvals.get(), BVALS)
    np.testing.assert_array_equal(bvecs.get(), BVECS)
    FslBvalResource.save(BVALS * 2, scan.with_name("sub-01_dwi.bval"))
    np.testing.assert_array_equal(find_gradients(scan)[1].get(), BVALS * 2)


def test_what_is_no_image_is_refused_as_such_before_its_gradients_are_missed(tmp_path: Path) -> None:
    for name, content in (("x.nrrd", b"NRRD0004\n" * 99), ("empty.nii.gz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as NIfTI"):
            find_gradients(tmp_path / name)


def test_a_pipe_is_refused_and_not_waited_for(scan: Path) -> None:
    pipe = scan.with_name("pipe.nii.gz")
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="is no file"):
        _ = NiftiVolumeResource(pipe).shape
    with pytest.raises(InputError, match="is no file"):
        _ = FslBvalResource(pipe).get()


def test_a_link_to_nothing_says_where_it_points_and_how_to_fetch_it(scan: Path) -> None:
    link = scan.with_name("annexed_dwi.nii.gz")
    link.symlink_to(".git/annex/objects/x.nii.gz")
    for files in ({"path": link}, {"path": scan, "bval": link}):
        with pytest.raises(InputError, match=r"annexed_dwi.*is a link to \.git/annex/objects/x\.nii\.gz.*datalad get"):
            find_gradients(**files)
    with pytest.raises(InputError, match=r"is a link to.*datalad get"):
        _ = FslBvalResource(link).get()


def test_an_mrtrix_table_gives_the_same_directions_as_the_pair_it_stands_for(scan: Path) -> None:
    affine = NiftiVolumeResource(scan).get_affine()
    table = GradientTable.from_fsl(BVALS, BVECS, affine)
    write_mrtrix_table(table, scan.with_name("sub-01_dwi.b"))
    for grad in (None, scan.with_name("sub-01_dwi.b")):
        _, bvals, bvecs = find_gradients(scan, grad=grad)
        np.testing.assert_array_equal(bvals.load().get(), BVALS)
        np.testing.assert_allclose(bvecs.load().get(), BVECS, atol=1e-12)


def test_the_files_of_this_image_win_over_those_of_the_folder(scan: Path) -> None:
    FslBvalResource.save(BVALS + 1, scan.with_name("bvals"))
    FslBvecResource.save(BVECS, scan.with_name("bvecs"))
    FslBvalResource.save(BVALS, scan.with_name("sub-01_dwi.bval"))
    FslBvecResource.save(BVECS, scan.with_name("sub-01_dwi.bvec"))
    np.testing.assert_array_equal(find_gradients(scan)[1].get(), BVALS)


def test_files_given_win_over_those_found(scan: Path, tmp_path: Path) -> None:
    FslBvalResource.save(BVALS, scan.with_name("sub-01_dwi.bval"))
    FslBvecResource.save(BVECS, scan.with_name("sub-01_dwi.bvec"))
    FslBvalResource.save(BVALS * 2, tmp_path / "other.txt")
    _, bvals, bvecs = find_gradients(scan, bval=tmp_path / "other.txt")
    np.testing.assert_array_equal(bvals.get(), BVALS * 2)
    np.testing.assert_array_equal(bvecs.get(), BVECS)


def test_missing_files_are_named_with_the_option_that_gives_them(scan: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no b-values .*sub-01_dwi\.bval, .*bvals.*_dwi\.b .*above.*--bval"):
        find_gradients(scan)
    FslBvalResource.save(BVALS, scan.with_name("sub-01_dwi.bval"))
    with pytest.raises(InputError, match=r"no b-vectors .*sub-01_dwi\.bvec.*--bvec"):
        find_gradients(scan)
    with pytest.raises(InputError, match=r"nowhere.*--bvec.*does not exist"):
        find_gradients(scan, bvec=tmp_path / "nowhere")
    with pytest.raises(InputError, match="does not exist"):
        find_gradients(tmp_path / "absent.nii.gz")


def test_a_table_and_a_pair_at_once_are_refused(scan: Path) -> None:
    FslBvalResource.save(BVALS, scan.with_name("x.bval"))
    with pytest.raises(InputError, match="both --grad and --bval"):
        find_gradients(scan, bval=scan.with_name("x.bval"), grad=scan.with_name("x.bval"))


# --- numbers as other programs print them


@pytest.mark.parametrize("word", ["-1.#IND", "1.#QNAN", "-1.#IND00", "1.#SNAN", "nan", "-nan(ind)", "NaN"])
def test_nan_as_windows_prints_it_is_nan_and_no_comment(word: str, tmp_path: Path) -> None:
    (tmp_path / "x.bvec").write_text(f"{word} 1 0 0 # a comment\r\n{word} 0 1 0\r\n{word} 0 0 1\r\n")
    found = FslBvecResource(tmp_path / "x.bvec").get()
    np.testing.assert_array_equal(found, [[np.nan] * 3, [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    (tmp_path / "y.bval").write_text("0 1.#INF")
    np.testing.assert_array_equal(FslBvalResource(tmp_path / "y.bval").get(), [0, np.inf])


@pytest.mark.parametrize("separator", [" ", "\t", ";", "; ", "  "])
def test_decimal_commas_of_unit_vectors_are_certain(separator: str, tmp_path: Path) -> None:
    vectors = np.round(np.random.default_rng(0).normal(size=(12, 3)), 6)
    vectors = np.round(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), 6)
    text = "\r\n".join(separator.join(f"{v:.6f}".replace(".", ",") for v in row) for row in vectors.T)
    (tmp_path / "x.bvec").write_text(text)
    np.testing.assert_allclose(FslBvecResource(tmp_path / "x.bvec").get(), vectors)


def test_decimal_commas_of_b_values_are_taken_only_where_certain(tmp_path: Path) -> None:
    (tmp_path / "sure.bval").write_text("0,000000 1000,050000 2000,000000")
    np.testing.assert_array_equal(FslBvalResource(tmp_path / "sure.bval").get(), [0, 1000.05, 2000])
    (tmp_path / "unsure.bval").write_text("0,0 1000,5 2000,0")
    with pytest.raises(InputError, match="commas may be decimal points"):
        FslBvalResource(tmp_path / "unsure.bval").get()
    (tmp_path / "matrix.bvec").write_text("1,0,0;0,1,0")
    with pytest.raises(InputError, match=r"1 rows of 6 numbers"):
        FslBvecResource(tmp_path / "matrix.bvec").get()


# --- names


@pytest.mark.parametrize("name", ["a/X_dwi.nii.gz", "X_dwi.NII.GZ", "X_dwi.Nii", "X_dwi.nii", "X_dwi.mif", "X_dwi.hdr"])
def test_the_stem_of_an_image_has_no_suffix_in_whatever_case(name: str) -> None:
    assert image_stem(name) == "X_dwi"
    assert beside_image(name, ".json") == Path(name).with_name("X_dwi.json")


def test_a_name_with_dots_keeps_them() -> None:
    assert image_stem("sub.01.v2.nii.gz") == "sub.01.v2"
    assert image_stem("plain") == "plain"


def test_parts_are_named_by_what_they_share() -> None:
    parts = [Path(f"d/sub-1_acq-a_run-{i}_dwi.nii.gz") for i in (1, 2)]
    assert common_name(parts) == Path("d/sub-1_acq-a_dwi.nii.gz")
    assert common_name(parts[:1]) == parts[0]
    assert common_name([Path("A.nii.gz"), Path("B.nii.gz")]) == Path("A.nii.gz")


# --- BIDS' inheritance, eddy, folders


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".nii.gz"):
        NiftiVolumeResource.save(InMemoryVolumeResource(np.ones((2, 3, 4, 4), np.float32)), path)
    elif "vec" in path.name:
        FslBvecResource.save(BVECS, path)
    elif "val" in path.name:
        FslBvalResource.save(BVALS, path)
    else:
        path.write_text("{}")
    return path


def found(image: Path) -> list[str]:
    return [resource.path.name for resource in find_gradients(image)[1:]]


def test_gradients_apply_from_the_folders_above_as_in_bids(tmp_path: Path) -> None:
    image = put(tmp_path / "ds/sub-01/ses-1/dwi/sub-01_ses-1_acq-b2000_run-1_dwi.nii.gz")
    put(tmp_path / "dwi.bval"), put(tmp_path / "dwi.bvec")  # above the data set: never
    put(tmp_path / "ds/dataset_description.json")
    with pytest.raises(InputError, match="no b-values"):
        find_gradients(image)
    put(tmp_path / "ds/dwi.bval")
    put(tmp_path / "ds/dwi.bvec")
    assert found(image) == ["dwi.bval", "dwi.bvec"]
    for name in ("acq-b2000_dwi.bvec", "acq-b700_dwi.bvec", "acq-b2000_sbref.bvec"):
        put(tmp_path / "ds" / name)
    assert found(image) == ["dwi.bval", "acq-b2000_dwi.bvec"]
    put(tmp_path / "ds/sub-01/sub-01_dwi.bval")
    put(tmp_path / "ds/sub-01/sub-02_dwi.bval")
    assert found(image)[0] == "sub-01_dwi.bval", "the nearest folder wins"
    put(image.with_name("sub-01_ses-1_acq-b2000_dwi.bval"))
    put(image.with_name("sub-01_ses-1_dwi.bval"))
    assert found(image)[0] == "sub-01_ses-1_acq-b2000_dwi.bval", "the file with most entities wins"
    put(image.with_name("sub-01_ses-1_run-1_dwi.bval"))
    with pytest.raises(InputError, match=r"apply alike.*--bval"):
        find_gradients(image)
    put(image.with_name("sub-01_ses-1_acq-b2000_run-1_dwi.bval"))
    assert found(image)[0] == "sub-01_ses-1_acq-b2000_run-1_dwi.bval"


def test_without_a_data_set_nothing_is_taken_from_above(tmp_path: Path) -> None:
    image = put(tmp_path / "a/b/sub-01_dwi.nii.gz")
    put(tmp_path / "dwi.bval")
    put(tmp_path / "a/dwi.bval")
    put(tmp_path / "a/dwi.bvec")
    with pytest.raises(InputError, match="no b-values"):
        find_gradients(image)


def test_the_rotated_vectors_of_eddy_are_taken_and_said(tmp_path: Path) -> None:
    image = put(tmp_path / "data.nii.gz")
    put(tmp_path / "data.eddy_rotated_bvecs")
    put(tmp_path / "bvals")
    assert found(image) == ["bvals", "data.eddy_rotated_bvecs"]
    put(tmp_path / "data.bvec")
    with pytest.warns(InputWarning, match=r"took eddy's rotated b-vectors.*--bvec"):
        assert found(image)[1] == "data.eddy_rotated_bvecs"


@pytest.mark.parametrize("ending", ["_bval", ".bvals", "_bvals.txt"])
def test_other_habits_of_naming_are_found(ending: str, tmp_path: Path) -> None:
    image = put(tmp_path / "x.nii.gz")
    put(tmp_path / f"x{ending}")
    put(tmp_path / f"x{ending.replace('bval', 'bvec')}")
    assert found(image) == [f"x{ending}", f"x{ending.replace('bval', 'bvec')}"]


def test_a_folder_gives_its_diffusion_images(tmp_path: Path) -> None:
    dwi = tmp_path / "sub-1/dwi"
    names = [f"sub-1_run-{i}_dwi.nii.gz" for i in (1, 2)]
    for name in [*names, "sub-1_run-1_sbref.nii.gz"]:
        put(dwi / name)
    assert [p.name for p in find_images([tmp_path / "sub-1"])] == names
    assert [p.name for p in find_images([dwi])] == names
    plain = tmp_path / "plain"
    put(plain / "A.nii.gz")
    put(plain / "A.bval")
    put(plain / "A.bvec")
    put(plain / "T1.nii.gz")
    assert [p.name for p in find_images([plain])] == ["A.nii.gz"]
    with pytest.raises(InputError, match="given twice"):
        find_images([plain, plain / "A.nii.gz"])
    with pytest.raises(InputError, match=r"found no diffusion image.*such as .*sub-1"):
        find_images([tmp_path])
    put(dwi / "sub-2_dwi.nii.gz")
    with pytest.raises(InputError, match=r"images of sub-1, sub-2.*one scan"):
        find_images([dwi])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("sub-1_echo-1_dwi.nii.gz", "sub-1_echo-2_dwi.nii.gz"), r"versions of one scan \(echo-1, echo-2\)"),
        (("sub-1_dwi.nii.gz", "sub-1_desc-denoised_dwi.nii.gz"), r"versions of one scan \(no desc, desc-denoised\)"),
        (("sub-1_space-A_dwi.nii.gz", "sub-1_space-B_dwi.nii.gz"), r"versions of one scan \(space-A, space-B\)"),
        (("sub-1_dwi.nii", "sub-1_dwi.nii.gz"), r"one scan in two formats \(sub-1_dwi.nii and sub-1_dwi.nii.gz\)"),
    ],
)
def test_versions_of_one_scan_in_a_folder_are_no_parts(names: tuple[str, str], words: str, tmp_path: Path) -> None:
    for name in names:
        put(tmp_path / name)
    with pytest.raises(InputError, match=rf"holds {words}; expected one, or the parts of one scan. Name the images"):
        find_images([tmp_path])
    if "formats" not in words:
        with pytest.warns(InputWarning, match=rf"images are {words}, joined as its parts"):
            assert len(find_images([tmp_path / name for name in names])) == 2


def test_a_folder_of_the_hcp_gives_the_one_image_that_its_gradients_fit(tmp_path: Path) -> None:
    for name, n in (("data", 4), ("grad_dev", 9)):
        series = InMemoryVolumeResource(np.ones((2, 3, 4, n), np.float32), np.eye(4))
        NiftiVolumeResource.save(series, tmp_path / f"{name}.nii.gz")
    NiftiVolumeResource.save(series.with_array(np.ones((2, 3, 4))), tmp_path / "nodif_brain_mask.nii.gz")
    (tmp_path / "bvals").write_text("5 1000 2000 3000")
    (tmp_path / "bvecs").write_text("\n".join(["0 1 1 0", "0 0 0 1", "0 0 0 0"]))
    assert [p.name for p in find_images([tmp_path])] == ["data.nii.gz"]
    (tmp_path / "bvals").write_text("5 1000 2000")
    with pytest.raises(InputError, match="found no diffusion image in the folder"):
        find_images([tmp_path])


def test_phase_images_and_single_volumes_are_no_parts_of_a_scan(tmp_path: Path) -> None:
    dwi = tmp_path / "sub-1/dwi"
    series = InMemoryVolumeResource(np.ones((2, 3, 4, 4), np.float32), np.eye(4))
    for part in ("mag", "phase"):
        NiftiVolumeResource.save(series, dwi / f"sub-1_part-{part}_dwi.nii.gz")
    NiftiVolumeResource.save(series.with_array(np.ones((2, 3, 4))), dwi / "sub-1_desc-ADC_dwi.nii.gz")
    assert [p.name for p in find_images([tmp_path / "sub-1"])] == ["sub-1_part-mag_dwi.nii.gz"]
    with pytest.raises(InputError, match=r"phase part of a complex image.*part-mag"):
        find_images([dwi / "sub-1_part-phase_dwi.nii.gz"])


def test_sidecars_are_inherited_the_nearest_first_and_read_with_a_byte_order_mark(tmp_path: Path) -> None:
    image = tmp_path / "sub-1/dwi/sub-1_dwi.nii.gz"
    put(image)
    (tmp_path / "dataset_description.json").write_text("{}")
    (tmp_path / "dwi.json").write_text('{"Denoised": true, "EchoTime": 1}')
    (tmp_path / "sub-1/sub-1_dwi.json").write_text('{"EchoTime": 2}')
    assert read_sidecar(image) == {"Denoised": True, "EchoTime": 2}
    image.with_name("sub-1_dwi.json").write_text('\ufeff{"EchoTime": 3}')
    assert read_sidecar(image) == {"Denoised": True, "EchoTime": 3}
    image.with_name("sub-1_dwi.json").write_text("[" * 100_000)
    with pytest.warns(InputWarning, match="cannot be read as a JSON object"):
        assert read_sidecar(image)["EchoTime"] == 2
    image.with_name("sub-1_dwi.json").unlink()
    image.with_name("sub-1_dwi.json").mkdir()
    with pytest.warns(InputWarning, match=r"sub-1_dwi.json beside the image cannot be read \(Is a directory\)"):
        assert read_sidecar(image)["EchoTime"] == 2


def test_images_of_several_subjects_are_no_parts_and_of_several_sessions_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"several subjects \(sub-01, sub-02\).*arcuate cohort"):
        find_images([tmp_path / f"sub-{i}_dwi.nii.gz" for i in ("01", "02")])
    with pytest.warns(InputWarning, match=r"several sessions \(ses-a, ses-b\)"):
        find_images([tmp_path / f"sub-01_ses-{i}_dwi.nii.gz" for i in "ab"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        find_images([tmp_path / f"sub-01_run-{i}_dwi.nii.gz" for i in "12"])


@pytest.mark.parametrize(
    ("field", "values", "words"),
    [
        ("EchoTime", (0.08, 0.1), "echo time .*: 0.08 s, .*: 0.1 s"),
        ("EchoTime", (0.08, 0.0801), None),
        ("EchoTime", (0.08, "none"), None),
        ("RepetitionTime", (4, 8), "repetition time"),
        ("RepetitionTime", (3.2, 3.23), None),
    ],
)
def test_parts_of_another_echo_or_repetition_time_are_told(tmp_path: Path, field: str, values: Any, words: str) -> None:
    images = [tmp_path / f"{name}.nii.gz" for name in "ab"]
    for image, value in zip(images, values, strict=True):
        beside_image(image, ".json").write_text(json.dumps({field: value}))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_unlike_parts(images)
    assert len(caught) == (words is not None)
    assert all(re.search(words, str(w.message)) for w in caught)


def test_parts_of_opposite_phase_encoding_are_told(tmp_path: Path) -> None:
    images = [tmp_path / f"sub-1_dir-{d}_dwi.nii.gz" for d in ("AP", "PA")]
    for image, direction in zip(images, ("j-", "j"), strict=True):
        beside_image(image, ".json").write_text(f'{{"PhaseEncodingDirection": "{direction}"}}')
    with pytest.warns(InputWarning, match=r"phase encoding \(sub-1_dir-AP.*: j-, sub-1_dir-PA.*: j\).*topup"):
        warn_of_unlike_parts(images)
    beside_image(images[1], ".json").write_text('{"PhaseEncodingDirection": "j-"}')
    warn_of_unlike_parts(images)
    beside_image(images[1], ".json").unlink()
    with pytest.warns(InputWarning, match=r"\(sub-1_dir-AP.*: dir-AP, sub-1_dir-PA.*: dir-PA\)"):
        warn_of_unlike_parts(images)
