# %% [markdown]
# # Multi-tissue CSD
#
# With two shells or more, white matter, grey matter and fluid are told apart: their signals fall with b at different
# rates. Each voxel becomes a fibre orientation distribution and two amounts (Jeurissen 2014).

# %%
import numpy as np
from example import get_example, out_folder, show

from arcuate import (
    NiftiVolumeResource,
    combine_csd_peaks_to_vector_volume,
    estimate_response_function,
)
from arcuate.csd import (
    compute_fibre_density,
    compute_tissue_fractions,
    estimate_fods,
    find_fod_peaks,
)
from arcuate.figures import render_fods, render_response
from arcuate.mtnormalise import mtnormalise
from arcuate.figures.plotting import Panel, plot_maps

example = get_example(min_shells=2)
dwi = example.dwi
affine = dwi.volume.get_affine()
mask = dwi.extract_brain(method=example.mask_method)
print(dwi.gradients)

# %% [markdown]
# ## Responses of three tissues
#
# `dhollander` finds the voxels of each tissue itself and needs no other image. A row of the picture is a tissue, a
# column a shell.

# %%
response = estimate_response_function(dwi, mask, algorithm="dhollander")
for tissue in response.tissues:
    rows = response.get_tissue(tissue)
    print(f"{tissue:4s} l=0 coefficient per shell:", np.round(rows[:, 0], 1))
show(render_response(response), "responses")

# %% [markdown]
# ## Fit
#
# The answer holds one image per tissue, in MRtrix3's basis and the scanner frame, and a status for every voxel.

# %%
fods = estimate_fods(dwi, mask, response)
for tissue, volume in fods.volumes.items():
    print(tissue, volume.shape)
print(fods.parameters["VoxelsByStatus"])

# %%
fractions = compute_tissue_fractions(fods)
panels = [
    Panel(fractions.get_array()[..., i], f"fraction of {tissue}", limits=(0, 1))
    for i, tissue in enumerate(fods.volumes)
]
show(plot_maps(panels, affine), "fractions")

# %% [markdown]
# The colours of the fluid, of grey matter and of white matter add up to one in every voxel of the mask.

# %%
wm = fods.volumes["wm"]
show(
    render_fods(wm, mask=mask, background=dwi.compute_mean_b0(), size=(800, 800)),
    "fods",
)

# %% [markdown]
# ## Intensities made comparable
#
# `mtnormalise` divides all tissues by one smooth field, so that their balanced sum is the same everywhere
# (Raffelt 2017). Do this before comparing fibre density between places or people.

# %%
normalised = mtnormalise(fods.volumes, mask)
print(normalised.parameters)
density = compute_fibre_density(normalised.volumes["wm"])
show(plot_maps([Panel(density.get_array(), "fibre density")], affine), "density")

# %% [markdown]
# ## Peaks

# %%
directions, values = find_fod_peaks(
    normalised.volumes["wm"], mask, n_peaks=3, response=response
)
peaks = combine_csd_peaks_to_vector_volume(directions, values)
NiftiVolumeResource.save(peaks, out_folder() / "peaks.nii.gz")
NiftiVolumeResource.save(wm, out_folder() / "wm_fod.nii.gz")
print("peaks", peaks.shape)

# %% [markdown]
# `mrview peaks.nii.gz` and `mrview wm_fod.nii.gz` show both as they are.
#
# On the command line:
#
# ```
# arcuate response DWI --mask MASK --algorithm dhollander --out responses
# arcuate fod DWI --mask MASK --response responses/wm.txt --response responses/gm.txt --response responses/csf.txt \
#     --out fods
# ```
