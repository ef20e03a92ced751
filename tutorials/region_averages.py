# %% [markdown]
# # Averages over regions
#
# Many studies end in a table: one row per region, one column per measure. All that is needed is an image of labels on
# the grid of the scan: 0 outside, 1, 2, 3 ... inside the regions.

# %%
import numpy as np
from example import get_example, out_folder, show

from arcuate import InMemoryVolumeResource
from arcuate.figures.plotting import Panel, plot_maps
from arcuate.regions import region_table

example = get_example()
dwi = example.dwi
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
# `region_table` gives a row for each region and map: mean, standard deviation, median, a robust mean, percentiles,
# voxels and volume. Labels of another grid are refused: they would give numbers, too, and wrong ones. A voxel counts
# where it was fitted: the status of the tensor says so. NDI and ODI are weighted by tissue, 1 - FWF.

# %%
volumes = {name: InMemoryVolumeResource(array, affine) for name, array in maps.items()}
table = region_table(volumes, labels, list(names), mask=mask, status=dti.status)
table.save(out_folder() / "regions.tsv")

# %%
columns = ["fa", "md"] + (["ndi", "odi"] if "ndi" in maps else [])
median = {
    (row["region"], row["map"]): row["median"]
    for row in table.rows
    if row["voxels"] >= 10
}
print(f"{'region':28s}" + "".join(f"{column:>12s}" for column in columns))
for name in names:
    if (name, "fa") in median:
        numbers = "".join(
            f"{median[name, c]:12.2e}" if c == "md" else f"{median[name, c]:12.3f}"
            for c in columns
        )
        print(f"{name:28s}{numbers}")

# %%
show(
    plot_maps(
        [
            Panel(labels.get_array(), "label", "tab20"),
            Panel(maps["fa"], "FA", limits=(0, 1)),
        ],
        affine,
    ),
    "regions",
)

# %% [markdown]
# MD is in mm²/s. The table is `regions.tsv` in the output folder; `regions.json` beside it says what each column is.
# `table.to_pandas()` gives a DataFrame. The command `arcuate regions` makes the same table from files.
