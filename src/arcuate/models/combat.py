"""ComBat: site effects on location and scale, shrunk over features by empirical Bayes, learnt and applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from arcuate.errors import InputError

TOLERANCE = 1e-4  # relative change at which the iteration of the published programs ends
MAX_ROUNDS = 10_000
_NON_PARAMETRIC_VALUES = 1 << 22  # numbers held at once by the non-parametric estimate


class CombatOptions(NamedTuple):
    """How site effects are estimated."""

    eb: bool = True  # shrink over features; without it each feature stands alone
    parametric: bool = True  # priors: normal and inverse gamma; else the empirical distribution
    mean_only: bool = False  # location alone, scales untouched


@dataclass(frozen=True, eq=False)
class CombatFit:
    """What ComBat learnt of ``n_features`` features at ``n_sites`` sites.

    Parameters
    ----------
    coefs : (n_sites + n_covariates, n_features) float, unit of the features
        Least-squares coefficients: mean of each site, then those of the covariates; with a reference site its row is
        the mean, and the other sites' rows are differences to it.
    grand_mean : (n_features,) float
        Mean over all samples, or of the reference site.
    variance : (n_features,) float
        Variance of what the model leaves; 1 where ``is_constant``.
    gamma, delta : (n_sites, n_features) float
        Shift in standard deviations, and factor of the variance, of each site: what is taken out.
    gamma_hat, delta_hat : (n_sites, n_features) float
        The same before shrinking.
    is_constant : (n_features,) bool
        Features without variance, which are left as they are.
    """

    coefs: np.ndarray
    grand_mean: np.ndarray
    variance: np.ndarray
    gamma: np.ndarray
    delta: np.ndarray
    gamma_hat: np.ndarray
    delta_hat: np.ndarray
    is_constant: np.ndarray

    def apply(self, values: np.ndarray, site: np.ndarray, covariates: np.ndarray) -> np.ndarray:
        """Values (n_samples, n_features) freed of the effects of their sites.

        Parameters
        ----------
        values : (n_samples, n_features) float, NaN where missing
        site : (n_samples,) int, row of ``gamma`` of each sample
        covariates : (n_samples, n_covariates) float, coded as those that were learnt from
        """
        values = np.asarray(values, dtype=np.float64)
        expected = self.grand_mean + covariates @ self.coefs[len(self.gamma) :]
        scale = np.sqrt(self.variance)
        standard = (values - expected) / scale
        freed = (standard - self.gamma[site]) / np.sqrt(self.delta[site]) * scale + expected
        return np.where(self.is_constant, values, freed)


def fit_combat(
    values: np.ndarray,
    site: np.ndarray,
    covariates: np.ndarray,
    *,
    reference: int | None = None,
    options: CombatOptions = CombatOptions(),  # noqa: B008 (a tuple of three flags)
) -> CombatFit:
    """Site effects of every feature.

    Parameters
    ----------
    values : (n_samples, n_features) float, any unit; NaN where missing
    site : (n_samples,) int
        Number of each sample's site, 0 to n_sites - 1.
    covariates : (n_samples, n_covariates) float
        What is to be kept: numbers as they are, categories as 0 and 1 without the first level.
    reference : int
        Site to whose level the others are brought; the mean of all without it.
    options : see :class:`CombatOptions`

    Raises
    ------
    InputError
        Fewer than two samples at a site, or covariates that cannot be told from the sites.

    Notes
    -----
    yᵢⱼᵥ = αᵥ + Xⱼβᵥ + γᵢᵥ + δᵢᵥεᵢⱼᵥ for site i, sample j, feature v. The standardised residuals of a site are given
    priors over features, γᵢᵥ ~ N(γ̄ᵢ, τᵢ²) and δᵢᵥ² ~ inverse gamma(λᵢ, θᵢ), whose moments are those of the plain
    estimates; their posterior means solve two equations in turns. The turns end as in the authors' programs, at a
    change of 1e-4 of δ² (and of γ where it is positive), so that numbers agree with theirs.

    Features without variance have no part in the priors.

    References
    ----------
    Johnson, Li & Rabinovic, Adjusting batch effects in microarray expression data using empirical Bayes methods.
    Biostatistics 8, 2007. Fortin et al., Harmonization of multi-site diffusion tensor imaging data. NeuroImage 161,
    2017.
    """
    values = np.asarray(values, dtype=np.float64)
    n_sites = int(site.max()) + 1
    design = _design(site, n_sites, covariates, reference)
    coefs = _least_squares(design, values)
    if reference is not None:
        grand_mean = coefs[reference]
        used = site == reference
    else:
        grand_mean = np.bincount(site, minlength=n_sites) / len(site) @ coefs[:n_sites]
        used = np.ones(len(site), dtype=bool)
    with np.errstate(invalid="ignore"):
        variance = _nanmean((values - design @ coefs)[used] ** 2)
    scale2 = np.nanmax(np.abs(values), axis=0, initial=0.0) ** 2
    is_constant = ~(variance > 1e-24 * scale2)
    variance = np.where(is_constant, 1.0, variance)
    standard = (values - grand_mean - covariates @ coefs[n_sites:]) / np.sqrt(variance)
    gamma, delta, gamma_hat, delta_hat = (np.zeros((n_sites, values.shape[1])) for _ in range(4))
    delta += 1
    delta_hat += 1
    vary = ~is_constant
    for i in range(n_sites):
        rows = standard[site == i][:, vary]
        gamma_hat[i, vary] = _nanmean(rows)
        if not options.mean_only:
            spread = _nanvar(rows)
            delta_hat[i, vary] = np.where(spread > 0, spread, 1.0)
        if i == reference:
            continue
        gamma[i, vary], delta[i, vary] = _shrunk(rows, gamma_hat[i, vary], delta_hat[i, vary], options)
    return CombatFit(coefs, grand_mean, variance, gamma, delta, gamma_hat, delta_hat, is_constant)


def _design(site: np.ndarray, n_sites: int, covariates: np.ndarray, reference: int | None) -> np.ndarray:
    """(n_samples, n_sites + n_covariates): a column per site, that of the reference all ones; checked."""
    counts = np.bincount(site, minlength=n_sites)
    if counts.min() < 2:
        raise InputError(
            f"site number {int(counts.argmin())} has {int(counts.min())} sample; a spread needs 2 or more at each "
            "site. Leave that site out."
        )
    columns = (site[:, None] == np.arange(n_sites)).astype(np.float64)
    if reference is not None:
        columns[:, reference] = 1.0
    design = np.hstack([columns, covariates])
    scaled = design / np.maximum(np.abs(design).max(axis=0), 1e-300)
    if np.linalg.matrix_rank(scaled) < design.shape[1]:
        raise InputError(
            "the covariates cannot be told from the sites or from each other (a category found at one site only, or a "
            "column that is constant or a copy); found a design of rank "
            f"{np.linalg.matrix_rank(scaled)} for {design.shape[1]} columns. Leave such a covariate out."
        )
    return design


def _least_squares(design: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Coefficients (n_columns, n_features) by least squares; features that miss other samples are fitted apart."""
    is_there = np.isfinite(values)
    if is_there.all():
        return np.linalg.lstsq(design, values, rcond=None)[0]
    coefs = np.empty((design.shape[1], values.shape[1]))
    patterns, which = np.unique(is_there, axis=1, return_inverse=True)
    for k in range(patterns.shape[1]):
        kept, features = patterns[:, k], which.ravel() == k
        if np.linalg.matrix_rank(design[kept]) < design.shape[1]:
            raise InputError(
                f"{int(features.sum())} features are there in {int(kept.sum())} of {len(kept)} samples, which do not "
                "determine the sites and covariates. Leave those features out."
            )
        coefs[:, features] = np.linalg.lstsq(design[kept], values[kept][:, features], rcond=None)[0]
    return coefs


