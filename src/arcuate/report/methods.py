"""A methods paragraph to paste into a paper, and the papers it cites."""

from __future__ import annotations

from typing import Any

from arcuate._version import __version__
from arcuate.study.outputs import RunRecord
from arcuate.study.stages import NOT_ASKED

REFERENCES = {
    "patch2self": "Fadnavis S, Batson J, Garyfallidis E. Patch2Self: denoising diffusion MRI with self-supervised "
    "learning. Advances in Neural Information Processing Systems 2020;33:16293-16303.",
    "mppca": "Veraart J, Novikov DS, Christiaens D, et al. Denoising of diffusion MRI using random matrix theory. "
    "NeuroImage 2016;142:394-406.",
    "mppca_estimator": "Cordero-Grande L, Christiaens D, Hutter J, Price AN, Hajnal JV. Complex diffusion-weighted "
    "image estimation via matrix recovery under general noise models. NeuroImage 2019;200:391-404.",
    "rician": "Koay CG, Basser PJ. Analytically exact correction scheme for signal extraction from noisy magnitude MR "
    "signals. Journal of Magnetic Resonance 2006;179:317-322.",
    "otsu": "Otsu N. A threshold selection method from gray-level histograms. IEEE Transactions on Systems, Man, and "
    "Cybernetics 1979;9:62-66.",
    "hdbet": "Isensee F, Schell M, Pflueger I, et al. Automated brain extraction of multisequence MRI using "
    "artificial neural networks. Human Brain Mapping 2019;40:4952-4964.",
    "tensor": "Basser PJ, Mattiello J, LeBihan D. MR diffusion tensor spectroscopy and imaging. Biophysical Journal "
    "1994;66:259-267.",
    "wls": "Veraart J, Sijbers J, Sunaert S, Leemans A, Jeurissen B. Weighted linear least squares estimation of "
    "diffusion MRI parameters: strengths, limitations, and pitfalls. NeuroImage 2013;81:335-346.",
    "freewater": "Hoy AR, Koay CG, Kecskemeti SR, Alexander AL. Optimization of a free water elimination "
    "two-compartment model for diffusion tensor imaging. NeuroImage 2014;103:323-333.",
    "freewater_search": "Neto Henriques R, Rokem A, Garyfallidis E, St-Jean S, Peterson ET, Correia MM. Optimization "
    "of a free water elimination two-compartment model for diffusion tensor imaging (re). ReScience 2017;3:2.",
    "rician_tensor": "Veraart J, Van Hecke W, Sijbers J. Constrained maximum likelihood estimation of the diffusion "
    "kurtosis tensor using a Rician noise model. Magnetic Resonance in Medicine 2011;66:678-686.",
    "restore": "Chang LC, Jones DK, Pierpaoli C. RESTORE: robust estimation of tensors by outlier rejection. Magnetic "
    "Resonance in Medicine 2005;53:1088-1095.",
    "irlls": "Collier Q, Veraart J, Jeurissen B, den Dekker AJ, Sijbers J. Iterative reweighted linear least squares "
    "for accurate, fast, and robust estimation of diffusion magnetic resonance parameters. Magnetic Resonance in "
    "Medicine 2015;73:2174-2184.",
    "kurtosis": "Jensen JH, Helpern JA, Ramani A, Lu H, Kaczynski K. Diffusional kurtosis imaging: the quantification "
    "of non-gaussian water diffusion by means of magnetic resonance imaging. Magnetic Resonance in Medicine "
    "2005;53:1432-1440.",
    "wmti": "Fieremans E, Jensen JH, Helpern JA. White matter characterization with diffusional kurtosis imaging. "
    "NeuroImage 2011;58:177-188.",
    "kurtosis_measures": "Tabesh A, Jensen JH, Ardekani BA, Helpern JA. Estimation of tensors and tensor-derived "
    "measures in diffusional kurtosis imaging. Magnetic Resonance in Medicine 2011;65:823-836.",
    "noddi": "Zhang H, Schneider T, Wheeler-Kingshott CA, Alexander DC. NODDI: practical in vivo neurite orientation "
    "dispersion and density imaging of the human brain. NeuroImage 2012;61:1000-1016.",
    "amico": "Daducci A, Canales-Rodríguez EJ, Zhang H, et al. Accelerated microstructure imaging via convex "
    "optimization (AMICO) from diffusion MRI data. NeuroImage 2015;105:32-44.",
    "csd": "Tournier JD, Calamante F, Connelly A. Robust determination of the fibre orientation distribution in "
    "diffusion MRI: non-negativity constrained super-resolved spherical deconvolution. NeuroImage 2007;35:1459-1472.",
    "msmtcsd": "Jeurissen B, Tournier JD, Dhollander T, Connelly A, Sijbers J. Multi-tissue constrained spherical "
    "deconvolution for improved analysis of multi-shell diffusion MRI data. NeuroImage 2014;103:411-426.",
    "three_tissue": "Dhollander T, Connelly A. A novel iterative approach to reap the benefits of multi-tissue CSD "
    "from just single-shell (+b=0) diffusion MRI data. Proceedings of the ISMRM 2016;24:3010.",
    "tournier": "Tournier JD, Calamante F, Connelly A. Determination of the appropriate b value and number of "
    "gradient directions for high-angular-resolution diffusion-weighted imaging. NMR in Biomedicine "
    "2013;26:1775-1786.",
    "dhollander": "Dhollander T, Raffelt D, Connelly A. Unsupervised 3-tissue response function estimation from "
    "single-shell or multi-shell diffusion MR data without a co-registered T1 image. ISMRM Workshop on Breaking the "
    "Barriers of Diffusion MRI 2016:5.",
    "dhollander_wm": "Dhollander T, Mito R, Raffelt D, Connelly A. Improved white matter response function estimation "
    "for 3-tissue constrained spherical deconvolution. Proceedings of the ISMRM 2019:555.",
    "normalisation": "Raffelt D, Dhollander T, Tournier JD, et al. Bias field correction and intensity normalisation "
    "for quantitative analysis of apparent fibre density. Proceedings of the ISMRM 2017:3541.",
    "normalisation_revised": "Dhollander T, Tabbara R, Rosnarho-Tornstrand J, Tournier JD, Raffelt D, Connelly A. "
    "Multi-tissue log-domain intensity and inhomogeneity normalisation for quantitative apparent fibre density. "
    "Proceedings of the ISMRM 2021:2472.",
    "recursive": "Tax CMW, Jeurissen B, Vos SB, Viergever MA, Leemans A. Recursive calibration of the fiber response "
    "function for spherical deconvolution of diffusion MRI data. NeuroImage 2014;86:67-80.",
    "tractseg": "Wasserthal J, Neher P, Maier-Hein KH. TractSeg - fast and accurate white matter tract segmentation. "
    "NeuroImage 2018;183:239-253.",
}


