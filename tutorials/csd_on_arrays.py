# %% [markdown]
# # Constrained spherical deconvolution on arrays
#
# `arcuate.dipy` has DIPY's names, arguments, defaults and shapes: a script written for DIPY changes its import lines.
# There is no change of frame and DIPY's own basis of spherical harmonics. What the names accept, and where the
# numbers differ, is on the page "Coming from DIPY, MRtrix3, FSL, AMICO or kwneuro".

# %%
import numpy as np
from example import get_files, show

from arcuate.dipy import (
    ConstrainedSphericalDeconvModel,
    TensorModel,
    auto_response_ssst,
    default_sphere,
    fractional_anisotropy,
    gradient_table,
    load_nifti,
    mask_for_response_ssst,
    mean_diffusivity,
    peaks_from_model,
    read_bvals_bvecs,
    recursive_response,
    response_from_mask_ssst,
    single_tensor_odf,
)
from arcuate.figures import render_glyphs, render_glyphs_and_peaks, render_peaks

image, bval, bvec = get_files()
data, affine = load_nifti(image)
bvals, bvecs = read_bvals_bvecs(bval, bvec)

# %% [markdown]
# Single-shell CSD takes one shell. Given several, `arcuate.dipy` does what DIPY does, takes them all as one, and warns.
# So keep b = 0 and the highest shell.

# %%
highest = bvals > bvals.max() - 100
keep = highest | (bvals <= 50)
data, gtab = data[..., keep], gradient_table(bvals[keep], bvecs=bvecs[keep])
print(data.shape, f"b = {gtab.bvals[~gtab.b0s_mask].mean():.0f} s/mm²")

# %% [markdown]
# ## Step 1: the response of a fibre
#
# First strategy: the mean tensor of voxels with high FA near the centre. The mask can be changed before it is used;
# here it is kept inside the head, because noise in air has a high FA, too.

# %%
fa_thr = 0.6  # FA is lower at high b-values and in large voxels; DIPY's tutorial takes 0.7 at 2 mm and b = 2000
brain = data[..., gtab.b0s_mask].mean(axis=-1) > 0.3 * np.percentile(data[..., 0], 99)
mask = brain & (mask_for_response_ssst(gtab, data, roi_radii=10, fa_thr=fa_thr) > 0)
response, ratio = response_from_mask_ssst(gtab, data, mask)
print(
    f"{mask.sum()} voxels, eigenvalues {response[0]} mm²/s, S0 {response[1]:.0f}, ratio {ratio:.2f}"
)

# %% [markdown]
# The two smaller eigenvalues are equal, and the ratio should be about 0.2. `auto_response_ssst` is both calls in one.

# %%
(evals, s0), ratio = auto_response_ssst(
    gtab, data * brain[..., None], roi_radii=10, fa_thr=fa_thr
)
print("auto_response_ssst gives the same:", np.allclose(evals, response[0]))

# %%
evecs = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]]).T
odf = single_tensor_odf(default_sphere.vertices, evals=response[0], evecs=evecs)
show(
    render_glyphs(odf[None, None, None, :], sphere=default_sphere, size=(240, 240)),
    "response",
)

# %% [markdown]
# Second strategy: start from a fat response, keep the voxels with a single peak, repeat (Tax 2014).

# %%
tensors = TensorModel(gtab).fit(data, mask=brain)
fa, md = fractional_anisotropy(tensors.evals), mean_diffusivity(tensors.evals)
white = brain & ((fa >= 0.4) | ((fa >= 0.15) & (md >= 0.0011)))
calibrated = recursive_response(gtab, data, mask=white, sh_order_max=8, peak_thr=0.05)
signal = calibrated.on_sphere(default_sphere)
show(
    render_glyphs(signal[None, None, None, :], sphere=default_sphere, size=(240, 240)),
    "recursive_response",
)

# %% [markdown]
# The signal of a fibre is a disc: it is strong across the fibre, where water is hindered.

# %% [markdown]
# ## Step 2: fibre orientation distributions and their peaks

# %%
model = ConstrainedSphericalDeconvModel(gtab, response)
centre = np.array(data.shape[:3]) // 2
part = data[
    max(centre[0] - 15, 0) : centre[0] + 15,
    max(centre[1] - 15, 0) : centre[1] + 15,
    centre[2] : centre[2] + 1,
]
fit = model.fit(part)
odf = fit.odf(default_sphere)
show(
    render_glyphs(
        odf,
        sphere=default_sphere,
        norm=False,
        scale=0.5 / np.percentile(odf.max(axis=-1), 90),
    ),
    "odfs",
)

# %%
peaks = peaks_from_model(
    model, part, default_sphere, relative_peak_threshold=0.5, min_separation_angle=25
)
print(
    "directions",
    peaks.peak_dirs.shape,
    "values",
    peaks.peak_values.shape,
    "coefficients",
    peaks.shm_coeff.shape,
)
show(render_peaks(peaks.peak_dirs, peaks.peak_values), "peaks")

# %%
show(
    render_glyphs_and_peaks(
        odf, peaks.peak_dirs, peaks.peak_values, sphere=default_sphere
    ),
    "both",
)

# %% [markdown]
# Where DIPY is installed, `peaks` is a direction getter that DIPY's tracking takes as it is.
