"""What TractSeg 2.10 makes of the reference peaks with weights of ours: tests/golden/tractseg_<output type>.npz.

Run in an environment of its own: pip install torch==2.13.0 TractSeg==2.10;
python scripts/make_tractseg_golden.py ../shared/data/tractseg_reference/peaks.nii.gz [output type ...]
It takes some minutes for each output, and 8 GB (16 GB for the endings). The seconds and the memory that TractSeg took
are kept with the numbers. Orientation maps are those of one direction (its command line) and of three (its Python
function), before they are masked and normalised.
"""

import os
import resource
import runpy
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "tests" / "golden"
FILES = {  # output type: file name, classes, seed
    "tract_segmentation": ("pretrained_weights_tract_segmentation_v3.npz", 72, 1),
    "endings_segmentation": ("pretrained_weights_endings_segmentation_v4.npz", 144, 2),
    "TOM": ("pretrained_weights_peak_regression_part1_v2.npz", 54, 3),
}
N_PROBABILITIES, N_MASKS = 400, 6000
N_MAPS = 2000  # voxels whose orientation maps are kept
FUSED = (0, 4, 5)  # tracts whose three directions are fused: it takes half a minute for each


class OldNumpy:
    """numpy but for ``ogrid``, which gave a list before version 2: TractSeg adds it to one."""

    class _Grid:
        def __getitem__(self, key):
            return list(np.ogrid[key])

    ogrid = _Grid()

    def __getattr__(self, name):
        return getattr(np, name)


def main(peaks_path: Path, output_types: list[str]) -> None:
    home = Path(tempfile.mkdtemp())
    os.environ["HOME"] = str(home)
    os.environ["TRACTSEG_WEIGHTS_DIR"] = str(home / ".tractseg")
    published = runpy.run_path(str(ROOT / "tests" / "nets" / "published_weights.py"))
    peaks = nib.load(peaks_path).get_fdata()
    for output_type in output_types or FILES:
        name, n_classes, seed = FILES[output_type]
        scale = published["VECTORS"] if output_type == "TOM" else 1.0
        path = published["write_weights"](home / ".tractseg" / name, n_classes, seed, scale=scale)
        run = run_orientation_maps if output_type == "TOM" else run_segmentation
        np.savez_compressed(OUT / f"tractseg_{output_type}.npz", **run(output_type, peaks))
        path.unlink()


def run_segmentation(output_type: str, data: np.ndarray) -> dict[str, np.ndarray]:
    """TractSeg's own function; the network runs once, what follows from its output is asked for twice."""
    from tractseg import python_api

    whole = python_api.direction_merger.get_seg_single_img_3_directions
    kept = []

    def once(*args, **kwargs):
        if not kept:
            kept.append(whole(*args, **kwargs))
        return kept[0]

    start = time.perf_counter()
    python_api.direction_merger.get_seg_single_img_3_directions = once
    try:
        masks = python_api.run_tractseg(data, output_type, nr_cpus=2)
        seconds = time.perf_counter() - start
        gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        probabilities = python_api.run_tractseg(data, output_type, get_probs=True, nr_cpus=2)
    finally:
        python_api.direction_merger.get_seg_single_img_3_directions = whole
    print(f"{output_type}: {seconds:.0f} s, {gigabytes:.1f} GB")
    return sample(data, masks, probabilities) | {"seconds": seconds, "gigabytes": gigabytes}


def run_orientation_maps(output_type: str, data: np.ndarray) -> dict[str, np.ndarray]:
    """Maps of the first of its four networks, of one direction and fused from three."""
    from tractseg import python_api

    fuse = python_api.direction_merger.mean_fusion_peaks
    channels = [3 * tract + i for tract in FUSED for i in range(3)]

    def some(seg, **options):
        # the other tracts stay 0; one process, because each of several would get a copy of all maps
        found = np.zeros(seg.shape[:4], np.float32)
        found[..., channels] = fuse(seg[..., channels, :], nr_cpus=1)
        return found

    def as_it_is(seg, *args, **kwargs):
        return seg

    python_api.peak_utils.np = OldNumpy()
    python_api.direction_merger.mean_fusion_peaks = some
    python_api.peak_utils.mask_and_normalize_peaks = as_it_is
    options = {"peak_regression_part": "Part1", "nr_cpus": 2}
    one = python_api.run_tractseg(data, output_type, single_orientation=True, **options)
    three = python_api.run_tractseg(data, output_type, **options)
    inside = np.flatnonzero(np.abs(np.nan_to_num(data)).sum(axis=3) > 0)
    index = np.sort(np.random.default_rng(0).choice(inside, N_MAPS, replace=False))
    return {
        "index": index,
        "maps": one.reshape(-1, one.shape[3])[index][:, ::2].astype(np.float32),
        "fused": three.reshape(-1, three.shape[3])[index][:, channels].astype(np.float32),
        "tracts": np.array(FUSED),
    }


def sample(data: np.ndarray, masks: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Some voxels of the head, all classes, and the counts of all voxels."""
    inside = np.flatnonzero(np.abs(np.nan_to_num(data)).sum(axis=3) > 0)
    rng = np.random.default_rng(0)
    index = np.sort(rng.choice(inside, min(N_MASKS, len(inside)), replace=False))
    few = np.sort(rng.choice(inside, min(N_PROBABILITIES, len(inside)), replace=False))
    rows, floats = (a.reshape(-1, a.shape[3]) for a in (masks, probabilities))
    return {
        "index": index,
        "masks": np.packbits(rows[index] > 0),
        "counts": rows.sum(axis=0, dtype=np.int64),
        "few": few,
        "probabilities": floats[few].astype(np.float32),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
