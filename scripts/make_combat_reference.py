"""Reference results of ComBat by neuroCombat and neuroHarmonize, as a fixture of the tests.

Both bring requirements that arcuate does not share, so this runs in an environment of its own::

    python3.11 -m venv combat
    combat/bin/pip install numpy==1.23.5 pandas==1.5.3 scipy==1.10.1 statsmodels==0.14.0 nibabel==5.1.0 \\
        scikit-learn==1.3.2 neuroCombat==0.2.12 neuroHarmonize==2.4.5
    combat/bin/python scripts/make_combat_reference.py tests/golden/combat.npz

With numpy 2.4 the reference site fails in both, and learning on one set for another in neuroCombat.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
from neuroCombat import neuroCombat
from neuroHarmonize import harmonizationApply, harmonizationLearn

N_FEATURES, SITES, N_PER_SITE = 40, ("a", "b", "c"), (9, 12, 7)


def main(path: str) -> None:
    rng = np.random.default_rng(2017)
    site = np.repeat(SITES, N_PER_SITE)
    n = len(site)
    age = np.round(rng.uniform(20, 80, n), 1)  # neuroCombat rounds covariates to float32
    sex = rng.integers(0, 2, n)
    shift = rng.normal(0, 1, (len(SITES), N_FEATURES)) + np.array([0.0, 0.5, -0.4])[:, None]
    scale = rng.uniform(0.6, 1.6, (len(SITES), N_FEATURES))
    which = np.repeat(np.arange(len(SITES)), N_PER_SITE)
    biology = rng.normal(0, 0.01, N_FEATURES) * age[:, None] + rng.normal(0, 0.5, N_FEATURES) * sex[:, None]
    values = 5 + biology + shift[which] + scale[which] * rng.normal(0, 1, (n, N_FEATURES))
    covars = pd.DataFrame({"SITE": site, "age": age, "sex": sex})
    kept: dict[str, Any] = {"values": values, "site": site, "age": age, "sex": sex}
    kinds = {
        "default": {},
        "no_eb": {"eb": False},
        "non_parametric": {"parametric": False},
        "mean_only": {"mean_only": True},
        "reference_b": {"ref_batch": "b"},
    }
    for name, options in kinds.items():
        done = neuroCombat(
            dat=values.T, covars=covars, batch_col="SITE", categorical_cols=["sex"], continuous_cols=["age"], **options
        )
        kept[f"neurocombat_{name}"] = done["data"].T
    done = neuroCombat(dat=values.T, covars=covars[["SITE"]], batch_col="SITE")
    kept["neurocombat_no_covariates"] = done["data"].T
    is_learnt = np.arange(n) % 4 != 0
    model, learnt = harmonizationLearn(values[is_learnt], covars[is_learnt].reset_index(drop=True))
    applied = harmonizationApply(values[~is_learnt], covars[~is_learnt].reset_index(drop=True), model)
    kept |= {"is_learnt": is_learnt, "neuroharmonize_learnt": learnt, "neuroharmonize_applied": applied}
    _, kept["neuroharmonize_reference_b"] = harmonizationLearn(values, covars, ref_batch="b")
    np.savez_compressed(path, **kept)


if __name__ == "__main__":
    main(sys.argv[1])
