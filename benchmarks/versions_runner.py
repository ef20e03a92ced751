"""One version of arcuate on the rows of a scan: a program of its own, because two versions cannot share a process.

usage: PYTHONPATH=SOURCE PYTHON versions_runner.py SCAN REPEATS

SCAN is the name of a .nii.gz with its gradients and a mask ``*_mask.nii.gz`` beside it. Prints the seconds of processor
time of each part as JSON, {part: [s, ...]}; every part runs once before, to compile. Only names that both versions have
are called, with the same settings where defaults have changed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

warnings.simplefilter("ignore")

from arcuate.cache import Cache  # noqa: E402 (the warnings of the imports are quiet, too)
from arcuate.csd import estimate_response_function  # noqa: E402
from arcuate.dipy import ConstrainedSphericalDeconvModel, gradient_table  # noqa: E402
from arcuate.dti import Dti  # noqa: E402
from arcuate.dwi import Dwi  # noqa: E402
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource  # noqa: E402
from arcuate.models.multitissue import make_multi_tissue_model  # noqa: E402
from arcuate.noddi import Noddi  # noqa: E402
from arcuate.numerics.sphere import get_sphere  # noqa: E402

MOST_VOXELS = 4000  # of multi-tissue CSD


def parts_of(path: str, folder: str) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    scan = Dwi(NiftiVolumeResource(path), *(
        kind(path.replace(".nii.gz", ending))
        for kind, ending in ((FslBvalResource, ".bval"), (FslBvecResource, ".bvec"))
    )).load()  # fmt: skip
    mask = NiftiVolumeResource(path.replace("_dwi.nii.gz", "_mask.nii.gz")).load()
    gradients, rows = scan.gradients, scan.volume.get_array()[mask.get_array() > 0].astype(np.float32)
    response = estimate_response_function(scan, mask, "dhollander")
    directions = get_sphere("symmetric724").vertices
    directions = directions[directions[:, 2] > 0]
    model = make_multi_tissue_model(gradients, response, constraint_directions=directions)
    some = rows[:: max(1, len(rows) // MOST_VOXELS)][:, model.volumes]
    b = gradients.bvals
    shell = (b < 50) | (np.abs(b - b.max()) < 100)
    table = gradient_table(b[shell], bvecs=gradients.directions[shell], b0_threshold=50)
    csd = ConstrainedSphericalDeconvModel(table, (np.array([1.5e-3, 3e-4, 3e-4]), float(np.median(rows[:, b < 50]))))
    one_shell = np.ascontiguousarray(rows[:, shell], dtype=np.float64)

    def cached() -> None:
        with Cache(Path(folder) / "cache"):
            Dti.estimate_dti(scan, mask)

    return {
        "tensor": lambda: Dti.estimate_dti(scan, mask),
        "NODDI": lambda: Noddi.estimate_noddi(scan, mask, refine=False),
        "single-shell CSD": lambda: csd.fit(one_shell),
        "multi-tissue CSD": lambda: model.fit(some),
        "kept result of the tensor": cached,
    }


def main() -> None:
    """Time each part so often."""
    path, repeats = sys.argv[1], int(sys.argv[2])
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, part in parts_of(path, folder).items():
            part()
            seconds[name] = []
            for _ in range(repeats):
                start = time.process_time()
                part()
                seconds[name].append(time.process_time() - start)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