def _shrunk(
    rows: np.ndarray, gamma_hat: np.ndarray, delta_hat: np.ndarray, options: CombatOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means of shift and variance (n_features,) of one site from its standardised rows."""
    if not options.eb or rows.shape[1] < 2:
        return gamma_hat, delta_hat
    if not options.parametric:
        return _non_parametric(rows, gamma_hat, delta_hat)
    tau2 = gamma_hat.var(ddof=1)
    if options.mean_only:
        return (tau2 * gamma_hat + gamma_hat.mean()) / (tau2 + 1), np.ones_like(gamma_hat)
    return _parametric(rows, gamma_hat, delta_hat, tau2)


def _parametric(
    rows: np.ndarray, gamma_hat: np.ndarray, delta_hat: np.ndarray, tau2: float
) -> tuple[np.ndarray, np.ndarray]:
    mean, spread = delta_hat.mean(), delta_hat.var(ddof=1)
    if not (tau2 > 0 and spread > 0):
        return np.full_like(gamma_hat, gamma_hat.mean()), np.full_like(delta_hat, mean)
    lam, theta = (2 * spread + mean**2) / spread, (mean * spread + mean**3) / spread
    n = np.isfinite(rows).sum(axis=0)
    squares, sums = np.nansum(rows**2, axis=0), np.nansum(rows, axis=0)
    gamma, delta = gamma_hat, delta_hat
    for _ in range(MAX_ROUNDS):
        new_gamma = (tau2 * n * gamma_hat + delta * gamma_hat.mean()) / (tau2 * n + delta)
        left = squares - 2 * new_gamma * sums + n * new_gamma**2
        new_delta = (0.5 * left + theta) / (n / 2 + lam - 1)
        with np.errstate(divide="ignore", invalid="ignore"):  # a shift of 0 has no relative change
            change = max(
                np.nanmax(np.abs(new_gamma - gamma) / gamma, initial=0.0), (np.abs(new_delta - delta) / delta).max()
            )
        gamma, delta = new_gamma, new_delta
        if not change > TOLERANCE:
            break
    return gamma, delta


def _non_parametric(rows: np.ndarray, gamma_hat: np.ndarray, delta_hat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over the estimates of all other features, each weighted by the likelihood that it gives to the rows."""
    n_features = rows.shape[1]
    gamma, delta = np.empty(n_features), np.empty(n_features)
    n = np.isfinite(rows).sum(axis=0)
    squares, sums = np.nansum(rows**2, axis=0), np.nansum(rows, axis=0)
    block = max(1, _NON_PARAMETRIC_VALUES // n_features)
    for start in range(0, n_features, block):
        f = np.arange(start, min(start + block, n_features))
        left = squares[f, None] - 2 * np.outer(sums[f], gamma_hat) + np.outer(n[f], gamma_hat**2)
        log_likelihood = -0.5 * n[f, None] * np.log(2 * np.pi * delta_hat) - left / (2 * delta_hat)
        log_likelihood[np.arange(len(f)), f] = -np.inf
        weight = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        gamma[f], delta[f] = weight @ gamma_hat, weight @ delta_hat
    return gamma, delta


def _nanmean(values: np.ndarray) -> np.ndarray:
    """Mean over samples (n_features,), NaN left out; 0 where there is none."""
    n = np.isfinite(values).sum(axis=0)
    return np.nansum(values, axis=0) / np.maximum(n, 1)


def _nanvar(values: np.ndarray) -> np.ndarray:
    """Variance over samples (n_features,), divided by n - 1, NaN left out; 0 where there are fewer than two."""
    n = np.isfinite(values).sum(axis=0)
    return np.nansum((values - _nanmean(values)) ** 2, axis=0) / np.maximum(n - 1, 1)
