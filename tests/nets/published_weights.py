"""Weights in the form in which TractSeg publishes them, filled with random numbers that are the same everywhere.

Shared by the tests and by ``scripts/make_tractseg_golden.py``, which gives them to TractSeg itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

N_FILTERS = 64
N_CHANNELS = 9
BLOCKS = (  # name, input channels and output channels in units of the filters, kernel
    ("contr_1_2", 1, 1), ("contr_2_1", 1, 2), ("contr_2_2", 2, 2), ("contr_3_1", 2, 4), ("contr_3_2", 4, 4),
    ("contr_4_1", 4, 8), ("contr_4_2", 8, 8), ("encode_1", 8, 16), ("encode_2", 16, 16), ("expand_1_1", 24, 8),
    ("expand_1_2", 8, 8), ("expand_2_1", 12, 4), ("expand_2_2", 4, 4), ("expand_3_1", 6, 2), ("expand_3_2", 2, 2),
    ("expand_4_1", 3, 1), ("expand_4_2", 1, 1),
)  # fmt: skip
DECONVOLUTIONS = (("deconv_1", 16), ("deconv_2", 8), ("deconv_3", 4), ("deconv_4", 2))
OUTPUTS = (("output_2", 12), ("output_3", 6), ("conv_5", 1))


VECTORS = 1 / 32  # scale of the outputs of orientation maps: brings their vectors to the length of about 1


def make_weights(n_classes: int, seed: int, n_filters: int = N_FILTERS, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Tensors by their published names, scaled so that activations keep their size through the network.

    ``scale`` multiplies what comes out.
    """
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}

    def add(name: str, shape: tuple[int, ...], fan_in: int, n_out: int, gain: float = 2.0) -> None:
        weight = rng.standard_normal(shape, dtype=np.float32)
        weight *= np.float32(np.sqrt(gain / fan_in))
        weights[f"{name}.weight"] = weight
        weights[f"{name}.bias"] = np.float32(0.05) * rng.standard_normal(n_out, dtype=np.float32)

    f = n_filters
    add("contr_1_1.0", (f, N_CHANNELS, 3, 3), 9 * N_CHANNELS, f)
    for name, n_in, n_out in BLOCKS:
        add(f"{name}.0", (n_out * f, n_in * f, 3, 3), 9 * n_in * f, n_out * f)
    for name, n in DECONVOLUTIONS:
        add(f"{name}.0", (n * f, n * f, 2, 2), n * f, n * f)
    for name, n in OUTPUTS:
        add(name, (n_classes, n * f, 1, 1), n * f, n_classes, gain=1.0)
        for kind in ("weight", "bias"):
            weights[f"{name}.{kind}"] *= np.float32(scale)
    return weights


def write_weights(path: Path, n_classes: int, seed: int, n_filters: int = N_FILTERS, scale: float = 1.0) -> Path:
    """A weight file as published: a state dictionary under the key "unet", written by torch, named .npz."""
    import torch

    state = {name: torch.from_numpy(array) for name, array in make_weights(n_classes, seed, n_filters, scale).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"unet": state}, str(path))
    return path
