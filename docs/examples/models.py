# ruff: noqa
# %% start
import numpy as np
from arcuate.phantom import simulate_rows, spread_directions, three_shell_gradients

rng = np.random.default_rng(0)
gradients = three_shell_gradients(n_b0=2, bvals=(1000, 2000), n_directions=45)
fibres = spread_directions(50)  # (50, 3), scanner frame
rows = 1000 * simulate_rows(gradients, fibres[:, None])  # (50, n_meas): one row per voxel, one fibre each
rows = np.abs(rows + rng.normal(scale=20, size=rows.shape))

# %% arcuate.models.tensor.fit_tensor, arcuate.models.tensor.TensorFit, arcuate.models.tensor.prepare_tensor, arcuate.models.tensor.prepare_model, arcuate.models.tensor.rows_and_model, arcuate.models.tensor.TensorModel, arcuate.models.tensor.fractional_anisotropy
fit = fit_tensor(rows, gradients)  # (50, 6) tensors, s0, status
volumes, model = prepare_tensor(gradients)  # once for a scan; the model takes the volumes that suit it
volumes, model = prepare_model(TensorModel, gradients, n_reweight=2)  # or that of another class of tensor model
rows_used, model = rows_and_model(TensorModel, rows, gradients)  # for rows of all volumes
assert isinstance(model, TensorModel) and isinstance(model.fit(rows[:, volumes]), TensorFit)
fa = fractional_anisotropy(np.array([[1.7e-3, 0.3e-3, 0.3e-3]]))

# %% arcuate.models.robust_tensor.fit_robust_tensor, arcuate.models.robust_tensor.RobustTensorFit
dropped = rows.copy()
dropped[:, 5] *= 0.3  # a volume that dropped out
robust = fit_robust_tensor(dropped, gradients)
assert isinstance(robust, RobustTensorFit)

# %% arcuate.models.lost_slices.SliceEvidence, arcuate.models.tensor.determines_tensor
slices = np.stack(np.nonzero(np.ones((5, 5, 2))))  # (3, 50): where the rows lie in an image of 5 x 5 x 2 voxels
evidence = SliceEvidence(slices, model.design)
evidence.count(np.arange(50), robust.outliers)  # volume 5 is an outlier everywhere
again = evidence.find_lost()  # (50,): voxels of slices with lost volumes, to be fitted without them
assert evidence.lost.any() and determines_tensor(model.design[~evidence.lost[0]])

# %% arcuate.models.kurtosis.fit_kurtosis, arcuate.models.kurtosis.KurtosisFit, arcuate.models.kurtosis.prepare_kurtosis
fit = fit_kurtosis(rows, gradients)
assert isinstance(fit, KurtosisFit)

# %% arcuate.models.free_water.fit_free_water_tensor, arcuate.models.free_water.FreeWaterFit
water = fit_free_water_tensor(rows, gradients)
assert isinstance(water, FreeWaterFit)

# %% arcuate.models.noddi.fit_noddi, arcuate.models.noddi.NoddiFit, arcuate.models.noddi.prepare_noddi
fit = fit_noddi(rows, gradients)
print(fit.ndi.mean(), fit.odi.mean())
assert isinstance(fit, NoddiFit)

# %% arcuate.models.status.Status, arcuate.models.status.count_status, arcuate.models.status.counts_in_words, arcuate.models.status.advice_of
counts = count_status(fit.status)  # voxels by what happened in them
print(counts_in_words(counts), advice_of(Status.FLOORED.name.lower()))

# %% arcuate.models.patch2self.fit_patch2self, arcuate.models.patch2self.Patch2SelfFit, arcuate.models.patch2self.check_patch2self
many = np.repeat(rows, 20, axis=0)
check_patch2self(gradients.is_b0, model="ridge", alpha=1.0)  # says at once what cannot work
denoised = fit_patch2self(many, gradients.is_b0)
assert isinstance(denoised, Patch2SelfFit)

# %% arcuate.models.mppca.fit_mppca, arcuate.models.mppca.MppcaFit, arcuate.models.mppca.choose_extent, arcuate.models.mppca.check_mppca
image = rng.normal(1000, 20, (8, 8, 8, 30)).astype(np.float32)
fit = fit_mppca(image)
assert isinstance(fit, MppcaFit)
print(choose_extent((64, 64, 40), 30))  # voxels of a patch along each axis
assert check_mppca((64, 64, 40, 30)) == choose_extent((64, 64, 40), 30)  # and refuses options that cannot be

# %% arcuate.models.response.tensor_response, arcuate.models.response.Response, arcuate.models.response_checks.check_response
response = tensor_response([1.7e-3, 0.3e-3, 0.3e-3], s0=1000.0, b=2000.0)
assert isinstance(response, Response)
check_response(response)  # raises where it cannot be that of a fibre bundle
print(response.tissues, response.shells)

# %% arcuate.models.csd.fit_csd, arcuate.models.csd.CsdFit
fit = fit_csd(rows, gradients, response)  # the shell of the response
assert isinstance(fit, CsdFit)

# %% arcuate.models.peaks.find_peaks, arcuate.models.peaks.Peaks
coefs = np.zeros((4, 45))
coefs[:, 0], coefs[:, 3] = 1.0, 1.0  # degree 8; lobes along z
peaks = find_peaks(coefs, n_peaks=2)
assert isinstance(peaks, Peaks)

# %% arcuate.models.region_statistics.weighted_percentiles
print(weighted_percentiles(np.arange(5.0), np.ones(5), (0.5,)))
