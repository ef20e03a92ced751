"""Images of MRtrix3: each layout and type as mrconvert reads it, gradients in the header, and what is written."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from arcuate.dwi import Dwi
from arcuate.errors import InputError, InputWarning
from arcuate.io import MifVolumeResource, NiftiVolumeResource, open_volume, save_volume
from arcuate.volumes.resource import InMemoryVolumeResource


def placed(turn: list[float], axes: np.ndarray, sizes: list[float], origin: list[float]) -> np.ndarray:
    """An affine: axes of voxels along those of the scanner, then turned by the rotation vector ``turn``."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(turn).as_matrix() @ axes * sizes
    affine[:3, 3] = origin
    return affine


TILTED = placed([0.17, 0.05, -0.08], np.diag([-1, 1, 1]), [2, 2, 2.5], [90, -80, -50])
SAGITTAL = placed([0.02, -0.1, 0.06], np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]), [2, 1.5, 3], [-40, 70, 33])
LAYOUTS = [
    "1,2,3,4", "-1,2,3,4", "-1,-2,3,4", "-1,-2,-3,-4", "1,2,3,-4", "2,3,4,1", "-2,3,-4,1", "2,3,4,-1", "3,1,2,4",
    "-3,-1,2,4", "4,3,2,1", "2,1,4,3", "1,3,2,4", "3,4,-1,2",
]  # fmt: skip
TYPES = ["int8", "uint8"] + [
    f"{kind}{end}" for kind in ("int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
    for end in ("le", "be")
]  # fmt: skip


def mrconvert(*words: object) -> None:
    subprocess.run(["mrconvert", *map(str, words), "-quiet", "-force"], check=True)


@pytest.fixture(params=[TILTED, SAGITTAL], ids=["tilted", "sagittal"])
def scan(request: pytest.FixtureRequest, tmp_path: Path, make_scan: Callable[[np.ndarray], Dwi]) -> Path:
    """A small scan in NIfTI, gradient files beside it."""
    make_scan(request.param).save(tmp_path, "scan")
    return tmp_path / "scan.nii.gz"


@pytest.fixture
def make_scan() -> Callable[[np.ndarray], Dwi]:
    def make(affine: np.ndarray) -> Dwi:
        from arcuate.gradients import GradientTable

        rng = np.random.default_rng(3)
        directions = rng.normal(size=(7, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        bvals = np.array([0, 1000, 1000, 1000, 2000, 2000, 2000.0])
        directions[0] = 0
        array = rng.integers(0, 120, (5, 6, 4, 7)).astype(np.float32)
        return Dwi.from_arrays(array, affine, GradientTable(bvals, directions))

    return make


def volumes_forward(layout: str) -> list[str]:
    """Words that let mrconvert write volumes in their own order.

    MRtrix3 3.0.3 writes the volumes of an image stored last first to NIfTI in the order of the file, and the
    gradients in that of the volumes, so that they no longer belong together.
    """
    *space, volumes = layout.split(",")
    return ["-strides", ",".join([*space, volumes.lstrip("-")])]


def same(ours: MifVolumeResource | NiftiVolumeResource, theirs: NiftiVolumeResource) -> None:
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours.get_array(), theirs.get_array())
    np.testing.assert_allclose(ours.get_affine(), theirs.get_affine(), atol=2e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", [".mif", ".mif.gz", ".mih"])
def test_every_layout_is_read_as_mrconvert_reads_it(layout: str, suffix: str, scan: Path, mrtrix: Path) -> None:
    image, nifti = scan.with_name(f"x{suffix}"), scan.with_name("x.nii")
    gradients = ["-fslgrad", scan.with_name("scan.bvec"), scan.with_name("scan.bval")]
    mrconvert(scan, image, "-strides", layout, *gradients)
    exported = ["-export_grad_fsl", scan.with_name("x.bvec"), scan.with_name("x.bval")]
    mrconvert(image, nifti, *exported, *volumes_forward(layout))
    same(open_volume(image), NiftiVolumeResource(nifti))
    np.testing.assert_array_equal(open_volume(image).get_volume(-2), NiftiVolumeResource(nifti).get_volume(-2))
    for name in (scan.with_name("x.bval"), scan.with_name("x.bvec")):
        name.rename(scan.with_name(f"y{name.suffix}"))
    nifti.rename(scan.with_name("y.nii"))
    ours, theirs, first = Dwi.from_files(image), Dwi.from_files(scan.with_name("y.nii")), Dwi.from_files(scan)
    np.testing.assert_allclose(ours.bvec.get(), theirs.bvec.get(), atol=1e-6)
    np.testing.assert_allclose(ours.bval.get(), theirs.bval.get(), rtol=1e-6)
    np.testing.assert_allclose(ours.gradients.directions, first.gradients.directions, atol=1e-6)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("scaling", ["0,1", "-7.5,0.25"])
def test_every_type_is_read_as_mrconvert_reads_it(kind: str, scaling: str, scan: Path, mrtrix: Path) -> None:
    image, nifti = scan.with_name("x.mif"), scan.with_name("x.nii")
    mrconvert(scan, image, "-datatype", kind, "-scaling", scaling)
    mrconvert(image, nifti, "-datatype", "float64")
    found = open_volume(image)
    np.testing.assert_allclose(found.get_array(), NiftiVolumeResource(nifti).get_array(), rtol=1e-6, atol=1e-6)
    assert f"datatype: {kind}" in image.read_bytes()[:400].decode("latin-1").lower()


@pytest.mark.parametrize("layout", ["1,2,3,4", "-1,3,2,4", "2,3,4,-1"])
def test_bits_are_read_in_every_layout(layout: str, scan: Path, mrtrix: Path) -> None:
    image, nifti = scan.with_name("x.mif"), scan.with_name("x.nii")
    subprocess.run(["mrthreshold", scan, "-abs", "60", image, "-quiet"], check=True)
    mrconvert(image, scan.with_name("b.mif.gz"), "-datatype", "bit", "-strides", layout)
    mrconvert(scan.with_name("b.mif.gz"), nifti, "-datatype", "uint8", *volumes_forward(layout))
    found = open_volume(scan.with_name("b.mif.gz"))
    same(found, NiftiVolumeResource(nifti))
    assert found.get_array().dtype == np.uint8


def test_half_floats_of_newer_versions_are_read(tmp_path: Path) -> None:
    values = np.array([0.5, -2, 1024, 3], ">f2")
    head = b"mrtrix image\ndim: 2,2,1\nvox: 2,2,2\nlayout: +0,+1,+2\ndatatype: Float16BE\ntransform: 1,0,0,0\n"
    head += b"transform: 0,1,0,0\ntransform: 0,0,1,0\nfile: . 200\nEND\n"
    (tmp_path / "x.mif").write_bytes(head.ljust(200, b"\0") + values.tobytes())
    np.testing.assert_array_equal(open_volume(tmp_path / "x.mif").get_array()[..., 0].ravel("F"), values)


@pytest.mark.parametrize("suffix", [".mif", ".mif.gz"])
@pytest.mark.parametrize("affine", [TILTED, SAGITTAL])
def test_what_is_written_is_read_back_by_mrtrix(
    suffix: str, affine: np.ndarray, make_scan: Callable, tmp_path: Path, mrtrix: Path
) -> None:
    made = make_scan(affine)
    path = tmp_path / f"x{suffix}"
    written = save_volume(made.volume, path, made.gradients)
    np.testing.assert_array_equal(written.get_array(), made.volume.get_array())
    np.testing.assert_allclose(written.get_affine(), affine, atol=1e-12)
    shown = subprocess.run(["mrinfo", "-dwgrad", path, "-quiet"], capture_output=True, text=True, check=True).stdout
    rows = np.array([line.split() for line in shown.splitlines()], float)
    np.testing.assert_allclose(rows[:, 3], made.gradients.bvals, rtol=1e-6)
    np.testing.assert_allclose(rows[1:, :3], made.gradients.directions[1:], atol=1e-6)
    made.save(tmp_path, "same")
    figures = [
        subprocess.run(["mrstats", p, "-quiet"], capture_output=True, text=True, check=True).stdout
        for p in (path, tmp_path / "same.nii.gz")
    ]
    assert figures[0] == figures[1]
    mrconvert(path, tmp_path / "back.nii")
    back = NiftiVolumeResource(tmp_path / "back.nii")
    same(open_volume(path), back)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint16, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4, 3, 2), (4, 3, 2, 3)])
