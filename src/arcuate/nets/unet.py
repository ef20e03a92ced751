"""TractSeg's U-Net: its published weights, checked tensor by tensor, and its forward pass."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arcuate.errors import InputError, MissingExtraError
from arcuate.nets.inference import check_stop

if TYPE_CHECKING:
    import torch

N_FILTERS = 64  # of the published networks
N_CHANNELS = 9
SLOPE = 0.01
PRECISIONS = ("float32", "bfloat16")
_LEVELS = 4


def require_torch(extra: str = "tractseg", purpose: str = "finding tracts") -> None:
    """Refuse where torch is not installed, without the seconds that its import takes."""
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("torch", extra, purpose)


def import_torch(extra: str = "tractseg", purpose: str = "finding tracts") -> Any:
    """torch, or an error that names the extra that brings it."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", extra, purpose) from error
    return torch


def choose_device(device: str, extra: str = "tractseg", purpose: str = "finding tracts") -> str:
    """The device behind a name: "auto" is a CUDA device where there is one, else the processor."""
    torch = import_torch(extra, purpose)
    has_cuda = bool(torch.cuda.is_available())
    if device == "auto":
        return "cuda" if has_cuda else "cpu"
    if device.startswith("cuda") and not has_cuda:
        raise InputError(f"found the device {device!r}; torch sees no CUDA device here. Give 'cpu' or 'auto'.")
    try:
        return str(torch.device(device))
    except RuntimeError as error:
        raise InputError(f"found the device {device!r}; expected auto, cpu, cuda, cuda:1 or the like.") from error


def weight_shapes(n_classes: int, n_filters: int = N_FILTERS) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the network, by its published name."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add(name: str, n_in: int, n_out: int, kernel: int, *, is_up: bool = False) -> None:
        shapes[f"{name}.weight"] = (*((n_in, n_out) if is_up else (n_out, n_in)), kernel, kernel)
        shapes[f"{name}.bias"] = (n_out,)

    width = [n_filters * 2**i for i in range(_LEVELS + 1)]
    previous = N_CHANNELS
    for level in range(_LEVELS):
        add(f"contr_{level + 1}_1.0", previous, width[level], 3)
        add(f"contr_{level + 1}_2.0", width[level], width[level], 3)
        previous = width[level]
    add("encode_1.0", width[-2], width[-1], 3)
    add("encode_2.0", width[-1], width[-1], 3)
    for step in range(1, _LEVELS + 1):
        below, here = width[_LEVELS + 1 - step], width[_LEVELS - step]
        add(f"deconv_{step}.0", below, below, 2, is_up=True)
        add(f"expand_{step}_1.0", below + here, here, 3)
        add(f"expand_{step}_2.0", here, here, 3)
    add("output_2", width[3] + width[2], n_classes, 1)
    add("output_3", width[2] + width[1], n_classes, 1)
    add("conv_5", width[0], n_classes, 1)
    return shapes