class _Writer:
    """Sentences, and the numbers of the papers in the order of their first mention."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.cited: list[str] = []

    def say(self, sentence: str, *keys: str) -> None:
        numbers = []
        for key in keys:
            if key not in self.cited:
                self.cited.append(key)
            numbers.append(str(self.cited.index(key) + 1))
        self.sentences.append(sentence + (f" [{', '.join(numbers)}]" if numbers else "") + ".")


def methods_paragraph(run: RunRecord) -> tuple[str, list[str]]:
    """The paragraph, and its references in the order of their numbers.

    Parameters
    ----------
    run : what was done; only that is said
    """
    text = _Writer()
    text.say(f"Diffusion images were processed with arcuate {__version__}")
    _say_scan(text, run)
    for step, tell in _SENTENCES.items():
        if step in run.steps:
            tell(text, run.steps[step])
    return " ".join(text.sentences), [REFERENCES[key] for key in text.cited]


def _say_scan(text: _Writer, run: RunRecord) -> None:
    """How the scan was put together, and that it was not denoised where it was not."""
    parts, excluded = run.scan.get("Parts") or [], run.scan.get("VolumesExcluded") or []
    if len(parts) > 1:
        scaled = ", brought to one scale of intensity by their images without diffusion weighting"
        text.say(f"{len(parts)} series were joined" + (scaled if run.scan.get("PartScales") else ""))
    if excluded:
        listed = ", ".join(map(str, excluded))
        volumes = "Volume" if len(excluded) == 1 else "Volumes"
        text.say(f"{volumes} {listed} (counted from 0) {'was' if len(excluded) == 1 else 'were'} left out")
    if kept := run.scan.get("ShellsKept"):
        text.say(f"Of the shells those at b = {', '.join(map(str, kept))} s/mm² were taken")
    if "denoise" not in run.steps:
        reason = run.left_out.get("denoise", "").rstrip(".")
        is_telling = reason and not reason.startswith(NOT_ASKED)
        text.say("Images were not denoised" + (f" ({reason})" if is_telling else ""))


def _say_denoising(text: _Writer, facts: dict[str, Any]) -> None:
    name, keys = _DENOISING[facts["Method"]]
    text.say(f"Images were denoised with {name}", *keys)
    if facts.get("RicianBiasRemoved"):
        text.say("The bias of magnitude images under Rician noise was removed, given the noise level", "rician")


def _say_mask(text: _Writer, facts: dict[str, Any]) -> None:
    if facts["Method"] == "given":
        text.say("A brain mask made beforehand was used")
    elif facts["Method"] == "hdbet":
        text.say(f"The brain was extracted with {facts.get('Network', 'HD-BET')}", "hdbet")
    else:
        weighted = max(facts.get("BValuesOfImage") or [0.0]) > facts.get("B0Threshold", 0.0)
        image = "of the lowest shell" if weighted else "without diffusion weighting"
        text.say(f"The brain was extracted with Otsu's threshold on the mean image {image}", "otsu")


def _say_tensor(text: _Writer, facts: dict[str, Any]) -> None:
    used = ", ".join(f"{b:g}" for b in facts.get("BValuesUsed", []))
    if facts["FitMethod"].startswith("maximum likelihood"):
        text.say(
            "The diffusion tensor was fitted by maximum likelihood under Rician noise, its standard deviation given"
            + (f", to the volumes with b = {used} s/mm²" if used else ""),
            "tensor",
            "rician_tensor",
        )
        return
    method = {"OLS": "ordinary", "WLS": "weighted", "IWLS": "iteratively reweighted"}[facts["FitMethod"]]
    text.say(
        f"The diffusion tensor was fitted by {method} linear least squares"
        + (f" to the volumes with b = {used} s/mm²" if used else ""),
        *(("tensor",) if method == "ordinary" else ("tensor", "wls")),
    )
    if "Robust" in facts:
        text.say(
            f"Volumes whose studentised residual exceeded {facts['Cutoff']:g} standard deviations, starting from a fit "
            "with Geman-McClure weights, were left out voxel by voxel, and in whole slices where they were outliers in "
            f"many of their voxels ({100 * facts['OutlyingShare']:.2g} % of all signals)",
            "restore",
            "irlls",
        )


def _say_kurtosis(text: _Writer, facts: dict[str, Any]) -> None:
    method = {"OLS": "ordinary", "WLS": "weighted", "IWLS": "iteratively reweighted"}[facts["FitMethod"]]
    used = ", ".join(f"{b:g}" for b in facts.get("BValuesUsed", []))
    low, high = facts["KurtosisLimits"]
    text.say(
        f"Diffusion and kurtosis tensors were fitted together by {method} linear least squares to the volumes with b = "
        f"{used} s/mm²; mean, axial and radial kurtosis were computed exactly and limited to {low:g} to {high:g}",
        "kurtosis",
        "kurtosis_measures",
        *(() if method == "ordinary" else ("wls",)),
    )
    if facts.get("Constrained"):
        text.say(
            "Kurtosis was held positive and the signal decreasing up to the highest b along every direction of the "
            f"scan, which changed the fit in {facts['VoxelsAtConstraints']} voxels",
            "kurtosis_measures",
        )
    if "VoxelsByTractIntegrity" in facts:
        text.say(
            "Axonal water fraction and the diffusivities within and outside axons were computed from them in the "
            f"{facts['VoxelsByTractIntegrity'].get('valid', 0)} voxels whose tensor is that of aligned axons "
            "(linearity 0.4 or more, planarity 0.2 and sphericity 0.35 or less)",
            "wmti",
        )


def _say_free_water(text: _Writer, facts: dict[str, Any]) -> None:
    used = ", ".join(f"{b:g}" for b in facts.get("BValuesUsed", []))
    text.say(
        f"A tensor of the tissue and a share of free water (diffusivity {facts['WaterDiffusivity']:g} mm²/s) were "
        f"fitted to the volumes with b = {used} s/mm² by weighted linear least squares and a search over the share",
        "freewater",
        "freewater_search",
    )


def _say_noddi(text: _Writer, facts: dict[str, Any]) -> None:
    how = "by maximum likelihood under Rician noise" if facts["Refined"] else "in its convex form"
    text.say(
        f"NODDI was fitted {how} with a parallel diffusivity of {facts['ParallelDiffusivity']} and a free "
        f"diffusivity of {facts['IsotropicDiffusivity']} mm²/s",
        "noddi",
        "amico",
    )


def _say_response(text: _Writer, facts: dict[str, Any]) -> None:
    algorithm, tissues = facts["algorithm"], list(facts["tissues"])
    key = (algorithm,) if algorithm in REFERENCES else ()
    what = f"Response functions of {len(tissues)} tissues were" if len(tissues) > 1 else "The response function was"
    if algorithm in {"mean", "file"}:  # made before the run
        n = facts.get("made_from", {}).get("n_responses")
        text.say(f"{what} " + (f"averaged over {n} subjects of the study" if n else "taken from another estimate"))
        return
    text.say(f"{what} estimated from the data (algorithm: {algorithm})", *key, *_ALSO.get(algorithm, ()))


def _say_fods(text: _Writer, facts: dict[str, Any]) -> None:
    response = facts["Response"]
    is_multi = len(response["tissues"]) > 1 or sum(b is None or b > 0 for b in response["bvals"]) > 1
    kind, keys = ("multi-tissue", ("msmtcsd", "csd")) if is_multi else ("single-shell", ("csd",))
    if "three-tissue" in facts.get("Model", ""):
        kind, keys = "single-shell three-tissue", ("three_tissue", "msmtcsd")
    text.say(f"Fibre orientation distributions were computed by {kind} constrained spherical deconvolution", *keys)
    if second := facts.get("SecondPass"):
        added = f" and {second['of_all_degrees']:g} of that of all degrees" if second.get("of_all_degrees") else ""
        asked = (
            f" where the log of the likelihood ratio of degrees above 2{added} exceeded "
            f"{second.get('least_evidence', 0) / 2:g}"
        )
        text.say(
            "Voxels whose distribution was planar were fitted once more with amplitudes down to "
            f"-{second['slack']:g} of the mean allowed, and the second fit was kept"
            + (asked if second.get("evidence") else " throughout")
        )
        if second.get("dispersed"):
            text.say(
                "Voxels of at least 0.3 white matter whose distribution was neither planar nor mostly empty were "
                "fitted once more with a Laplace-Beltrami term, fibre density held"
            )
    if "IntensityNormalisation" in facts:
        order = facts["IntensityNormalisation"]["Order"]
        text.say(
            "Their intensities were normalised over the tissues in the log domain, with a field of polynomials up to "
            f"order {order}",
            "normalisation",
            "normalisation_revised",
        )


def _say_peaks(text: _Writer, facts: dict[str, Any]) -> None:
    least = f" and {facts['MinAmplitude']} of the unit of the distribution" if facts.get("MinAmplitude") else ""
    text.say(
        f"Up to {facts['NPeaks']} peaks per voxel were kept, above {facts['RelativePeakThreshold']} of the "
        f"largest{least}, at least {facts['MinSeparationAngle']} degrees apart"
    )


def _say_tracts(text: _Writer, facts: dict[str, Any]) -> None:
    text.say(f"{facts['TractsFound']} white-matter tracts were segmented with TractSeg's networks", "tractseg")


_DENOISING = {"patch2self": ("Patch2Self", ("patch2self",)), "mppca": ("MP-PCA", ("mppca", "mppca_estimator"))}
_ALSO = {"dhollander": ("dhollander_wm",)}
_SENTENCES = {
    "denoise": _say_denoising,
    "mask": _say_mask,
    "dti": _say_tensor,
    "kurtosis": _say_kurtosis,
    "freewater": _say_free_water,
    "noddi": _say_noddi,
    "response": _say_response,
    "fod": _say_fods,
    "peaks": _say_peaks,
    "tracts": _say_tracts,
}
