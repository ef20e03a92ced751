# %% [markdown]
# # From the T1 to regions of the scan
#
# Labels are drawn on the T1 image; numbers are wanted where the diffusion scan was measured. So the scan is registered
# to the T1, and the labels brought back by the inverse. Registration, bias correction and tissues are those of ANTs:
# `pip install 'arcuate[ants]'`.

# %%
import numpy as np
from example import out_folder, show

from arcuate import (
    Dwi,
    InMemoryVolumeResource,
    StructuralImage,
    make_phantom,
    three_shell_gradients,
)
from arcuate.figures.plotting import Panel, plot_maps
from arcuate.regions import region_table
from arcuate.registration import register_dwi_to_structural

# %% [markdown]
# A phantom head; its T1 has the shading of a coil, and lies elsewhere: the head moved between the two.

# %%
head = make_phantom(
    three_shell_gradients(n_b0=2, bvals=(1000, 2500), n_directions=20),
    shape=(42, 50, 38),
    voxel_size=4.0,
    snr=40,
)
dwi = Dwi.from_arrays(head.signal, head.affine, head.gradients)
angle = np.radians(6)
moved = np.array(
    [
        [np.cos(angle), -np.sin(angle), 0, 4],
        [np.sin(angle), np.cos(angle), 0, -3],
        [0, 0, 1, 5],
        [0, 0, 0, 1],
    ]
)
contrast = 100 * (head.tissue @ [1.0, 0.62, 0.22])
points = (
    np.indices(contrast.shape).reshape(3, -1).T @ head.affine[:3, :3].T
    + head.affine[:3, 3]
)
shading = np.exp(points @ [0.006, 0.004, -0.003]).reshape(contrast.shape)
contrast += np.abs(np.random.default_rng(0).normal(0, 1, contrast.shape))
t1 = StructuralImage(
    InMemoryVolumeResource((contrast * shading).astype(np.float32), moved @ head.affine)
)
parcellation = InMemoryVolumeResource(head.label_image, moved @ head.affine)

# %% [markdown]
# N4 takes the shading out; Atropos tells the tissues: 1 CSF, 2 grey matter, 3 white matter. For a real head the mask is
# that of `t1.extract_brain()`. The parcellation is that of FastSurfer, FreeSurfer or SynthSeg, read with
# `arcuate.io.labels.read_image("aparc+aseg.mgz")`; here the phantom brings its own.

# %%
flat = t1.correct_bias()
t1_mask = InMemoryVolumeResource(head.brain_mask.astype(np.uint8), moved @ head.affine)
tissues = flat.segment_tissues(mask=t1_mask)
white = head.tissue[..., 0] > 0.99
for name, image in (("as measured", t1), ("corrected", flat)):
    values = image.volume.get_array()[white]
    print(
        f"white matter {name}: sd {100 * values.std() / values.mean():.1f} % of the mean"
    )

# %% [markdown]
# One session, so a rigid transform; masks are not needed, and are given of both images or of none. Its inverse brings
# labels to the scan, as labels: no value between two of them.

# %%
transform = register_dwi_to_structural(dwi, flat, "Rigid")
b0 = dwi.compute_mean_b0()
labels = transform.inverse.apply(parcellation, b0, interpolation="label")
in_scan = transform.inverse.apply(tissues, b0, interpolation="label")
same = (labels.get_array() == head.label_image)[head.label_image > 0].mean()
print(f"{100 * same:.1f} % of the voxels have their true label")

# %% [markdown]
# The table: a row for each region and map.

# %%
fa, md = dwi.estimate_dti(
    mask=InMemoryVolumeResource(head.brain_mask, head.affine)
).get_fa_md()
table = region_table({"fa": fa, "md": md}, labels, list(head.labels))
table.save(out_folder() / "regions.tsv")
truth = region_table(
    {"fa": fa}, InMemoryVolumeResource(head.label_image, head.affine), list(head.labels)
)
known = {row["region"]: row["mean"] for row in truth.rows}
off = [
    abs(row["mean"] / known[row["region"]] - 1)
    for row in table.rows
    if row["map"] == "fa" and row["voxels"] > 50
]
print(
    f"means of FA differ from those in the true regions by {100 * np.median(off):.2f} % (median)"
)

# %%
warped = transform.apply(b0, flat.volume)
show(
    plot_maps(
        [
            Panel(flat.volume.get_array(), "T1, corrected", "gray"),
            Panel(warped.get_array(), "b = 0 in its space", "gray"),
            Panel(tissues.get_array(), "tissues", "tab20"),
        ],
        moved @ head.affine,
    ),
    "t1_and_regions",
)

# %% [markdown]
# On the command line: `arcuate structural`, `arcuate register`, `arcuate apply --inverse --interpolation label`, and
# `arcuate run --atlas LABELS --scan-to-atlas TRANSFORM`, which ends with the table.