@dataclass(frozen=True, eq=False)
class UNet:
    """A network ready to be used.

    Parameters
    ----------
    weights : tensors by their published names, on the device
    n_classes : channels that come out
    upsampling : "bilinear" (segmentations) or "nearest" (orientation maps)
    has_sigmoid : whether the output is a probability
    """

    weights: dict[str, torch.Tensor]
    n_classes: int
    upsampling: str
    has_sigmoid: bool
    device: str
    precision: str

    def __call__(self, slices: np.ndarray) -> torch.Tensor:
        """Output (n, n_classes, height, width) float32, on the device, for slices (n, 9, height, width) float32."""
        import torch

        with torch.inference_mode():
            x = torch.from_numpy(slices).to(self.device, getattr(torch, self.precision))
            out = self._forward(x.contiguous(memory_format=torch.channels_last)).float()
            return out.sigmoid_() if self.has_sigmoid else out

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        import torch
        from torch.nn import functional

        def convolve(name: str, x: torch.Tensor) -> torch.Tensor:
            check_stop()
            weight, bias = self.weights[f"{name}.0.weight"], self.weights[f"{name}.0.bias"]
            return functional.leaky_relu_(functional.conv2d(x, weight, bias, padding=1), SLOPE)

        def rise(step: int, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
            weight, bias = self.weights[f"deconv_{step}.0.weight"], self.weights[f"deconv_{step}.0.bias"]
            up = functional.leaky_relu_(functional.conv_transpose2d(x, weight, bias, stride=2), SLOPE)
            return torch.cat([up, skip], 1)

        def score(name: str, x: torch.Tensor) -> torch.Tensor:
            return functional.conv2d(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

        def double(x: torch.Tensor) -> torch.Tensor:
            if self.upsampling == "nearest":
                return functional.interpolate(x, scale_factor=2, mode="nearest")
            return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

        skips = []
        for level in range(1, _LEVELS + 1):
            x = convolve(f"contr_{level}_2", convolve(f"contr_{level}_1", x))
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = convolve("encode_2", convolve("encode_1", x))
        scores = None
        for step in range(1, _LEVELS + 1):
            joined = rise(step, x, skips.pop())
            if step == 2:
                scores = double(score("output_2", joined))
            elif step == 3:
                scores = double(scores + score("output_3", joined))
            x = convolve(f"expand_{step}_2", convolve(f"expand_{step}_1", joined))
        return score("conv_5", x).add_(scores)


def load_unet(
    path: Path,
    n_classes: int,
    *,
    upsampling: str = "bilinear",
    has_sigmoid: bool = True,
    device: str = "cpu",
    precision: str = "float32",
) -> UNet:
    """Network with the weights at ``path``, every tensor checked against the width of the first.

    Raises
    ------
    InputError
        The file is no weight file, or belongs to another network; or an unknown precision.
    """
    if precision not in PRECISIONS:
        raise InputError(f"found the precision {precision!r}; expected one of {', '.join(PRECISIONS)}.")
    torch = import_torch()
    state = _read_state(Path(path))
    _check(state, weight_shapes(n_classes, _width(state)), Path(path))
    dtype = getattr(torch, precision)
    weights = {}
    for name in list(state):
        tensor = state.pop(name).to(device, dtype)
        weights[name] = tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
    return UNet(weights, n_classes, upsampling, has_sigmoid, device, precision)


def _read_state(path: Path) -> dict[str, Any]:
    torch = import_torch()
    try:
        # weights_only: tensors and plain containers, no code from the file
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} is no weight file of TractSeg ({type(error).__name__}). If its download broke off, remove it and "
            "fetch it again (arcuate fetch)."
        ) from error
    state = content.get("unet") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise InputError(f"{path} holds no network under the key 'unet'; expected a weight file of TractSeg.")
    return dict(state)


def _width(state: dict[str, Any]) -> int:
    """Filters of the first level: 64 as published, another number in a network that was trained wider or narrower."""
    first = state.get("contr_1_1.0.weight")
    return int(first.shape[0]) if first is not None and first.ndim == 4 else N_FILTERS


def _check(state: dict[str, Any], expected: dict[str, tuple[int, ...]], path: Path) -> None:
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        said = " and ".join(
            f"{what} {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
            for what, names in (("lacks", missing), ("has the unknown", unknown))
            if names
        )
        raise InputError(f"{path} {said}; it belongs to another network. Fetch the weights again (arcuate fetch).")
    for name, shape in expected.items():
        found = tuple(state[name].shape)
        if found != shape:
            raise InputError(
                f"{path}: the tensor {name} has the shape {found}; expected {shape}. The file belongs to another "
                "output; fetch the weights again (arcuate fetch)."
            )
        if not bool(state[name].isfinite().all()):
            raise InputError(f"{path}: the tensor {name} is not finite; fetch the weights again (arcuate fetch).")
