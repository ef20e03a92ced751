"""Registration and resampling of a head beside calling antspyx by hand, and FODs turned, with their memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.side_by_side import alternate, arguments, show, table

SIZES = {False: ((90, 106, 80), 2.0), True: ((45, 53, 40), 4.0)}  # of the head, voxels and mm; with --small
N_FODS = 5_000


def main() -> None:
    """Print the tables; needs ANTs (extra ants)."""
    options = arguments(__doc__).parse_args()
    fixed, moving = _heads(options.small)
    import ants

    from arcuate.registration import register_volumes
    from arcuate.volumes.ants_images import seeded, to_ants

    still, moved = to_ants(fixed, "it"), to_ants(moving, "it")

    def by_hand(kind: str) -> None:
        with seeded(1):
            ants.registration(still, moved, kind)

    rows = [
        alternate(lambda k=kind: register_volumes(fixed, moving, k, seed=1), lambda k=kind: by_hand(k), 1).row(kind)
        for kind in ("Rigid", "SyN")
    ]
    _, transform = register_volumes(fixed, moving, "SyN", seed=1)
    with tempfile.TemporaryDirectory() as folder:
        transform.save(folder)
        files = [f"{folder}/0_warp.nii.gz", f"{folder}/1_affine.mat"]
        for ours, theirs in (("linear", "linear"), ("cubic", "bSpline"), ("label", "genericLabel")):
            image = moving.with_array(np.round(moving.array / 20).astype(np.int16)) if ours == "label" else moving
            peer = to_ants(image, "it")
            rows.append(
                alternate(
                    lambda i=image, o=ours: transform.apply(i, fixed, o),
                    lambda p=peer, t=theirs: ants.apply_transforms(still, p, files, interpolator=t),
                    options.repeats,
                ).row(f"apply, {ours}")
            )
    shape = " x ".join(map(str, fixed.shape))
    texts = [
        table(f"Registration of a phantom head of {shape}, seconds", ["what", "ours", "antspyx", "ratio"], rows,
              "Ours registers by antspyx, resamples by itself, and holds the fields in memory."),
        table("FODs turned, degree 8", ["voxels", "seconds", "voxels/s", "peak memory"], [_fods()]),
        table("Peak memory of a process that registers by SyN", ["by", "GB"],
              [[who, _peak(who, options.small)] for who in ("arcuate", "antspyx")]),
    ]  # fmt: skip
    show("registration", "\n".join(texts), write=options.write)


def _heads(small: bool):
    """A head with T1 contrast, and the same under a smooth warp and a turn."""
    from arcuate.phantom import make_phantom, three_shell_gradients
    from arcuate.registration import TransformResource
    from arcuate.volumes.resource import InMemoryVolumeResource
    from arcuate.volumes.transforms import Affine, Chain, Displacement

    shape, size = SIZES[small]
    gradients = three_shell_gradients(n_b0=1, bvals=(1000,), n_directions=6)
    head = make_phantom(gradients, shape, size, snr=None)
    noise = np.abs(np.random.default_rng(0).normal(0, 1, shape))
    fixed = InMemoryVolumeResource((100 * (head.tissue @ [1.0, 0.62, 0.22]) + noise).astype(np.float32), head.affine)
    points = np.indices(shape).reshape(3, -1).T @ head.affine[:3, :3].T
    warp = 4 * np.sin(points @ np.array([[0.05, 0.02, 0.01], [0.02, 0.05, 0.01], [0.01, 0.02, 0.05]])).reshape(
        *shape, 3
    )
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.07), -np.sin(0.07)], [np.sin(0.07), np.cos(0.07)]]
    field = TransformResource.of(Chain((Displacement(warp, head.affine), Affine(turn))))
    return fixed, field.apply(fixed, fixed)


def _fods() -> list[str]:
    from arcuate.models.reorient import reorient_fods
    from arcuate.numerics.sh import sh_matrix

    rng = np.random.default_rng(0)
    directions = rng.normal(size=(N_FODS, 3))
    decay = np.exp(-0.02 * np.repeat([degree * (degree + 1) for degree in (0, 2, 4, 6, 8)], [1, 5, 9, 13, 17]))
    coefs = (sh_matrix(directions, 8) + 0.5 * sh_matrix(np.roll(directions, 1, axis=0), 8)) * decay
    maps = np.eye(3) + rng.normal(0, 0.1, (N_FODS, 3, 3))
    reorient_fods(coefs[:70], maps[:70])  # compiled
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    reorient_fods(coefs, maps)
    seconds = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return [str(N_FODS), f"{seconds:.1f}", f"{N_FODS / seconds:.0f}", f"{grown:.0f} MB more"]


def _peak(who: str, small: bool) -> str:
    """Peak memory of one registration in a process of its own."""
    code = f"""
import resource
from benchmarks.bench_registration import _heads
fixed, moving = _heads({small})
if {who!r} == "arcuate":
    from arcuate.registration import register_volumes
    register_volumes(fixed, moving, "SyN")
else:
    import ants
    from arcuate.volumes.ants_images import to_ants
    ants.registration(to_ants(fixed, "it"), to_ants(moving, "it"), "SyN")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    return f"{float(done.stdout.split()[-1]):.2f}"


if __name__ == "__main__":
    main()
