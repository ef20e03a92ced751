# ruff: noqa
# %% start
import numpy as np
from arcuate import make_phantom, three_shell_gradients

table = three_shell_gradients(n_b0=4, bvals=(1000, 2000), n_directions=60)
head = make_phantom(table, shape=(20, 24, 12), voxel_size=7.0, orientation="RAS")
data, affine, mask = head.signal, head.affine, head.brain_mask  # arrays, as DIPY's scripts have them
bvals, bvecs = table.to_fsl(affine)

# %% arcuate.dipy.save_nifti, arcuate.dipy.load_nifti, arcuate.dipy.load_nifti_data
save_nifti("dwi.nii.gz", data, affine)
data, affine = load_nifti("dwi.nii.gz")
same = load_nifti_data("dwi.nii.gz")

# %% arcuate.dipy.read_bvals_bvecs
np.savetxt("dwi.bval", bvals[None])
np.savetxt("dwi.bvec", bvecs.T)
bvals, bvecs = read_bvals_bvecs("dwi.bval", "dwi.bvec")

# %% arcuate.dipy.gradient_table, arcuate.dipy.GradientTable, arcuate.dipy.gradient_table_from_bvals_bvecs
gtab = gradient_table(bvals, bvecs=bvecs)
assert isinstance(gtab, GradientTable)
same = gradient_table_from_bvals_bvecs(bvals, bvecs)
b1000 = gradient_table(bvals[bvals < 1500], bvecs=bvecs[bvals < 1500])

# %% arcuate.dipy.unique_bvals_tolerance
print(unique_bvals_tolerance(bvals))  # the shells

# %% arcuate.dipy.TensorModel, arcuate.dipy.TensorFit
fit = TensorModel(b1000).fit(data[..., bvals < 1500], mask=mask)
assert isinstance(fit, TensorFit)
print(fit.fa.shape, fit.quadratic_form.shape)

# %% arcuate.dipy.fractional_anisotropy, arcuate.dipy.mean_diffusivity, arcuate.dipy.axial_diffusivity, arcuate.dipy.radial_diffusivity, arcuate.dipy.trace
fa, md = fractional_anisotropy(fit.evals), mean_diffusivity(fit.evals)
ad, rd, sum_ = axial_diffusivity(fit.evals), radial_diffusivity(fit.evals), trace(fit.evals)

# %% arcuate.dipy.linearity, arcuate.dipy.planarity, arcuate.dipy.sphericity, arcuate.dipy.geodesic_anisotropy, arcuate.dipy.mode
evals = fit.evals[mask]
lines, planes, balls = linearity(evals), planarity(evals), sphericity(evals)
shape = mode(fit.quadratic_form[mask])
geodesic = geodesic_anisotropy(np.array([[1.7e-3, 0.3e-3, 0.3e-3]]))

# %% arcuate.dipy.color_fa, arcuate.dipy.decompose_tensor, arcuate.dipy.lower_triangular
rgb = color_fa(fa, fit.evecs)  # red left-right, green front-back, blue up-down
values, vectors = decompose_tensor(fit.quadratic_form[mask])
six = lower_triangular(fit.quadratic_form)

# %% arcuate.dipy.DiffusionKurtosisModel, arcuate.dipy.DiffusionKurtosisFit
kurtosis = DiffusionKurtosisModel(gtab).fit(data, mask=mask)
assert isinstance(kurtosis, DiffusionKurtosisFit)
mk = kurtosis.mk(0, 3)

# %% arcuate.dipy.FreeWaterTensorModel, arcuate.dipy.FreeWaterTensorFit
water = FreeWaterTensorModel(gtab, fit_method="WLS").fit(data, mask=mask)
assert isinstance(water, FreeWaterTensorFit)
share = water.f

# %% arcuate.dipy.patch2self
clean = patch2self(data, bvals)

# %% arcuate.dipy.auto_response_ssst, arcuate.dipy.mask_for_response_ssst, arcuate.dipy.response_from_mask_ssst
b2000 = (bvals < 50) | (bvals > 1500)
one, shell = gradient_table(bvals[b2000], bvecs=bvecs[b2000]), data[..., b2000]
response, ratio = auto_response_ssst(one, shell, roi_radii=10, fa_thr=0.5)
single = mask_for_response_ssst(one, shell, roi_radii=10, fa_thr=0.5)
response, ratio = response_from_mask_ssst(one, shell, single)

# %% arcuate.dipy.recursive_response
recursive = recursive_response(one, shell, mask=single, iter=4)

