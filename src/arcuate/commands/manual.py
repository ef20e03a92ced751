"""What the help of each command shows below its options: examples, the files it writes, the papers to cite."""

from __future__ import annotations

from typing import NamedTuple


class Manual(NamedTuple):
    """The end of a command's help."""

    examples: tuple[str, ...]
    writes: tuple[str, ...] = ()
    papers: tuple[str, ...] = ()


_DENOISE = (
    "mppca: Veraart et al., NeuroImage 2016, https://doi.org/10.1016/j.neuroimage.2016.08.016; Cordero-Grande et al., "
    "NeuroImage 2019, https://doi.org/10.1016/j.neuroimage.2019.06.039.",
    "patch2self: Fadnavis et al., Advances in Neural Information Processing Systems 2020;33:16293.",
)
_TENSOR = (
    "Basser, Mattiello, LeBihan, Biophys J 1994, https://doi.org/10.1016/S0006-3495(94)80775-1; Veraart et al., "
    "NeuroImage 2013, https://doi.org/10.1016/j.neuroimage.2013.05.028.",
)
_NODDI = (
    "Zhang et al., NeuroImage 2012, https://doi.org/10.1016/j.neuroimage.2012.03.072; the convex fit: Daducci et al., "
    "NeuroImage 2015, https://doi.org/10.1016/j.neuroimage.2014.10.026.",
)
_MULTI_TISSUE = "Jeurissen et al., NeuroImage 2014, https://doi.org/10.1016/j.neuroimage.2014.07.061."
_SINGLE_SHELL = "Tournier et al., NeuroImage 2007, https://doi.org/10.1016/j.neuroimage.2007.02.016."
_ALL = ("The methods paragraph of the report names the papers of what was done, with BibTeX.",)

