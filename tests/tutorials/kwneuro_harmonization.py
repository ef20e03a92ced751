"""The calls of kwneuro's tutorial on harmonisation, on maps with effects of three sites: only the imports differ.

``python kwneuro_harmonization.py OUT``
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from arcuate.harmonize import harmonize_volumes
from arcuate.io import NiftiVolumeResource
from arcuate.resource import InMemoryVolumeResource

out = Path(sys.argv[1])
rng = np.random.default_rng(7)
shape, n_per_site = (12, 14, 9), 8
scanners = {"north": (0.0, 1.0), "south": (0.12, 1.3), "west": (-0.08, 0.75)}
truth = np.linspace(0.2, 0.6, shape[1])[None, :, None] * np.ones(shape)
inside = np.zeros(shape, dtype=np.int8)
inside[2:10, 2:12, 2:7] = 1
mask = InMemoryVolumeResource(array=inside, affine=np.eye(4), metadata={})

volumes, site, ages = [], [], []
for name, (shift, scale) in scanners.items():
    for _ in range(n_per_site):
        age = rng.uniform(20, 80)
        values = (truth + 0.002 * age + rng.normal(0, 0.015, shape)) * scale + shift
        volumes.append(InMemoryVolumeResource(array=values, affine=np.eye(4), metadata={}))
        site.append(name)
        ages.append(age)
try:
    import pandas as pd
except ImportError:  # columns by name do as well
    covars = {"site": site, "age": ages}
else:
    covars = pd.DataFrame({"site": site, "age": ages})

harmonized, estimates = harmonize_volumes(volumes, covars, batch_col="site", mask=mask, continuous_cols=["age"])


def means(maps: list[InMemoryVolumeResource]) -> np.ndarray:
    return np.array([volume.get_array()[inside > 0].mean() for volume in maps])


def between_sites(values: np.ndarray) -> float:
    """Spread of the sites' means, age taken out."""
    rest = values - 0.002 * np.array(ages)
    return float(np.std([rest[np.array(site) == name].mean() for name in scanners]))


before, after = means(volumes), means(harmonized)
print(f"between sites before {between_sites(before):.4f} after {between_sites(after):.4f}")
print(f"slope of age {np.polyfit(ages, after, 1)[0]:.5f}")
print(f"correlation with age before {np.corrcoef(ages, before)[0, 1]:.3f} after {np.corrcoef(ages, after)[0, 1]:.3f}")
print("sites", *estimates.info["batch_levels"])
NiftiVolumeResource.save(harmonized[0], out / "harmonized.nii.gz")
