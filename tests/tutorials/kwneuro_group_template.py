"""The calls of kwneuro's tutorial on templates, on phantom heads deformed by known fields: only the imports differ.

``python kwneuro_group_template.py OUT``
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from arcuate.build_template import average_volumes, build_multi_metric_template, build_template
from arcuate.dwi import Dwi, subsample_dwi
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource
from arcuate.masks import brain_extract_dwi_batch
from arcuate.phantom import make_phantom, three_shell_gradients
from arcuate.reg import TransformResource
from arcuate.resource import VolumeResource
from arcuate.volumes.transforms import Displacement

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared"))
from deformed import grid_points, waves

out = Path(sys.argv[1])

# one head, three times, under fields that add up to nothing: the mean shape is that of the head
gradients = three_shell_gradients(n_b0=2, bvals=(1000,), n_directions=20)
head = make_phantom(gradients, shape=(32, 38, 28), voxel_size=6.0, snr=50)
whole = Dwi.from_arrays(head.signal, head.affine, gradients)
points = grid_points((32, 38, 28), head.affine)
one, other = (waves(14.0, seed=i, longest=110.0)(points) for i in range(2))
for i, shift in enumerate((one, other, -(one + other))):
    field = Displacement(shift.reshape(32, 38, 28, 3), head.affine)
    moved = TransformResource.of(field).apply(fixed=whole.volume, moving=whole.volume)
    Dwi.from_arrays(moved.array, head.affine, gradients).save(out / f"sub-{i}", basename="dwi")

dwis: list[Dwi] = []
for i in range(3):
    folder = out / f"sub-{i}"
    dwis.append(
        Dwi(
            NiftiVolumeResource(folder / "dwi.nii.gz"),
            FslBvalResource(folder / "dwi.bval"),
            FslBvecResource(folder / "dwi.bvec"),
        ).load()
    )
print("every second voxel", subsample_dwi(dwis[0], 2).volume.get_array().shape)

with tempfile.TemporaryDirectory() as folder:
    cases = [(dwi, Path(folder) / f"mask_{i}.nii.gz") for i, dwi in enumerate(dwis)]
    masks = [mask.load() for mask in brain_extract_dwi_batch(cases, method="otsu")]

fa_volumes: list[VolumeResource] = []
md_volumes: list[VolumeResource] = []
for dwi, mask in zip(dwis, masks, strict=True):
    fa, md = dwi.estimate_dti(mask=mask).get_fa_md()
    fa_volumes.append(fa)
    md_volumes.append(md)

initial = average_volumes(fa_volumes)
first = build_template(fa_volumes, initial_template=initial, iterations=1)
second = build_template(fa_volumes, initial_template=first, iterations=1)

subject_list = [{"FA": fa, "MD": md} for fa, md in zip(fa_volumes, md_volumes, strict=True)]
multi = build_multi_metric_template(subject_list, weights={"FA": 1.0, "MD": 1.0}, iterations=1)
multi = build_multi_metric_template(subject_list, weights={"FA": 1.0, "MD": 1.0}, iterations=1, initial_template=multi)

NiftiVolumeResource.save(second, out / "fa_template.nii.gz")
for name, volume in multi.items():
    NiftiVolumeResource.save(volume, out / f"{name.lower()}_template_multi.nii.gz")

inside = head.brain_mask
plain = np.mean([fa.get_array() for fa in fa_volumes], axis=0)
for name, image in (("mean", plain), ("template", second.get_array()), ("two metrics", multi["FA"].get_array())):
    print(f"likeness of the {name}: {np.corrcoef(np.asarray(image)[inside], head.fa[inside])[0, 1]:.4f}")