MANUAL = {
    "run": Manual(
        (
            "arcuate run sub-01_dwi.nii.gz --out derivatives",
            "arcuate run dwi.mif --mask mask.mif --steps dti,noddi --out derivatives",
        ),
        (
            "OUT/sub-01/dwi/sub-01_..., BIDS derivatives with a .json beside each image; OUT/sub-01.html, the report; "
            "sub-01_run.json, the list of all files.",
        ),
        _ALL,
    ),
    "cohort": Manual(
        (
            "arcuate cohort bids derivatives participant --workers 4",
            "arcuate cohort bids derivatives group",
        ),
        (
            "participant: what `arcuate run` writes, of each scan, and OUT/participants_status.tsv; group: mean "
            "responses, a table of key numbers, a page of all scans.",
        ),
        _ALL,
    ),
    "demo": Manual(
        ("arcuate demo", "arcuate demo --size small --out demo"),
        ("OUT/phantom, the scan and its truth; what `arcuate run` writes.",),
        _ALL,
    ),
    "phantom": Manual(
        ("arcuate phantom rehearsal --subjects 3", "arcuate phantom rehearsal --subjects 12 --truncated --sessions 2"),
        ("BIDS_DIR, a BIDS data set.",),
    ),
    "info": Manual(
        ("arcuate info sub-01_dwi.nii.gz", "arcuate info dwi.mif --quick --json"),
        ("Nothing, but for --write-bvecs.",),
    ),
    "denoise": Manual(
        (
            "arcuate denoise dwi.nii.gz --method mppca --out den.nii.gz --noise noise.nii.gz",
            "arcuate denoise dwi.mif den.mif --method mppca",
        ),
        ("The scan; .bval and .bvec beside NIfTI (.mif holds them); a .json beside each image.",),
        _DENOISE,
    ),
    "mask": Manual(
        ("arcuate mask dwi.nii.gz --out mask.nii.gz", "arcuate mask dwi.mif mask.mif --method otsu"),
        ("The mask, 0 and 1, and a .json beside it.",),
        (
            "otsu: Otsu, IEEE Trans Syst Man Cybern 1979, https://doi.org/10.1109/TSMC.1979.4310076; hdbet: Isensee "
            "et al., Hum Brain Mapp 2019, https://doi.org/10.1002/hbm.24750.",
        ),
    ),
    "dti": Manual(
        (
            "arcuate dti dwi.nii.gz --mask mask.nii.gz --out dti",
            "arcuate dti dwi.mif --mask mask.mif --tensor-order mrtrix --out dti",
            "arcuate dti dwi.nii.gz --mask mask.nii.gz --robust --noise noise.nii.gz --out dti",
        ),
        ("OUT/fa md ad rd evals evecs diffusivity rmse, with --robust outliers, .nii.gz and .json each.",),
        _TENSOR,
    ),
    "dki": Manual(
        (
            "arcuate dki dwi.nii.gz --mask mask.nii.gz --out dki",
            "arcuate dki dwi.nii.gz --b-max 2500 --n-reweight 2 --out dki",
            "arcuate dki dwi.nii.gz --mask mask.nii.gz --wmti --out dki",
        ),
        (
            "OUT/mk ak rk kfa msk fa md ad rd diffusivity kurtosis, with --wmti awf da dead derd tort aligned, .nii.gz "
            "and .json each.",
        ),
        (
            "Jensen et al., Magn Reson Med 2005, https://doi.org/10.1002/mrm.20508; Tabesh et al., Magn Reson Med "
            "2011, https://doi.org/10.1002/mrm.22655 (constraints too); Fieremans et al., NeuroImage 2011, 58:177 "
            "(--wmti).",
        ),
    ),
    "freewater": Manual(
        (
            "arcuate freewater dwi.nii.gz --mask mask.nii.gz --out freewater",
            "arcuate freewater dwi.mif --mask mask.mif --tensor-order mrtrix --out freewater",
        ),
        ("OUT/fwf fa md ad rd diffusivity, .nii.gz and .json each.",),
        ("Hoy et al., NeuroImage 2014, 103:323.",),
    ),
    "noddi": Manual(
        (
            "arcuate noddi dwi.nii.gz --mask mask.nii.gz --out noddi",
            "arcuate noddi dwi.nii.gz --mask mask.nii.gz --no-refine --out noddi",
        ),
        ("OUT/icvf (NDI) odi isovf (FWF) direction rmse s0, .nii.gz and .json each.",),
        _NODDI,
    ),
    "response": Manual(
        (
            "arcuate response dwi.nii.gz --mask mask.nii.gz --out responses",
            "arcuate response dwi.mif --algorithm tournier --shell 2000 --out responses",
        ),
        ("OUT/wm.txt, and gm.txt and csf.txt of three tissues, in MRtrix3's form; the same as .json.",),
        (
            "tournier: Tournier, Calamante, Connelly, NMR Biomed 2013, https://doi.org/10.1002/nbm.3017; recursive: "
            "Tax et al., NeuroImage 2014, https://doi.org/10.1016/j.neuroimage.2013.07.067; dhollander: Dhollander et "
            "al., ISMRM Workshop 2016, and ISMRM 2019:555.",
        ),
    ),
    "fod": Manual(
        (
            "arcuate fod dwi.nii.gz --mask mask.nii.gz --response wm.txt --response gm.txt --response csf.txt "
            "--out fods",
            "arcuate fod dwi.mif --response wm.txt --shell 2000 --out fods",
        ),
        ("OUT/wm and the other tissues, .nii.gz and .json each.",),
        (f"One tissue: {_SINGLE_SHELL} Several: {_MULTI_TISSUE}",),
    ),
    "mtnormalise": Manual(
        (
            "arcuate mtnormalise fods/wm.nii.gz fods/gm.nii.gz fods/csf.nii.gz --mask mask.nii.gz --out norm",
            "arcuate mtnormalise fods/wm.nii.gz fods/csf.nii.gz --mask mask.nii.gz --order 2 --out norm",
        ),
        ("OUT/ the images under their own names, and field.nii.gz.",),
        ("Raffelt et al., ISMRM 2017:3541; Dhollander et al., ISMRM 2021:2472.",),
    ),
    "peaks": Manual(
        ("arcuate peaks fods/wm.nii.gz --out peaks.nii.gz", "arcuate peaks wm.mif peaks.mif --n-peaks 3 --all-maxima"),
        ("The image (x, y, z, 3 n) and a .json beside it.",),
        (_SINGLE_SHELL,),
    ),
    "fixels": Manual(
        (
            "arcuate fixels fods/wm.nii.gz --mask mask.nii.gz --out fixels",
            "arcuate fixels fods/wm.nii.gz --max-fixels 5 --peak-directions --out fixels",
        ),
        ("OUT/index directions afd peak disp, .nii each, as mrview reads them; fixels.json.",),
        ("Smith et al., NeuroImage 2013, https://doi.org/10.1016/j.neuroimage.2012.11.049.",),
    ),
    "tracts": Manual(
        (
            "arcuate tracts peaks.nii.gz --out tracts",
            "arcuate tracts peaks.nii.gz --output-type endings_segmentation --device cuda --out endings",
        ),
        ("OUT/ an image per tract under TractSeg's name, and all of them in one.",),
        (
            "Wasserthal, Neher, Maier-Hein, NeuroImage 2018, https://doi.org/10.1016/j.neuroimage.2018.07.070.",
        ),
    ),
    "regions": Manual(
        (
            "arcuate regions fa.nii.gz md.nii.gz --labels atlas.nii.gz --out regions.tsv",
            "arcuate regions ndi=icvf.nii.gz --labels aparc.mgz --names freesurfer --mask mask.nii.gz --out ndi.tsv",
        ),
        ("A table, a row for each region and map; the .json beside it says what its columns mean.",),
    ),
    "harmonize": Manual(
        (
            "arcuate harmonize regions.tsv --covars people.tsv --batch site --continuous age --out harmonised.tsv",
            "arcuate harmonize --covars people.tsv --batch site --mask mask.nii.gz --save-model m.npz --out maps",
        ),
        ("The table, or OUT/ the maps under their own names.",),
        (
            "Johnson, Li, Rabinovic, Biostatistics 2007, https://doi.org/10.1093/biostatistics/kxj037; Fortin et al., "
            "NeuroImage 2017, https://doi.org/10.1016/j.neuroimage.2017.08.047.",
        ),
    ),
    "structural": Manual(
        (
            "arcuate structural T1w.nii.gz --out t1",
            "arcuate structural T1w.nii.gz --mask brain.nii.gz --no-bias --out t1",
        ),
        ("OUT/T1w mask dseg probseg_..., .nii.gz each with a .json beside it.",),
        (
            "Tustison et al., IEEE Trans Med Imaging 2010, https://doi.org/10.1109/TMI.2010.2046908; Avants et al., "
            "Neuroinformatics 2011, https://doi.org/10.1007/s12021-011-9109-y.",
        ),
    ),
    "register": Manual(
        (
            "arcuate register --fixed T1w.nii.gz --moving sub-01_dwi.nii.gz --out dwi-to-t1",
            "arcuate register --fixed template.nii.gz --moving fa.nii.gz --out fa-to-template --warped warped.nii.gz",
        ),
        (
            "OUT/ the transform in files that ANTs reads; OUT/registration.html, pictures of both images before and "
            "after; the moving image on the fixed grid with --warped.",
        ),
        ("Avants et al., Med Image Anal 2008, https://doi.org/10.1016/j.media.2007.06.004.",),
    ),
    "apply": Manual(
        (
            "arcuate apply fa.nii.gz --reference T1w.nii.gz --transform dwi-to-t1 --out fa_in_t1.nii.gz",
            "arcuate apply atlas.nii.gz --reference fa.nii.gz --transform fa-to-template --inverse --out labels.nii.gz",
        ),
        ("The image on the grid of the reference, and a .json beside it.",),
        ("Tensors: Alexander et al., IEEE Trans Med Imaging 2001, https://doi.org/10.1109/42.963816.",),
    ),
    "template": Manual(
        (
            "arcuate template sub-*/fa.nii.gz --out template",
            "arcuate template sub-*/fa.nii.gz --iterations 2 --out template",
        ),
        (
            "OUT/NAME_template.nii.gz, a folder with the transform of each subject; OUT/template.html, pictures.",
        ),
        ("Avants et al., NeuroImage 2010, https://doi.org/10.1016/j.neuroimage.2009.09.062.",),
    ),
    "report": Manual(
        ("arcuate report derivatives", "arcuate report derivatives --quiet"),
        ("DIR/sub-01.html for each scan that `arcuate run` wrote there.",),
    ),
    "fetch": Manual(
        (
            "arcuate fetch",
            "arcuate fetch stanford_hardi --to data",
            "arcuate fetch tpl-MNI152NLin2009cAsym_res-01_atlas-Schaefer2018_desc-400Parcels7Networks_dseg.nii.gz",
        ),
        ("The files of the set, checked against their digests; of an atlas also the table of its names.",),
    ),
    "compile": Manual(
        ("arcuate compile", "arcuate compile --folder /opt/kernels --cpu haswell"),
        ("Kernels, where numba keeps them or in --folder.",),
    ),
    "cache ls": Manual(("arcuate cache ls derivatives", "arcuate cache ls --cache derivatives/.arcuate-cache")),
    "cache why": Manual(("arcuate cache why estimate_dti derivatives", "arcuate cache why find_brain --cache out")),
    "cache gc": Manual(("arcuate cache gc derivatives --keep-days 30", "arcuate cache gc --max-size 10GB --dry-run")),
    "completion": Manual(("arcuate completion bash >> ~/.bashrc", "arcuate completion zsh >> ~/.zshrc")),
}  # fmt: skip
