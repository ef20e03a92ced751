# %% [markdown]
# # One subject, from the scan to tracts
#
# A scan is three resources: the volume, the b-values and the b-vectors. Every step takes a scan or an image and
# returns a new one; its inputs are unchanged. The steps here are those of `arcuate run`.
#
# The scan must have been corrected for distortions before; see the page "Before arcuate".

# %%
import json

import numpy as np
from example import get_example, out_folder, show

from arcuate import (
    Cache,
    Dti,
    NiftiVolumeResource,
    Noddi,
    compute_csd_peaks,
    estimate_response_function,
)
from arcuate.figures import render_fods
from arcuate.figures.plotting import Panel, plot_maps, plot_mask, plot_residuals

example = get_example()
dwi = example.dwi
out = out_folder()
print(dwi.gradients)
print("volume", dwi.volume.shape, dwi.volume.get_array().dtype)

# %% [markdown]
# `Dwi.from_files("sub-01_dwi.nii.gz")` makes such a scan from files, with the gradient files found beside the image.
# Directions are kept in the scanner frame (right, front, up), whatever the storage order of the voxels.

# %% [markdown]
# ## Denoising
#
# Patch2Self: each volume is predicted from all others, and what cannot be predicted is taken for noise. A part of the
# signal that depends on the direction is that as well, and FA falls: `arcuate run` does not denoise by itself, and the
# steps below take the scan as it is. The page on Patch2Self has the figures.

# %%
denoised = dwi.denoise()
shells = dwi.gradients.shells
affine = dwi.volume.get_affine()
first_of_shell = {f"b={shell.b:.0f}": int(shell.indices[0]) for shell in shells}
before, after = dwi.volume.get_array(), denoised.volume.get_array()
show(
    plot_residuals(
        {b: before[..., i] for b, i in first_of_shell.items()},
        {b: after[..., i] for b, i in first_of_shell.items()},
        affine,
    ),
    "denoised",
)

# %% [markdown]
# ## Brain mask
#
# `method="auto"` takes HD-BET where it is installed and the scan is a whole head. HD-BET was trained on real heads, so
# the phantom takes the embedded method.

# %%
mask = dwi.extract_brain(method=example.mask_method)
mean_b0 = dwi.compute_mean_b0()
print(f"{int(mask.get_array().sum())} voxels in the mask")
show(plot_mask(mean_b0.get_array(), mask.get_array(), affine, label="mean b=0"), "mask")

# %% [markdown]
# ## Diffusion tensor
#
# Fitted to the volumes with b <= 1500 s/mm², because the tensor does not describe higher b-values. MD is in mm²/s.

# %%
dti = dwi.estimate_dti(mask=mask)
fa, md = dti.get_fa_md()
evals, evecs = dti.get_eig()
colours = fa.get_array()[..., None] * np.abs(evecs.get_array()[..., :3])
show(
    plot_maps(
        [
            Panel(fa.get_array(), "FA", limits=(0, 1)),
            Panel(md.get_array() * 1e3, "MD, 10⁻³ mm²/s", limits=(0, 3)),
            Panel(np.clip(colours, 0, 1), "first eigenvector"),
        ],
        affine,
    ),
    "tensor",
)
print(dti.parameters)

# %% [markdown]
# The parameters say which volumes were used and how many voxels ended how; they are written to the JSON sidecars.

# %% [markdown]
# ## NODDI
#
# NDI, ODI and FWF need two shells or more.

# %%
if len(shells) > 1:
    noddi = dwi.estimate_noddi(mask=mask)
    panels = [
        Panel(getattr(noddi, name).get_array(), name.upper(), limits=(0, 1))
        for name in ("ndi", "odi", "fwf")
    ]
    show(plot_maps(panels, affine), "noddi")

# %% [markdown]
# ## Response, fibre orientations, peaks
#
# The response decides the model: one tissue on one shell means single-shell CSD, three tissues on one shell
# three-tissue CSD, on several shells multi-tissue CSD. `algorithm="auto"` chooses by the shells and directions.

# %%
response = estimate_response_function(dwi, mask)
print(response.algorithm, response.tissues, [f"{b:.0f}" for b in response.bvals])
directions, values = compute_csd_peaks(dwi, mask, response)
n_peaks = (values.get_array() > 0).sum(axis=-1)
print("directions", directions.get_array().shape, "values", values.get_array().shape)
show(plot_maps([Panel(n_peaks, "peaks per voxel", limits=(0, 5))], affine), "n_peaks")

# %%
from arcuate import compute_csd_fods

fods = compute_csd_fods(dwi, mask, response)
show(render_fods(fods, mask=mask, background=mean_b0, size=(800, 800)), "fods")

# %% [markdown]
# ## Tracts
#
# TractSeg's networks need the extra `[tractseg]` and their weights (`arcuate fetch tractseg-tract-segmentation`). They
# know human heads: tracts of the phantom mean nothing, so this cell runs on real scans only.

# %%
from arcuate import InputError, MissingExtraError, extract_tractseg, get_bundle_names

if example.labels is None:
    try:
        tracts = extract_tractseg(dwi, mask, response)
        sizes = tracts.get_array().sum(axis=(0, 1, 2))
        for name, size in zip(get_bundle_names("All")[1:], sizes, strict=True):
            print(f"{name:12s} {int(size)} voxels")
    except (InputError, MissingExtraError) as error:
        print(error)

# %% [markdown]
# ## Saving
#
# `save` writes NIfTI files, whole or not at all, and returns an object that is backed by them.

# %%
dti.save(out / "dti.nii.gz")
NiftiVolumeResource.save(fa, out / "fa.nii.gz")
NiftiVolumeResource.save(mask, out / "mask.nii.gz")
if len(shells) > 1:
    noddi.save(out / "noddi.nii.gz")
dwi.save(out, basename="dwi")

# %% [markdown]
# ## Cache
#
# Inside a `Cache` a step that was computed before, with the same inputs and parameters, is taken from the folder.

# %%
with Cache(out / "cache") as cache:
    dti = dwi.estimate_dti(mask=mask)
    steps = [Dti.estimate_dti, Noddi.estimate_noddi, compute_csd_peaks]
    for step, is_cached in cache.status(steps).items():
        print(f"{step}: {'cached' if is_cached else 'not cached'}")
sidecar = json.loads((out / "cache" / "estimate_dti.params.json").read_text())
print(json.dumps(sidecar["scalars"], indent=2))
