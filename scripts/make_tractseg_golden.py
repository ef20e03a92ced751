"""What TractSeg 2.10 makes of the reference peaks with weights of ours: tests/golden/tractseg_<output type>.npz.

Run in an environment of its own: pip install torch==2.13.0 TractSeg==2.10;
python scripts/make_tractseg_golden.py ../shared/data/tractseg_reference/peaks.nii.gz [output type ...]
It takes some minutes, and 8 GB (16 GB for the endings). The seconds and the memory that TractSeg took are kept with
the numbers. Orientation maps are those of its command line, sliced in one direction: fusing three fails with numpy 2.
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
# A part of the head for the outputs that are checked on less: endings and orientation maps.
PART = (slice(24, 40), slice(30, 46), slice(30, 46))
FILES = {  # output type: file name, classes, seed
    "tract_segmentation": ("pretrained_weights_tract_segmentation_v3.npz", 72, 1),
    "endings_segmentation": ("pretrained_weights_endings_segmentation_v4.npz", 144, 2),
    "TOM": ("pretrained_weights_peak_regression_part1_v2.npz", 54, 3),
}
N_PROBABILITIES, N_MASKS = 400, 6000


def main(peaks_path: Path, output_types: list[str]) -> None:
    home = Path(tempfile.mkdtemp())
    os.environ["HOME"] = str(home)
    os.environ["TRACTSEG_WEIGHTS_DIR"] = str(home / ".tractseg")
    write_weights = runpy.run_path(str(ROOT / "tests" / "nets" / "published_weights.py"))["write_weights"]
    peaks = nib.load(peaks_path).get_fdata()
    for output_type in output_types or FILES:
        name, n_classes, seed = FILES[output_type]
        path = write_weights(home / ".tractseg" / name, n_classes, seed)
        data = peaks if output_type == "tract_segmentation" else peaks[PART]
        part = np.array([(s.start, s.stop) for s in PART])
        np.savez_compressed(OUT / f"tractseg_{output_type}.npz", part=part, **run(output_type, data))
        path.unlink()


def run(output_type: str, data: np.ndarray) -> dict[str, np.ndarray]:
    """TractSeg's own function; the network runs once, what follows from its output is asked for twice."""
    from tractseg import python_api

    whole = python_api.direction_merger.get_seg_single_img_3_directions
    kept = []

    def once(*args, **kwargs):
        if not kept:
            kept.append(whole(*args, **kwargs))
        return kept[0][0].copy(), kept[0][1]

    start = time.perf_counter()
    python_api.direction_merger.get_seg_single_img_3_directions = once
    python_api.peak_utils.mask_and_normalize_peaks = lambda seg, *args, **kwargs: seg
    options = {"nr_cpus": 2}
    try:
        if output_type == "TOM":
            options |= {"peak_regression_part": "Part1", "single_orientation": True}
            maps = python_api.run_tractseg(data, "TOM", **options)
            found = {"maps": maps.astype(np.float32)}
        else:
            masks = python_api.run_tractseg(data, output_type, **options)
            seconds = time.perf_counter() - start
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            probabilities = python_api.run_tractseg(data, output_type, get_probs=True, **options)
            found = sample(data, masks, probabilities) | {"seconds": seconds, "gigabytes": memory}
            print(f"{output_type}: {seconds:.0f} s, {memory:.1f} GB")
    finally:
        python_api.direction_merger.get_seg_single_img_3_directions = whole
    return found


def sample(data: np.ndarray, masks: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Some voxels of the head, all classes, and the counts of all voxels."""
    inside = np.flatnonzero(np.abs(data).sum(axis=3) > 0)
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
