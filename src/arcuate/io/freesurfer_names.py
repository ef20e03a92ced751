"""Names of the labels that FreeSurfer, FastSurfer and SynthSeg write: structures, and the cortex after DKT.

References
----------
Fischl et al., Whole brain segmentation. Neuron 33, 2002. Desikan et al., An automated labeling system for subdividing
the human cerebral cortex. NeuroImage 31, 2006. Klein & Tourville, 101 labeled brain images. Front. Neurosci. 6, 2012.
"""

from __future__ import annotations

_STRUCTURES = {  # left hemisphere, right hemisphere, name
    (2, 41): "Cerebral-White-Matter", (3, 42): "Cerebral-Cortex", (4, 43): "Lateral-Ventricle",
    (5, 44): "Inf-Lat-Vent", (7, 46): "Cerebellum-White-Matter", (8, 47): "Cerebellum-Cortex", (10, 49): "Thalamus",
    (11, 50): "Caudate", (12, 51): "Putamen", (13, 52): "Pallidum", (17, 53): "Hippocampus", (18, 54): "Amygdala",
    (26, 58): "Accumbens-area", (28, 60): "VentralDC", (30, 62): "vessel", (31, 63): "choroid-plexus",
}  # fmt: skip
_MIDLINE = {
    14: "3rd-Ventricle", 15: "4th-Ventricle", 16: "Brain-Stem", 24: "CSF", 72: "5th-Ventricle",
    77: "WM-hypointensities", 80: "non-WM-hypointensities", 85: "Optic-Chiasm", 251: "CC_Posterior",
    252: "CC_Mid_Posterior", 253: "CC_Central", 254: "CC_Mid_Anterior", 255: "CC_Anterior",
}  # fmt: skip
_CORTEX = (  # label minus 1000 (left) or 2000 (right)
    "unknown", "bankssts", "caudalanteriorcingulate", "caudalmiddlefrontal", "corpuscallosum", "cuneus", "entorhinal",
    "fusiform", "inferiorparietal", "inferiortemporal", "isthmuscingulate", "lateraloccipital", "lateralorbitofrontal",
    "lingual", "medialorbitofrontal", "middletemporal", "parahippocampal", "paracentral", "parsopercularis",
    "parsorbitalis", "parstriangularis", "pericalcarine", "postcentral", "posteriorcingulate", "precentral",
    "precuneus", "rostralanteriorcingulate", "rostralmiddlefrontal", "superiorfrontal", "superiorparietal",
    "superiortemporal", "supramarginal", "frontalpole", "temporalpole", "transversetemporal", "insula",
)  # fmt: skip

FREESURFER_NAMES: dict[int, str] = dict(
    sorted(
        {
            **{label: f"{side}-{name}" for both, name in _STRUCTURES.items()
               for label, side in zip(both, ("Left", "Right"), strict=True)},
            **_MIDLINE,
            **{first + k: f"ctx-{side}-{name}" for first, side in ((1000, "lh"), (2000, "rh"))
               for k, name in enumerate(_CORTEX)},
        }.items()
    )
)  # fmt: skip