def test_every_type_that_is_written_comes_back(dtype: type, shape: tuple, tmp_path: Path, mrtrix: Path) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    for order in "CF":
        volume = InMemoryVolumeResource(np.asarray(array, order=order), TILTED)
        found = MifVolumeResource.save(volume, tmp_path / "x.mif").get_array()
        np.testing.assert_array_equal(found, array.astype(found.dtype))
    subprocess.run(["mrinfo", tmp_path / "x.mif", "-quiet"], check=True, capture_output=True)


def test_lines_of_the_header_are_kept_and_those_of_volumes_only_where_they_fit(scan: Path, mrtrix: Path) -> None:
    image = scan.with_name("x.mif")
    scan.with_name("pe.txt").write_text("0 1 0 0.05\n" * 6 + "0 -1 0 0.05\n")
    mrconvert(scan, image, "-set_property", "EchoTime", "0.09", "-import_pe_table", scan.with_name("pe.txt"))
    volume = open_volume(image).load()
    save_volume(volume, scan.with_name("y.mif"))
    save_volume(volume.with_array(volume.array[..., 0]), scan.with_name("z.mif"))

    def of(name: str, what: str) -> str:
        words = ["mrinfo", scan.with_name(name), "-property", what, "-quiet"]
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()

    assert of("y.mif", "EchoTime") == of("z.mif", "EchoTime") == "0.09"
    assert of("y.mif", "pe_scheme").count("0.05") == 7
    assert of("z.mif", "pe_scheme") == ""