# %% arcuate.dipy.get_sphere, arcuate.dipy.Sphere, arcuate.dipy.HemiSphere
sphere = get_sphere("repulsion724")
assert isinstance(sphere, Sphere)
half = HemiSphere(xyz=sphere.vertices)

# %% arcuate.dipy.ConstrainedSphericalDeconvModel, arcuate.dipy.SphHarmFit, arcuate.dipy.AxSymShResponse
model = ConstrainedSphericalDeconvModel(one, response, sh_order_max=6)
csd = model.fit(shell, mask=mask)
assert isinstance(csd, SphHarmFit)
odf = csd.odf(half)
of_coefficients = ConstrainedSphericalDeconvModel(one, AxSymShResponse(1.0, recursive.dwi_response), sh_order_max=6)

# %% arcuate.dipy.peaks_from_model, arcuate.dipy.PeaksAndMetrics, arcuate.dipy.reshape_peaks_for_visualization
peaks = peaks_from_model(model, shell, half, mask=mask, npeaks=3)
assert isinstance(peaks, PeaksAndMetrics)
print(peaks.peak_dirs.shape)  # DIPY's tracking takes it as it is
flat = reshape_peaks_for_visualization(peaks)

# %% arcuate.dipy.peak_directions, arcuate.dipy.gfa
v = tuple(np.argwhere(mask)[0])
directions, values, indices = peak_directions(odf[v].astype(float), half)
print(gfa(odf[v]))

# %% arcuate.dipy.mask_for_response_msmt, arcuate.dipy.response_from_mask_msmt, arcuate.dipy.auto_response_msmt
wm, gm, csf = (head.tissue[..., k] > 0.9 for k in range(3))
responses = response_from_mask_msmt(gtab, data, wm, gm, csf)
found = mask_for_response_msmt(gtab, data, roi_radii=10, wm_fa_thr=0.5)
automatic = auto_response_msmt(gtab, data, roi_radii=10, wm_fa_thr=0.5)

# %% arcuate.dipy.MultiShellDeconvModel, arcuate.dipy.MSDeconvFit, arcuate.dipy.multi_shell_fiber_response, arcuate.dipy.MultiShellResponse
several = multi_shell_fiber_response(8, [0, 1000, 2000], *responses)
assert isinstance(several, MultiShellResponse)
tissues = MultiShellDeconvModel(gtab, several).fit(data, mask=mask)
assert isinstance(tissues, MSDeconvFit)
fractions = tissues.volume_fractions

# %% arcuate.dipy.sf_to_sh, arcuate.dipy.sh_to_sf, arcuate.dipy.sh_to_sf_matrix
coefficients = sf_to_sh(np.ones(len(sphere.vertices)), sphere, sh_order_max=8, basis_type="tournier07", legacy=False)
back = sh_to_sf(coefficients, sphere, sh_order_max=8, basis_type="tournier07", legacy=False)
matrix, inverse = sh_to_sf_matrix(sphere, sh_order_max=8, basis_type="tournier07", legacy=False)

# %% arcuate.dipy.convert_sh_to_legacy, arcuate.dipy.convert_sh_from_legacy, arcuate.dipy.convert_sh_descoteaux_tournier
legacy = convert_sh_to_legacy(coefficients, "tournier07")
again = convert_sh_from_legacy(legacy, "tournier07")
other = convert_sh_descoteaux_tournier(coefficients)

# %% arcuate.dipy.single_tensor, arcuate.dipy.single_tensor_odf, arcuate.dipy.fa_trace_to_lambdas
evals = fa_trace_to_lambdas(0.8, 2.1e-3)
signal = single_tensor(gtab, S0=100, evals=evals)
odf_of_one = single_tensor_odf(sphere.vertices, evals=evals)

# %% arcuate.dipy.multi_tensor, arcuate.dipy.multi_tensor_odf
two = np.array([[1.7e-3, 0.3e-3, 0.3e-3]] * 2)
signal, sticks = multi_tensor(gtab, two, S0=100, angles=[(0, 0), (60, 0)], fractions=[50, 50], snr=None)
odf_of_two = multi_tensor_odf(sphere.vertices, two, [(0, 0), (60, 0)], [50, 50])

# %% not run: arcuate.dipy.get_fnames, not run: arcuate.dipy.fetch_stanford_hardi, not run: arcuate.dipy.fetch_sherbrooke_3shell
files, folder = fetch_stanford_hardi()  # downloads once, checked against its digest
image, bval, bvec = get_fnames("stanford_hardi")
files, folder = fetch_sherbrooke_3shell()
