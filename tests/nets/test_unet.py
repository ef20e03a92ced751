"""Weight files as published: read without running their code, checked tensor by tensor."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from arcuate.errors import InputError, MissingExtraError
from arcuate.nets.unet import choose_device, import_torch, load_unet, require_torch, weight_shapes

torch = pytest.importorskip("torch", reason="torch is not installed (extra [tractseg])")
PUBLISHED = runpy.run_path(str(Path(__file__).with_name("published_weights.py")))
SMALL = 2  # filters: the same network, narrower


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict], Path]:
    def to_file(content: dict) -> Path:
        path = tmp_path / "weights.npz"
        torch.save(content, str(path))
        return path

    return to_file


def _state(n_classes: int = 3) -> dict:
    made = PUBLISHED["make_weights"](n_classes, 7, SMALL)
    return {name: torch.from_numpy(array) for name, array in made.items()}


def test_the_published_network_has_fifty_tensors_and_37_million_parameters() -> None:
    shapes = weight_shapes(72)
    assert len(shapes) == 50
    assert sum(int(np.prod(s)) for s in shapes.values()) == pytest.approx(37e6, rel=0.02)
    assert shapes["contr_1_1.0.weight"] == (64, 9, 3, 3)
    assert shapes["deconv_1.0.weight"] == (1024, 1024, 2, 2)
    assert shapes["conv_5.bias"] == (72,)


def test_equals_the_network_written_out_in_torch_modules(write: Callable) -> None:
    state = _state()
    unet = load_unet(write({"unet": state}), 3)
    slices = np.random.default_rng(0).normal(size=(2, 9, 32, 48)).astype(np.float32)
    expected = torch.sigmoid(_by_modules(state, torch.from_numpy(slices)))
    np.testing.assert_allclose(unet(slices).numpy(), expected.numpy(), atol=1e-5)
    assert np.ptp(expected.numpy()) > 0.1


def test_bfloat16_is_close_and_has_the_same_shape(write: Callable) -> None:
    path = write({"unet": _state()})
    slices = np.random.default_rng(0).normal(size=(1, 9, 32, 32)).astype(np.float32)
    exact = load_unet(path, 3)(slices).numpy()
    rough = load_unet(path, 3, precision="bfloat16")(slices).numpy()
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).max() < 0.05


def test_a_file_that_is_no_weight_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    path.write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(InputError, match=r"no weight file.*arcuate fetch"):
        load_unet(path, 3)


def test_a_file_cut_off_says_so(write: Callable) -> None:
    path = write({"unet": _state()})
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="no weight file"):
        load_unet(path, 3)


class _Payload:
    """What a malicious file would carry: code that runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_code_in_a_file_is_refused_and_not_run(write: Callable, tmp_path: Path) -> None:
    path = write({"unet": _Payload(tmp_path / "ran")})
    with pytest.raises(InputError, match="no weight file"):
        load_unet(path, 3)
    assert not (tmp_path / "ran").exists()


def test_other_tensors_are_named(write: Callable) -> None:
    with pytest.raises(InputError, match="'unet'"):
        load_unet(write({"net": _state()}), 3)
    state = _state()
    del state["conv_5.bias"]
    with pytest.raises(InputError, match=r"lacks conv_5\.bias"):
        load_unet(write({"unet": state}), 3)
    with pytest.raises(InputError, match="has the unknown extra"):
        load_unet(write({"unet": _state() | {"extra": torch.zeros(1)}}), 3)
    with pytest.raises(InputError, match=r"output_2\.weight has the shape \(3, 24, 1, 1\); expected \(4, 24, 1, 1\)"):
        load_unet(write({"unet": _state(3)}), 4)
    state = _state()
    state["encode_1.0.bias"][0] = float("nan")
    with pytest.raises(InputError, match=r"encode_1\.0\.bias is not finite"):
        load_unet(write({"unet": state}), 3)


def test_precision_and_device_are_checked(write: Callable) -> None:
    with pytest.raises(InputError, match=r"'float8'.*float32, bfloat16"):
        load_unet(write({"unet": _state()}), 3, precision="float8")
    with pytest.raises(InputError, match="'toaster'"):
        choose_device("toaster")
    if not torch.cuda.is_available():
        assert choose_device("auto") == "cpu"
        with pytest.raises(InputError, match="no CUDA device"):
            choose_device("cuda")


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"finding tracts needs torch.*pip install .*\[tractseg\]"):
        import_torch()
    with pytest.raises(MissingExtraError, match=r"finding tracts needs torch.*pip install .*\[tractseg\]"):
        require_torch()


def _by_modules(state: dict, x: object) -> object:
    """The network of Wasserthal et al. 2018 with deep supervision, written with torch's layers."""
    nn = torch.nn

    def layer(name: str) -> object:
        weight = state[f"{name}.weight"]
        if name.startswith("deconv"):
            made = nn.ConvTranspose2d(weight.shape[0], weight.shape[1], 2, 2)
        else:
            made = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding=weight.shape[2] // 2)
        made.load_state_dict({"weight": weight, "bias": state[f"{name}.bias"]})
        return made

    def block(name: str, x: object) -> object:
        return nn.LeakyReLU(0.01)(layer(f"{name}.0")(x))

    up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    with torch.no_grad():
        skips = []
        for i in range(1, 5):
            x = block(f"contr_{i}_2", block(f"contr_{i}_1", x))
            skips.append(x)
            x = nn.MaxPool2d(2)(x)
        x = block("encode_2", block("encode_1", x))
        joined = []
        for i in range(1, 5):
            joined.append(torch.cat([block(f"deconv_{i}", x), skips[4 - i]], 1))
            x = block(f"expand_{i}_2", block(f"expand_{i}_1", joined[-1]))
        return layer("conv_5")(x) + up(layer("output_3")(joined[2]) + up(layer("output_2")(joined[1])))
