"""Brain masks by HD-BET 2, a network of nnU-Net's, where its package and its weights are on the machine.

Its checkpoint is a pickle, which HD-BET itself loads with whatever code it holds. Here only tensors, plain containers
and numpy's numbers are read from it, the plans may name classes of torch and of dynamic_network_architectures alone,
and every tensor is checked against the network that they describe.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from arcuate.errors import InputError, MissingExtraError
from arcuate.fetch.checksums import checksum_of
from arcuate.fetch.weights import HD_BET_FILES
from arcuate.nets.inference import infers
from arcuate.nets.unet import choose_device

PURPOSE = "the mask method hdbet"
PACKAGES = ("torch", "nnunetv2", "dynamic_network_architectures")
_AGAIN = "fetch the weights again (arcuate fetch hd-bet)"


def is_installed() -> bool:
    """Whether nnU-Net is there, which the package hd-bet brings; nothing is imported."""
    return all(importlib.util.find_spec(name) is not None for name in PACKAGES)


@dataclass(frozen=True)
class NnunetBrainNetwork:
    """HD-BET 2, read when first needed.

    Parameters
    ----------
    folder : holds dataset.json, plans.json and fold_all/checkpoint_final.pth
    has_augmentation : average over the eight mirror images, eight times slower
    device : "auto", "cpu", "cuda"
    """

    folder: Path
    has_augmentation: bool = False
    device: str = "auto"
    axes: ClassVar[str] = "LAS"  # as templates are stored, to which HD-BET asks to reorient

    @property
    def facts(self) -> dict[str, Any]:
        """What decides the mask, for the sidecar and the cache."""
        digests = {name: checksum_of(self.folder / name) for name in HD_BET_FILES}
        return {"Network": "HD-BET 2", "Weights": digests, "Augmentation": self.has_augmentation}

    @cached_property
    def _predictor(self) -> Any:
        device = choose_device(self.device, "hdbet", PURPOSE)
        if not is_installed():
            raise MissingExtraError("nnunetv2", "hdbet", PURPOSE)
        plans, dataset = (_read_json(self.folder / name) for name in ("plans.json", "dataset.json"))
        checkpoint = _read_checkpoint(self.folder / HD_BET_FILES[-1])
        with contextlib.redirect_stdout(io.StringIO()):
            return _predictor(plans, dataset, checkpoint, device, self.has_augmentation)

    @infers
    def find_brain(self, head: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
        """Mask (z, y, x) bool of a head.

        Parameters
        ----------
        head : (z, y, x) float, finite; x runs to the left, y to the front, z up
        spacing : mm along z, y, x
        """
        image = np.ascontiguousarray(head, dtype=np.float32)[None]
        with contextlib.redirect_stdout(io.StringIO()):
            found = self._predictor.predict_single_npy_array(image, {"spacing": list(spacing)})
        return np.asarray(found) > 0


def _predictor(
    plans: dict[str, Any], dataset: dict[str, Any], checkpoint: dict[str, Any], device: str, has_augmentation: bool
) -> Any:
    import nnunetv2
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    configuration = manager.get_configuration(checkpoint["init_args"]["configuration"])
    named = [configuration.network_arch_class_name]
    arguments = configuration.network_arch_init_kwargs
    named += [arguments[key] for key in configuration.network_arch_init_kwargs_req_import if arguments[key] is not None]
    foreign = [n for n in named if not str(n).startswith(("torch.nn.", "dynamic_network_architectures."))]
    if foreign:
        raise InputError(f"HD-BET's plans.json names {', '.join(foreign)}, which is no part of a network; {_AGAIN}.")
    trainers = Path(nnunetv2.__path__[0]) / "training" / "nnUNetTrainer"
    trainer = recursive_find_python_class(
        str(trainers), checkpoint["trainer_name"], "nnunetv2.training.nnUNetTrainer"
    )  # fmt: skip
    if trainer is None:
        raise InputError(
            f"HD-BET's checkpoint was trained by {checkpoint['trainer_name']!r}, which the installed nnunetv2 does not "
            "know; install the version that HD-BET asks for: pip install hd-bet."
        )
    network = trainer.build_network_architecture(
        named[0], arguments, configuration.network_arch_init_kwargs_req_import,
        determine_num_input_channels(manager, configuration, dataset),
        manager.get_label_manager(dataset).num_segmentation_heads, enable_deep_supervision=False,
    )  # fmt: skip
    weights = checkpoint["network_weights"]
    try:
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        said = str(error).splitlines()[-1].strip()
        raise InputError(f"HD-BET's checkpoint does not fit its plans.json ({said}); {_AGAIN}.") from error
    bad = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise InputError(f"HD-BET's checkpoint: the tensor {bad[0]} is not finite; {_AGAIN}.")
    predictor = nnUNetPredictor(
        tile_step_size=0.5, use_gaussian=True, use_mirroring=has_augmentation, device=torch.device(device),
        perform_everything_on_device=device != "cpu", allow_tqdm=False,
    )  # fmt: skip
    mirrored = checkpoint.get("inference_allowed_mirroring_axes")
    predictor.manual_initialization(
        network, manager, configuration, [weights], dataset, checkpoint["trainer_name"], mirrored
    )
    return predictor


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON file; {_AGAIN}.") from error
    return dict(content)


def _read_checkpoint(path: Path) -> dict[str, Any]:
    """Contents of a checkpoint of nnU-Net's, no code from the file run."""
    import torch

    kinds = [type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]
    scalar = np.float64(0).__reduce__()[0]  # how numpy's numbers are pickled; older versions called it numpy.core
    allowed: list[Any] = [np.dtype, *kinds, scalar, (scalar, "numpy.core.multiarray.scalar")]
    try:
        with torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=True)
        content["network_weights"], content["trainer_name"], content["init_args"]["configuration"]
    except OSError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} is no checkpoint of HD-BET 2 ({type(error).__name__}; nothing but tensors and numbers is read). "
            f"If its download broke off, remove it and {_AGAIN}."
        ) from error
    return dict(content)
