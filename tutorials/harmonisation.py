# %% [markdown]
# # Site effects out of maps
#
# Scanners shift and stretch what they measure. ComBat estimates both for each voxel and site, keeps what age, sex and
# the like explain, and takes the rest of the difference out. Here: maps of three sites whose effects are known.

# %%
import numpy as np
from example import out_folder, show

from arcuate import InMemoryVolumeResource
from arcuate.figures.plotting import Panel, plot_maps
from arcuate.harmonize import CombatEstimates, harmonize_volumes

rng = np.random.default_rng(0)
shape, n_per_site = (24, 28, 6), 10
effects = {"A": (0.0, 1.0), "B": (0.10, 1.3), "C": (-0.06, 0.8)}  # shift and stretch
x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
truth = 0.45 + 0.15 * np.cos(4 * x) * np.cos(3 * y)
inside = (x**2 + y**2 < 0.85).astype(np.uint8)
affine = np.diag([-2.0, 2, 2, 1])

volumes, sites, ages = [], [], []
for site, (shift, stretch) in effects.items():
    for _ in range(n_per_site):
        age = rng.uniform(20, 80)
        clean = truth - 0.002 * (age - 50)
        values = 0.45 + (clean + rng.normal(0, 0.02, shape) - 0.45) * stretch + shift
        volumes.append(InMemoryVolumeResource(values * inside, affine))
        sites.append(site)
        ages.append(age)
mask = InMemoryVolumeResource(inside, affine)

# %% [markdown]
# One row of covariates per map, in the order of the maps: a pandas DataFrame, columns by name, or the path of a table.
# `batch_col` names the site; what is listed as continuous or categorical keeps its effect.

# %%
covars = {"site": sites, "age": ages}
harmonized, estimates = harmonize_volumes(
    volumes, covars, batch_col="site", mask=mask, continuous_cols=["age"]
)

# %% [markdown]
# Means over the mask, by site, age taken out: the sites agree afterwards.


# %%
def rest(maps):
    """Mean of each map over the mask, without the known effect of age."""
    means = np.array([m.get_array()[inside > 0].mean() for m in maps])
    return means + 0.002 * (np.array(ages) - 50)


for name, maps in (("before", volumes), ("after", harmonized)):
    by_site = [rest(maps)[np.array(sites) == site].mean() for site in effects]
    print(f"{name:7s}", *(f"{mean:.3f}" for mean in by_site))

# %% [markdown]
# The effect of age was planted as -0.002 a year, and is still there.

# %%
after = [m.get_array()[inside > 0].mean() for m in harmonized]
print(f"effect of age {np.polyfit(ages, after, 1)[0]:.4f} a year")

# %%
picked = [sites.index(site) for site in effects]
show(
    plot_maps(
        [
            Panel(maps[i].get_array(), f"{sites[i]} {name}", limits=(0.2, 0.75))
            for name, maps in (("before", volumes), ("after", harmonized))
            for i in picked
        ],
        affine,
    ),
    "harmonisation",
)

# %% [markdown]
# What was learnt is kept, and applied to other subjects of the same sites.

# %%
path = estimates.save(out_folder() / "combat.npz")
again = CombatEstimates.load(path).apply_volumes(
    volumes[:3], {"site": sites[:3], "age": ages[:3]}
)
print("same:", np.allclose(again[0].get_array(), harmonized[0].get_array(), atol=1e-6))

# %% [markdown]
# For numbers of regions, `arcuate.harmonize.harmonize_table` does the same on the table that `arcuate cohort` ends
# with; `arcuate harmonize` on the command line does both.
