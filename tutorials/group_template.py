# %% [markdown]
# # The mean head of a group
#
# A template is a head in the mean shape of its subjects, with their mean contrast: the space in which their maps are
# compared. It is built in rounds: each subject is registered to the template, their images are averaged, and the
# average is moved towards their mean shape. Registration is that of ANTs: `pip install 'arcuate[ants]'`.

# %%
import numpy as np
from example import out_folder, show

from arcuate import Dwi, InMemoryVolumeResource, make_phantom, three_shell_gradients
from arcuate.figures.plotting import Panel, plot_maps
from arcuate.io import NiftiVolumeResource
from arcuate.registration import TransformResource, register_volumes
from arcuate.templates import (
    average_volumes,
    build_multi_metric_template,
    build_template,
)
from arcuate.volumes.transforms import Displacement

# %% [markdown]
# Three subjects: one phantom head under three smooth fields that add up to nothing, so that the true mean shape is that
# of the head itself.

# %%
shape = (32, 38, 28)
head = make_phantom(
    three_shell_gradients(n_b0=2, bvals=(1000,), n_directions=20),
    shape=shape,
    voxel_size=6.0,
    snr=50,
)
scan = Dwi.from_arrays(head.signal, head.affine, head.gradients)
points = np.indices(shape).reshape(3, -1).T @ head.affine[:3, :3].T + head.affine[:3, 3]


def wave(seed: int) -> np.ndarray:
    """A smooth displacement, (x, y, z, 3) mm."""
    rng = np.random.default_rng(seed)
    k = rng.normal(size=(3, 3)) * 0.035
    return (10 * np.sin(points @ k.T + rng.uniform(0, 6, 3))).reshape(*shape, 3)


one, other = wave(1), wave(2)
fas, mds = [], []
mask = InMemoryVolumeResource(head.brain_mask.astype(np.uint8), head.affine)
for shift in (one, other, -one - other):
    field = TransformResource.of(Displacement(shift, head.affine))
    subject = Dwi(field.apply(scan.volume, scan.volume), scan.bval, scan.bvec)
    fa, md = subject.estimate_dti(mask=field.apply(mask, mask, "nearest")).get_fa_md()
    fas.append(fa)
    mds.append(md)

# %% [markdown]
# The plain mean is blurred. A round of registration sharpens it, a second one starts from there.

# %%
plain = average_volumes(fas, normalize=False)
first = build_template(fas, initial_template=plain, iterations=1)
template = build_template(fas, initial_template=first, iterations=1)
for name, image in (
    ("plain mean", plain),
    ("one round", first),
    ("two rounds", template),
):
    values = image.get_array()[head.brain_mask]
    print(
        f"{name:12s} {np.corrcoef(values, head.fa[head.brain_mask])[0, 1]:.3f} like the true mean head"
    )

# %% [markdown]
# Several maps can be registered together: the first leads the affine part, all of them the warp.

# %%
both = build_multi_metric_template(
    [{"fa": fa, "md": md} for fa, md in zip(fas, mds, strict=True)],
    initial_template={"fa": first, "md": average_volumes(mds, normalize=False)},
    weights={"fa": 1.0, "md": 1.0},
    iterations=1,
)
for name, image in both.items():
    NiftiVolumeResource.save(image, out_folder() / f"{name}_template.nii.gz")

# %%
show(
    plot_maps(
        [
            Panel(plain.get_array(), "plain mean", limits=(0, 0.8)),
            Panel(template.get_array(), "template", limits=(0, 0.8)),
            Panel(both["fa"].get_array(), "of FA and MD", limits=(0, 0.8)),
            Panel(head.fa, "true mean head", limits=(0, 0.8)),
        ],
        head.affine,
    ),
    "group_template",
)

# %% [markdown]
# A subject's other maps follow by the transform of one.

# %%
_, transform = register_volumes(template, fas[0], "SyN")
in_template = transform.apply(mds[0], template)
print("MD in the template:", in_template.shape)
transform.save(out_folder() / "sub-1_to_template")

# %% [markdown]
# `arcuate template sub-*/fa.nii.gz --metric md --out template` is the same on the command line; it also writes the
# transform of each subject. FODs are averaged with `arcuate.templates.build_fod_template`, turned along.
