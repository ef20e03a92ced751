"""Multi-tissue CSD, its responses and mtnormalise against MRtrix3: by kind of voxel, and on the 193-volume phantom."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from arcuate.csd import estimate_fods, estimate_response_function
from arcuate.dwi import Dwi
from arcuate.io import NiftiVolumeResource
from arcuate.io.responses import write_response
from arcuate.models.multitissue import MultiTissueModel, make_multi_tissue_model
from arcuate.models.response import Response
from arcuate.models.status import Status
from arcuate.mtnormalise import mtnormalise
from arcuate.numerics.qp import inner_direction
from arcuate.numerics.sphere import get_even_directions, to_angles
from arcuate.phantom import Phantom, add_rician_noise, make_phantom, three_shell_gradients
from arcuate.volumes.resource import InMemoryVolumeResource
from benchmarks.multitissue_kinds import kinds_table
from benchmarks.side_by_side import alternate, arguments, show, table

Call = Callable[..., Callable[[], object]]
NEAR_ZERO = 1e-3  # of the median signal of white matter


def main() -> None:
    """Print the tables."""
    parser = arguments(__doc__)
    parser.add_argument("--kinds", action="store_true", help="only the table by kind of voxel")
    options = parser.parse_args()
    size = (40, 40, 24) if options.small else (48, 48, 30)  # 22,900 voxels in the mask
    head = make_phantom(three_shell_gradients(), shape=size, voxel_size=192 / size[0], snr=30)
    scan = Dwi.from_arrays(head.signal, head.affine, head.gradients)
    mask = InMemoryVolumeResource(head.brain_mask.astype(np.uint8), head.affine)
    response = estimate_response_function(scan, mask, "dhollander")
    texts = [_conditions(head, response)]
    if shutil.which("dwi2fod"):
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
            kinds = kinds_table(Path(name), 40 if options.small else 600, min(options.repeats, 3))
            if options.kinds:
                print(kinds)
                return
            texts.insert(0, _against_mrtrix(Path(name), scan, mask, response, options.repeats))
            texts.insert(0, kinds)
    show("multitissue", "\n".join(texts), write=options.write)


def _against_mrtrix(
    folder: Path, scan: Dwi, mask: InMemoryVolumeResource, response: Response, repeats: int
) -> str:  # fmt: skip
    NiftiVolumeResource.save(scan.volume, folder / "dwi.nii")
    NiftiVolumeResource.save(mask, folder / "mask.nii")
    np.savetxt(folder / "grad.b", scan.gradients.to_mrtrix(), fmt="%.17g")
    write_response(response, folder)
    polar, azimuth = to_angles(get_even_directions(300))
    np.savetxt(folder / "directions.txt", np.column_stack([azimuth, polar]), fmt="%.17g")

    def call(*command: str) -> Callable[[], object]:
        words = [*command, "-quiet", "-force", "-nthreads", "2"]
        return lambda: subprocess.run(words, check=True, cwd=folder, capture_output=True)

    grad = ("-grad", "grad.b", "-mask", "mask.nii")
    pairs = [word for t in response.tissues for word in (f"{t}.txt", f"{t}.nii")]
    degrees = ",".join(str(lmax) for lmax in response.lmax_of_tissues)
    fod = call("dwi2fod", "msmt_csd", "dwi.nii", *pairs, "-directions", "directions.txt", "-lmax", degrees, *grad)
    count = int(np.count_nonzero(mask.get_array()))
    rows = [
        alternate(lambda: estimate_fods(scan, mask, response), fod, repeats).row(
            f"multi-tissue CSD of {count} voxels, dwi2fod msmt_csd"
        )
    ]
    for algorithm, outputs in (("tournier", ("t.txt",)), ("dhollander", ("wm_.txt", "gm_.txt", "csf_.txt"))):
        command = call("dwi2response", algorithm, "dwi.nii", *outputs, *grad, "-scratch", ".")
        pair = alternate(
            lambda a=algorithm: estimate_response_function(scan, mask, a), command, max(1, repeats // 2)
        )  # fmt: skip
        rows.append(pair.row(f"{algorithm} response, {count} voxels, dwi2response"))
    fods = estimate_fods(scan, mask, response, second_pass=False)  # the peer's are of one pass
    normalise = call("mtnormalise", *[w for t in response.tissues for w in (f"{t}.nii", f"{t}_n.nii")], "-mask",
                     "mask.nii")  # fmt: skip
    rows.append(alternate(lambda: mtnormalise(fods.volumes, mask), normalise, repeats).row("mtnormalise"))
    return "\n".join(
        [
            table("Multi-tissue CSD, 193 volumes, files in memory", ["what", "ours", "theirs", "ratio"], rows),
            table(
                "Agreement with MRtrix3", ["what", "found", "wanted"], _agreement(folder, scan, mask, response, fods)
            ),
        ]
    )


def _agreement(folder: Path, scan: Dwi, mask: object, response: Response, fods: object) -> list[list[str]]:
    """Rows of the table: what, found, wanted."""
    inside = np.asarray(mask.get_array()) > 0
    model = make_multi_tissue_model(scan.gradients, response)

    def read(pattern: str) -> np.ndarray:
        images = [nib.load(folder / pattern.format(t)).get_fdata() for t in response.tissues]
        return np.hstack([i.reshape(*inside.shape, -1)[inside] for i in images])

    signals = np.asarray(scan.volume.get_array())[inside]
    theirs, ours = read("{}.nii"), np.hstack(model.fit(signals[:, model.volumes]).coefs)
    off = np.abs(ours - theirs).max(axis=1) / np.abs(ours).max(axis=1)
    constraints = model.problem.constraints
    outside = np.minimum((theirs @ constraints.T).min(axis=1), 0)  # what single precision leaves: moved inside
    mine, other = (
        _objective(model, signals, u) for u in (ours, theirs - outside[:, None] * inner_direction(constraints))
    )
    excess = (mine - other) / np.abs(other)
    rows = [
        ["voxels within 1e-3 of the largest coefficient", f"{100 * np.mean(off < 1e-3):.2f} %", "99 %"],
        ["largest excess of our objective over theirs, relative", f"{excess.max():.1e}", "1e-7"],
    ]
    for tissue, name in zip(response.tissues, ("wm_.txt", "gm_.txt", "csf_.txt"), strict=True):
        peer = np.loadtxt(folder / name, ndmin=2)
        peer = peer if len(peer) == len(response.bvals) else peer.T
        own = response.get_tissue(tissue)
        apart = [np.abs(own[:, 0] / peer[:, 0] - 1).max()]
        if tissue == "wm":
            apart.append(np.abs(own[1:, 1] / peer[1:, 1] - 1).max())
        text = ", ".join(f"l={2 * i}: {100 * a:.2f} %" for i, a in enumerate(apart))
        rows.append([f"dhollander {tissue}, end to end", text, "5 %"])
    normal = mtnormalise(fods.volumes, mask)
    peer = read("{}_n.nii")
    own = np.hstack([np.asarray(v.get_array())[inside] for v in normal.volumes.values()])
    size = np.abs(peer).max(axis=1)
    apart = np.abs(own - peer).max(axis=1)[size > 0] / size[size > 0]
    rows.append(["mtnormalise, 99th percentile of the difference", f"{100 * np.percentile(apart, 99):.2f} %", "1 %"])
    return rows


def _objective(model: MultiTissueModel, signals: np.ndarray, u: np.ndarray) -> np.ndarray:
    """½uᵀHu - fᵀu of each voxel."""
    design = model.problem.design
    made = u @ design.T
    return 0.5 * np.sum(made**2, axis=1) - np.sum(made * signals[:, model.volumes], axis=1)


def _conditions(head: Phantom, response: Response) -> str:
    """KKT residuals by kind of voxel, and the voxels next to zero."""
    model = make_multi_tissue_model(head.gradients, response)
    inside = head.brain_mask
    rng = np.random.default_rng(0)
    noise = add_rician_noise(np.zeros((2000, len(head.gradients))), head.sigma, rng)
    kinds = {
        "single fibre": head.signal[head.is_single_fibre & inside],
        "crossing": head.signal[head.is_crossing & inside],
        "grey matter": head.signal[(head.tissue[..., 1] > 0.9) & inside],
        "fluid": head.signal[(head.tissue[..., 2] > 0.9) & inside],
        "all of the mask": head.signal[inside],
        "noise alone": noise,
        "next to no signal (noise / 1000)": NEAR_ZERO * noise,
    }
    rows = []
    for name, signals in kinds.items():
        fit = model.fit(np.asarray(signals, dtype=np.float64)[:, model.volumes])
        values = np.hstack(fit.coefs) @ model.problem.constraints.T
        ratio = values.min(axis=1) / np.maximum(values.max(axis=1), 1e-300)
        counts = [int(np.sum(fit.status == s)) for s in (Status.NOT_CONVERGED, Status.NO_SIGNAL)]
        rows.append([name, len(signals), *counts, f"{fit.kkt_residual.max():.1e}", f"{min(ratio.min(), 0):.1e}"])
    header = ["voxels", "count", "not converged", "zero", "largest KKT residual", "least min(Ax) / max(Ax)"]
    note = (
        "The residual is the largest of stationarity, infeasibility and complementarity, see ConeProblem.solve; "
        "'zero' are voxels whose best non-negative solution is no tissue at all."
    )
    return table("Conditions of Karush, Kuhn and Tucker", header, rows, note)


if __name__ == "__main__":
    main()
