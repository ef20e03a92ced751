# %% [markdown]
# # A step of your own in a cached pipeline
#
# Any function that depends on its arguments alone can be a cached step. Here: an image, kept where FA is high.

# %%
import numpy as np
from example import get_example, out_folder, show

from arcuate import Cache, InMemoryVolumeResource, VolumeResource, cacheable
from arcuate.figures.plotting import Panel, plot_maps

example = get_example()
dwi = example.dwi
folder = out_folder() / "custom-cache"


# %% [markdown]
# `@cacheable` is all it takes. Without a version the step is known by its own code: edit the function, and its former
# results are not taken any more. With `@cacheable(version=1)` you raise the number when the numbers change.


# %%
@cacheable
def bright_where_coherent(
    image: VolumeResource, fa: VolumeResource, threshold: float = 0.3
) -> VolumeResource:
    """``image`` where FA is above the threshold, 0 elsewhere."""
    print("  computing bright_where_coherent")
    kept = np.where(fa.get_array() > threshold, image.get_array(), 0).astype(np.float32)
    return InMemoryVolumeResource(kept, image.get_affine(), image.get_metadata())


def run(threshold: float) -> VolumeResource:
    """Mask, tensor, and the new step."""
    mask = dwi.extract_brain(method=example.mask_method)
    fa, _ = dwi.estimate_dti(mask=mask).get_fa_md()
    return bright_where_coherent(dwi.compute_mean_b0(), fa, threshold=threshold)


# %% [markdown]
# Outside a cache this is the plain function. Inside, the second call finds the result of the first.

# %%
with Cache(folder) as cache:
    print("first run")
    kept = run(0.3)
    print("second run")
    again = run(0.3)
    print("same bits:", np.array_equal(kept.get_array(), again.get_array()))
    print(cache.status([bright_where_coherent]))

# %% [markdown]
# Another threshold is another result; going back finds the first one.

# %%
with Cache(folder):
    print("threshold 0.5")
    run(0.5)
    print("threshold 0.3")
    run(0.3)

# %% [markdown]
# `force` computes a step anew, and only that one.

# %%
with Cache(folder, force={"bright_where_coherent"}):
    print("forced")
    run(0.3)

# %%
print(
    *sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")),
    sep="\n",
)

# %%
show(
    plot_maps([Panel(kept.get_array(), "b=0 where FA > 0.3")], dwi.volume.get_affine()),
    "custom_step",
)

# %% [markdown]
# `arcuate cache ls --cache FOLDER` lists the results, `arcuate cache why STEP` says why a step was computed the last
# time, `arcuate cache gc` cleans up. What decides is on the page "The cache".