def test_all_orders_and_directions_of_axes_agree_with_the_definition() -> None:
    """Every one of the 384 layouts of four axes: the voxel with header index (x, y, z, v) is found where it lies."""
    from arcuate.io.mif_header import MifHeader

    dims = (2, 3, 4, 5)
    index = np.arange(np.prod(dims)).reshape(dims)  # value of each voxel by its header index
    for ranks in itertools.permutations(range(4)):
        for forward in itertools.product([True, False], repeat=4):
            flipped = index[tuple(slice(None) if ahead else slice(None, None, -1) for ahead in forward)]
            in_file = flipped.transpose([ranks.index(rank) for rank in range(4)]).ravel(order="F")
            layout = tuple(zip(ranks, forward, strict=True))
            header = MifHeader(Path(), (), np.dtype("i8"), 0, 1, 0, layout, np.eye(4), False, {"dim": "2,3,4,5"})
            found = header.arrange(in_file)
            space = header.axes[:3]
            expected = index.transpose([*space, 3])
            backward = [slice(None) if forward[axis] else slice(None, None, -1) for axis in space]
            np.testing.assert_array_equal(found, expected[tuple(backward)])


REFUSED = {
    "complex": (b"datatype: Float32LE", b"datatype: CFloat32LE", "complex"),
    "type": (b"datatype: Float32LE", b"datatype: Float80LE", "data type is 'Float80LE'"),
    "layout": (b"layout: +0,+1,+2,+3", b"layout: +0,+1,+1,+3", "its layout is"),
    "dimensions": (b"dim: 5,6,4,7", b"dim: 5,0,4,7", "dimensions '5,0,4,7'"),
    "short": (b"dim: 5,6,4,7", b"dim: 5,6,4,70", "cut short"),
    "magic": (b"mrtrix image", b"mrtrix imago", "does not start with"),
    "sparse": (b"mrtrix image", b"mrtrix sparse data", "sparse"),
    "other file": (b"file: .", b"file: x.dat", "is not there"),
    "end": (b"END\n", b"END.", "ends within its header"),
}


@pytest.mark.parametrize(("old", "new", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_in_one_sentence(
    old: bytes, new: bytes, said: str, make_scan: Callable, tmp_path: Path
) -> None:
    path = tmp_path / "x.mif"
    save_volume(make_scan(TILTED).volume, path)
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(InputError, match=r".*" + said):
        open_volume(path).get_array()


def test_a_scan_without_gradients_says_where_they_were_looked_for(make_scan: Callable, tmp_path: Path) -> None:
    save_volume(make_scan(TILTED).volume, tmp_path / "x.mif")
    with pytest.raises(InputError, match=r"looked in its header and in .* --grad"):
        Dwi.from_files(tmp_path / "x.mif")


def test_a_header_without_transform_is_centred_as_mrtrix_does(
    make_scan: Callable, tmp_path: Path, mrtrix: Path
) -> None:
    path = tmp_path / "x.mif"
    save_volume(make_scan(np.diag([2.0, 2, 3, 1])).volume, path)
    lines = path.read_bytes()
    path.write_bytes(lines.replace(b"transform:", b"transfosm:"))
    with pytest.warns(InputWarning, match="does not say how it lies"):
        affine = open_volume(path).get_affine()
    shown = subprocess.run(["mrinfo", "-transform", path, "-quiet"], capture_output=True, text=True, check=True).stdout
    np.testing.assert_allclose(affine[:3, 3], [float(line.split()[3]) for line in shown.splitlines()[:3]])


def test_given_gradients_go_before_those_of_the_header(make_scan: Callable, tmp_path: Path) -> None:
    made = make_scan(TILTED)
    save_volume(made.volume, tmp_path / "x.mif", made.gradients)
    (tmp_path / "other.bval").write_text("0 500 500 500 700 700 700\n")
    made.save(tmp_path, "same")
    scan = Dwi.from_files(tmp_path / "x.mif", tmp_path / "other.bval", tmp_path / "same.bvec")
    assert scan.bval.get()[1] == 500
    assert Dwi.from_files(tmp_path / "x.mif").bval.get()[1] == 1000
