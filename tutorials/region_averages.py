# %% [markdown]
# # Averages over regions
#
# Many studies end in a table: one row per region, one column per measure. All that is needed is an image of labels on
# the grid of the scan: 0 outside, 1, 2, 3 ... inside the regions.

# %%
import csv

import numpy as np
from example import get_example, out_folder, show

from arcuate import InMemoryVolumeResource
from arcuate.figures.plotting import Panel, plot_maps

example = get_example()
dwi = example.dwi.denoise()
affine = dwi.volume.get_affine()
mask = dwi.extract_brain(method=example.mask_method)
dti = dwi.estimate_dti(mask=mask)
fa, md = dti.get_fa_md()
maps = {"fa": fa.get_array(), "md": md.get_array()}
if len(dwi.gradients.shells) > 1:
    noddi = dwi.estimate_noddi(mask=mask)
    maps |= {
        "ndi": noddi.ndi.get_array(),
        "odi": noddi.odi.get_array(),
        "fwf": noddi.fwf.get_array(),
    }

# %% [markdown]
# The phantom brings its labels. For a scan of yours, read them with `NiftiVolumeResource("labels.nii.gz")`: from an
# atlas that was brought to the scan, with nearest neighbours, or from a segmentation. For the public scans, which have
# none, three classes by FA and MD stand in.

# %%
labels, names = example.labels, example.names
if labels is None:
    classes = np.where(maps["md"] > 1.5e-3, 3, np.where(maps["fa"] > 0.3, 1, 2)) * (
        mask.get_array() > 0
    )
    labels = InMemoryVolumeResource(classes.astype(np.uint8), affine)
    names = ("high_fa", "low_fa", "fluid")

# %% [markdown]
# Labels and maps must lie on one grid: the same shape, and the same affine. A label image of another grid would give
# numbers, too, and wrong ones.

# %%
assert labels.shape == fa.shape, f"labels {labels.shape}, maps {fa.shape}"
np.testing.assert_allclose(labels.get_affine(), affine, atol=1e-3)

# %% [markdown]
# A voxel counts where it was fitted: the status of the tensor says so. Voxels at the border of the mask hold part of
# something else; a median is less moved by them than a mean.

# %%
fitted = (dti.status.get_array() == 1) & (mask.get_array() > 0)
at = labels.get_array()
rows = []
for index, name in enumerate(names, start=1):
    inside = (at == index) & fitted
    if inside.sum() < 10:
        continue
    row = {"region": name, "voxels": int(inside.sum())}
    for measure, array in maps.items():
        row[f"{measure}_mean"] = float(array[inside].mean())
        row[f"{measure}_median"] = float(np.median(array[inside]))
    rows.append(row)

path = out_folder() / "regions.csv"
with path.open("w", newline="") as stream:
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)

# %%
columns = ["fa_median", "md_median"] + (
    ["ndi_median", "odi_median"] if "ndi" in maps else []
)
print(f"{'region':28s}{'voxels':>8s}" + "".join(f"{column:>12s}" for column in columns))
for row in rows:
    numbers = "".join(
        f"{row[column]:12.2e}" if "md" in column else f"{row[column]:12.3f}"
        for column in columns
    )
    print(f"{row['region']:28s}{row['voxels']:8d}{numbers}")

# %%
show(
    plot_maps(
        [Panel(at, "label", "tab20"), Panel(maps["fa"], "FA", limits=(0, 1))], affine
    ),
    "regions",
)

# %% [markdown]
# MD is in mm²/s. The table is `regions.csv` in the output folder.
