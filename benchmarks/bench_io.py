"""Saving and loading a diffusion image, side by side with nibabel.

usage: python -m benchmarks.bench_io [--small] [--write] [--repeats N]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from arcuate.io import NiftiVolumeResource
from arcuate.numerics.threads import n_threads
from arcuate.phantom import make_phantom, three_shell_gradients
from arcuate.volumes.resource import InMemoryVolumeResource
from benchmarks.side_by_side import alternate, arguments, show, table

SHAPE = (128, 128, 60, 193)
SMALL = (64, 64, 30, 49)
AFFINE = np.diag([-2.0, 2, 2, 1])

PEAK = """
import re
from pathlib import Path
import nibabel as nib
import numpy as np
from arcuate.io import NiftiVolumeResource

v = NiftiVolumeResource({path!r})
m = v.load() if {is_loaded} else v.shape
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
before = peak()
a = {work}
print((peak() - before) * 1024)
"""


def make_images(shape: tuple[int, int, int, int]) -> dict[str, np.ndarray]:
    """The phantom at SNR 30: as a scanner writes it, with volumes fastest in memory, and with the air set to zero."""
    gradients = three_shell_gradients(n_b0=1, n_directions=(shape[3] - 1) // 3)
    phantom = make_phantom(gradients, shape=shape[:3], voxel_size=256 / shape[0], snr=30, seed=0)
    scan = np.asfortranarray(phantom.signal)
    masked = np.where(phantom.brain_mask[..., None], scan, np.float32(0))
    return {
        "noise in the air": scan,
        "noise in the air, volumes fastest in memory": np.ascontiguousarray(scan),
        "air set to zero": np.asfortranarray(masked),
    }


def working_folder() -> str | None:
    """A folder in memory where there is one, so that the disk, the same for both, is not what is measured."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 4e9 else None


def peak_of(work: str, path: Path, *, is_loaded: bool) -> int:
    """Bytes by which ``work`` raises the peak memory of a fresh process."""
    code = PEAK.format(work=work, path=str(path), is_loaded=is_loaded)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def compare_saving(images: dict[str, np.ndarray], ours: Path, theirs: Path, repeats: int) -> list[list[str]]:
    """Rows on seconds and size; the files of the first image remain."""
    rows = []
    for name, array in reversed(images.items()):
        volume = InMemoryVolumeResource(array, AFFINE)

        def save(volume: InMemoryVolumeResource = volume) -> object:
            return NiftiVolumeResource.save(volume, ours)

        def save_by_nibabel(array: np.ndarray = array) -> None:
            nib.save(nib.Nifti1Image(array, AFFINE), theirs)

        pair = alternate(save, save_by_nibabel, max(1, repeats // 2))
        mine, peers = ours.stat().st_size, theirs.stat().st_size
        rows.append(pair.row(f"save .nii.gz, {name}"))
        rows.append(["its file", f"{mine / 1e6:.1f} MB", f"{peers / 1e6:.1f} MB", f"{mine / peers:.3f} of the size"])
    return rows


def compare_loading(ours: Path, theirs: Path, repeats: int) -> list[list[str]]:
    """Rows on seconds, for both kinds of file."""
    rows = []
    for name, path in {"written by arcuate": ours, "written by nibabel": theirs}.items():

        def load(path: Path = path) -> object:
            return NiftiVolumeResource(path).get_array()

        def load_by_nibabel(path: Path = path) -> object:
            return np.asanyarray(nib.load(path).dataobj, dtype=np.float32)

        pair = alternate(load, load_by_nibabel, repeats)
        rows.append(pair.row(f"load .nii.gz {name}, float32"))
    pair = alternate(
        lambda: NiftiVolumeResource(theirs).get_array(), lambda: nib.load(theirs).get_fdata(), max(1, repeats // 2)
    )
    rows.append(pair.row("the same, against `get_fdata`"))
    pair = alternate(
        lambda: NiftiVolumeResource(ours).get_volume(-1),
        lambda: np.asanyarray(nib.load(ours).dataobj[..., -1]),
        repeats,
    )
    return [
        *rows,
        pair.row("the last volume alone"),
    ]


def compare_memory(size: int, ours: Path, theirs: Path) -> list[list[str]]:
    """Rows on peak memory, in images of ``size`` bytes."""
    works = {
        "loading": ("v.get_array()", f"np.asanyarray(nib.load({str(theirs)!r}).dataobj, dtype=np.float32)"),
        "saving, on top of the image": (
            f"NiftiVolumeResource.save(m, {str(ours)!r})",
            f"nib.save(nib.Nifti1Image(m.array, np.eye(4)), {str(theirs)!r})",
        ),
    }
    rows = []
    for name, (work, peers_work) in works.items():
        is_loaded = name != "loading"
        mine = peak_of(work, theirs, is_loaded=is_loaded) / size
        peers = peak_of(peers_work, theirs, is_loaded=is_loaded) / size
        rows.append([f"peak memory of {name}", f"{mine:.2f} images", f"{peers:.2f} images", ""])
    return rows


def main() -> None:
    """Print the table; with ``--write`` keep it."""
    options = arguments(__doc__).parse_args()
    shape = SMALL if options.small else SHAPE
    images = make_images(shape)
    size = next(iter(images.values())).nbytes
    with tempfile.TemporaryDirectory(dir=working_folder()) as folder:
        ours, theirs = Path(folder, "ours.nii.gz"), Path(folder, "theirs.nii.gz")
        rows = compare_saving(images, ours, theirs, options.repeats)
        del images
        rows += compare_loading(ours, theirs, options.repeats)
        if Path("/proc/self/status").exists():  # Linux alone tells the peak of one process
            rows += compare_memory(size, ours, theirs)
    title = f"Scans in and out: {' x '.join(map(str, shape))}, float32, {size / 1e6:.0f} MB"
    note = f"gzip on {n_threads()} threads; medians of runs in turns, in a folder in memory where the machine has one."
    show("io", table(title, ("what", "arcuate", "nibabel", "ratio"), rows, note), write=options.write)


if __name__ == "__main__":
    main()
