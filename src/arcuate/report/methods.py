"""A methods paragraph to paste into a paper, and the papers it cites."""

from __future__ import annotations

from typing import Any

from arcuate._version import __version__

REFERENCES = {
    "patch2self": "Fadnavis S, Batson J, Garyfallidis E. Patch2Self: denoising diffusion MRI with self-supervised "
    "learning. Advances in Neural Information Processing Systems 2020;33:16293-16303.",
    "mppca": "Veraart J, Novikov DS, Christiaens D, et al. Denoising of diffusion MRI using random matrix theory. "
    "NeuroImage 2016;142:394-406.",
    "mppca_estimator": "Cordero-Grande L, Christiaens D, Hutter J, Price AN, Hajnal JV. Complex diffusion-weighted "
    "image estimation via matrix recovery under general noise models. NeuroImage 2019;200:391-404.",
    "otsu": "Otsu N. A threshold selection method from gray-level histograms. IEEE Transactions on Systems, Man, and "
    "Cybernetics 1979;9:62-66.",
    "hdbet": "Isensee F, Schell M, Pflueger I, et al. Automated brain extraction of multisequence MRI using "
    "artificial neural networks. Human Brain Mapping 2019;40:4952-4964.",
    "tensor": "Basser PJ, Mattiello J, LeBihan D. MR diffusion tensor spectroscopy and imaging. Biophysical Journal "
    "1994;66:259-267.",
    "wls": "Veraart J, Sijbers J, Sunaert S, Leemans A, Jeurissen B. Weighted linear least squares estimation of "
    "diffusion MRI parameters: strengths, limitations, and pitfalls. NeuroImage 2013;81:335-346.",
    "noddi": "Zhang H, Schneider T, Wheeler-Kingshott CA, Alexander DC. NODDI: practical in vivo neurite orientation "
    "dispersion and density imaging of the human brain. NeuroImage 2012;61:1000-1016.",
    "amico": "Daducci A, Canales-Rodríguez EJ, Zhang H, et al. Accelerated microstructure imaging via convex "
    "optimization (AMICO) from diffusion MRI data. NeuroImage 2015;105:32-44.",
    "csd": "Tournier JD, Calamante F, Connelly A. Robust determination of the fibre orientation distribution in "
    "diffusion MRI: non-negativity constrained super-resolved spherical deconvolution. NeuroImage 2007;35:1459-1472.",
    "msmtcsd": "Jeurissen B, Tournier JD, Dhollander T, Connelly A, Sijbers J. Multi-tissue constrained spherical "
    "deconvolution for improved analysis of multi-shell diffusion MRI data. NeuroImage 2014;103:411-426.",
    "tournier": "Tournier JD, Calamante F, Connelly A. Determination of the appropriate b value and number of "
    "gradient directions for high-angular-resolution diffusion-weighted imaging. NMR in Biomedicine "
    "2013;26:1775-1786.",
    "dhollander": "Dhollander T, Raffelt D, Connelly A. Unsupervised 3-tissue response function estimation from "
    "single-shell or multi-shell diffusion MR data without a co-registered T1 image. ISMRM Workshop on Breaking the "
    "Barriers of Diffusion MRI 2016:5.",
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


def methods_paragraph(
    sidecars: dict[str, dict[str, Any]],
    *,
    algorithm: str | None = None,
    csd_model: str | None = None,
    n_tracts: int = 0,
) -> tuple[str, list[str]]:
    """The paragraph, and its references in the order of their numbers.

    Parameters
    ----------
    sidecars : facts of each step that was done
    algorithm : of the response
    csd_model : BIDS label, csd or msmtcsd
    n_tracts : how many tracts were written
    """  # fmt: skip
    text = _Writer()
    text.say(f"Diffusion data were processed with arcuate {__version__}")
    if facts := sidecars.get("denoise"):
        is_mppca = "mppca" in str(facts.get("Method", "")).lower()
        name, keys = ("MP-PCA", ("mppca", "mppca_estimator")) if is_mppca else ("Patch2Self", ("patch2self",))
        text.say(f"Images were denoised with {name}", *keys)
    if facts := sidecars.get("mask"):
        is_net = "hdbet" in str(facts.get("Method", "")).lower()
        how = "HD-BET" if is_net else "Otsu's threshold on the mean image without diffusion weighting"
        text.say(f"The brain was extracted with {how}", "hdbet" if is_net else "otsu")
    if facts := sidecars.get("dti"):
        _say_tensor(text, facts)
    if facts := sidecars.get("noddi"):
        _say_noddi(text, facts)
    if algorithm is not None:
        key = (algorithm,) if algorithm in REFERENCES else ()
        text.say(f"Response functions were estimated from the data (algorithm: {algorithm})", *key)
    if "fod" in sidecars and csd_model is not None:
        kind = "multi-shell multi-tissue" if csd_model == "msmtcsd" else "single-shell"
        keys = ("msmtcsd", "csd") if csd_model == "msmtcsd" else ("csd",)
        text.say(f"Fibre orientation distributions were computed by {kind} constrained spherical deconvolution", *keys)
    if facts := sidecars.get("peaks"):
        text.say(
            f"Up to {facts.get('NPeaks')} peaks per voxel were kept, above {facts.get('RelativePeakThreshold')} of the "
            f"largest and at least {facts.get('MinSeparationAngle')} degrees apart"
        )
    if n_tracts:
        text.say(f"{n_tracts} white-matter tracts were segmented with TractSeg's networks", "tractseg")
    return " ".join(text.sentences), [REFERENCES[key] for key in text.cited]


def _say_tensor(text: _Writer, facts: dict[str, Any]) -> None:
    method = {"OLS": "ordinary", "WLS": "weighted", "IWLS": "iteratively reweighted"}.get(
        facts.get("FitMethod", ""), ""
    )
    used = ", ".join(f"{b:g}" for b in facts.get("BValuesUsed", []))
    text.say(
        " ".join(filter(None, ("The diffusion tensor was fitted by", method, "linear least squares")))
        + (f" to the volumes with b = {used} s/mm²" if used else ""),
        *(("tensor",) if method == "ordinary" else ("tensor", "wls")),
    )


def _say_noddi(text: _Writer, facts: dict[str, Any]) -> None:
    how = "its convex form" if "convex" in str(facts.get("Fit", "")) else "maximum likelihood under Rician noise"
    text.say(
        f"NODDI was fitted in {how} with a parallel diffusivity of {facts.get('ParallelDiffusivity')} and a free "
        f"diffusivity of {facts.get('IsotropicDiffusivity')} mm²/s",
        "noddi",
        "amico",
    )
