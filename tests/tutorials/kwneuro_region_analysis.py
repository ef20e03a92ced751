"""The calls of kwneuro's tutorial on regions, on a phantom head: only the imports differ from what is typed for it.

``python kwneuro_region_analysis.py OUT``. Where that tutorial has a network name the cortex, the phantom's labels are
read, as those of FastSurfer would be.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from arcuate.dwi import Dwi
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource
from arcuate.phantom import make_phantom, three_shell_gradients
from arcuate.reg import register_dwi_to_structural
from arcuate.resource import InMemoryVolumeResource
from arcuate.structural import StructuralImage
from arcuate.util import subsample_volume

out = Path(sys.argv[1])

# a head whose scan is turned and shifted against its T1
gradients = three_shell_gradients(n_b0=2, bvals=(1000, 2500), n_directions=20)
head = make_phantom(gradients, shape=(40, 46, 32), voxel_size=5.0, snr=40)
shift = np.eye(4)
shift[:3, 3] = [4.0, -3.0, 5.0]
angle = np.radians(6)
shift[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
contrast = (100 * (head.tissue @ [1.0, 0.62, 0.22])).astype(np.float32)
shade = np.linspace(0.8, 1.2, contrast.shape[1], dtype=np.float32)[None, :, None]
NiftiVolumeResource.save(InMemoryVolumeResource(contrast * shade, shift @ head.affine), out / "T1.nii")
NiftiVolumeResource.save(InMemoryVolumeResource(head.label_image, shift @ head.affine), out / "labels.nii.gz")
Dwi.from_arrays(head.signal, head.affine, gradients).save(out, basename="scan")

structural = StructuralImage(NiftiVolumeResource(out / "T1.nii")).load()
print("every second voxel", subsample_volume(structural.volume, 2).get_array().shape)

structural_bc = structural.correct_bias()
t1 = structural_bc.volume.get_array()

dwi = Dwi(
    NiftiVolumeResource(out / "scan.nii.gz"),
    FslBvalResource(out / "scan.bval"),
    FslBvecResource(out / "scan.bvec"),
).load()

t1_mask = InMemoryVolumeResource(head.brain_mask.astype(np.uint8), structural_bc.volume.get_affine())
segmentation = structural_bc.segment_tissues(mask=t1_mask)
print("tissues", *np.unique(segmentation.get_array()))
parcellation = NiftiVolumeResource(out / "labels.nii.gz")

dwi_mask = dwi.extract_brain(method="otsu")
dti = dwi.estimate_dti(mask=dwi_mask)
fa_volume, md_volume = dti.get_fa_md()

transform = register_dwi_to_structural(
    dwi=dwi,
    structural=structural_bc,
    type_of_transform="Rigid",
    dwi_mask=dwi_mask,
    structural_mask=t1_mask,
)
mean_b0 = dwi.compute_mean_b0()
registered = transform.apply(fixed=structural_bc.volume, moving=mean_b0)
assert registered.get_array().shape == t1.shape

in_scan = {}
for name, labels in (("parcellation", parcellation), ("segmentation", segmentation)):
    in_scan[name] = transform.apply(fixed=mean_b0, moving=labels, invert=True, interpolation="genericLabel")
    NiftiVolumeResource.save(in_scan[name], out / f"{name}_in_scan.nii.gz")

found, truth = in_scan["parcellation"].get_array(), head.label_image
inside = truth > 0
dice = [
    2 * np.sum((found == k) & (truth == k)) / (np.sum(found == k) + np.sum(truth == k))
    for k in np.unique(truth[inside])
]
print(f"median Dice {np.median(dice):.3f}")
fa = fa_volume.get_array()
for k in np.unique(truth[inside])[:3]:
    print(f"label {int(k)}: FA {fa[(found == k) & (fa > 0)].mean():.3f}")
