"""Loading through spandrel: with a stand-in, and with spandrel itself if it is installed."""

from __future__ import annotations

import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from upscale.checkpoints import load_community, write_safetensors
from upscale.errors import CheckpointError, DependencyError
from upscale.models import RRDBNet, RRDBSpec


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    write_safetensors({"layer.weight": torch.ones(3)}, path, {})
    return path


class Descriptor:
    """Stand-in for a model descriptor of spandrel."""

    scale, input_channels, output_channels = 3, 3, 1
    supports_half, supports_bfloat16 = True, False
    architecture = SimpleNamespace(name="Strange")
    size_requirements = SimpleNamespace(minimum=16, multiple_of=8, square=False)

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model


def stand_in(monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    """Install a `spandrel` whose loader returns or raises `answer`."""

    class Loader:
        def __init__(self, device: str) -> None:
            assert device == "cpu"

        def load_from_state_dict(self, state: dict[str, torch.Tensor]) -> object:
            assert list(state) == ["layer.weight"]
            if isinstance(answer, Exception):
                raise answer
            return answer

    module = ModuleType("spandrel")
    module.ModelLoader = Loader  # type: ignore[attr-defined]
    module.ImageModelDescriptor = Descriptor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spandrel", module)


@pytest.mark.parametrize(("half", "bfloat16"), [(True, False), (False, True)])
def test_descriptor_of_spandrel_is_converted(
    monkeypatch: pytest.MonkeyPatch, file: Path, half: bool, bfloat16: bool
) -> None:
    network = torch.nn.Dropout()
    descriptor = Descriptor(network)
    descriptor.supports_half, descriptor.supports_bfloat16 = half, bfloat16
    stand_in(monkeypatch, descriptor)
    model = load_community(file)
    assert model.module is network
    assert not network.training
    assert (model.name, model.scale, model.in_channels, model.out_channels) == ("Strange", 3, 3, 1)
    assert (model.multiple_of, model.minimum, model.square) == (8, 16, False)
    assert (model.supports_half, model.supports_bfloat16) == (half, bfloat16)
    with pytest.raises(FrozenInstanceError):
        model.scale = 4  # type: ignore[misc]


def test_unknown_architecture_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    stand_in(monkeypatch, RuntimeError("Unsupported\nmany\nlines"))
    with pytest.raises(CheckpointError) as raised:
        load_community(file)
    reason = "spandrel does not support this network (Unsupported many lines)"
    assert str(raised.value) == f"{file}: {reason}"


def test_network_that_does_not_map_images_is_rejected(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    stand_in(monkeypatch, object())
    with pytest.raises(CheckpointError, match="one image to one image"):
        load_community(file)


def test_missing_spandrel_is_reported_with_the_install_command(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(DependencyError) as raised:
        load_community(file)
    assert "pip install 'upscale[community]'" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_broken_torchvision_is_a_dependency_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path
) -> None:
    (tmp_path / "spandrel.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DependencyError, match="torchvision::nms does not exist") as raised:
        load_community(file)
    assert "from the index that torch came from" in str(raised.value)


def test_spandrel_itself_loads_an_rrdbnet(tmp_path: Path) -> None:
    pytest.importorskip("spandrel", reason="spandrel does not work here", exc_type=Exception)
    spec = RRDBSpec(features=8, blocks=1, growth=32)  # spandrel knows no other growth
    write_safetensors(RRDBNet(spec).state_dict(), tmp_path / "net.safetensors", {})
    model = load_community(tmp_path / "net.safetensors")
    assert (model.scale, model.in_channels, model.out_channels) == (4, 3, 3)
    with torch.inference_mode():
        assert model.module(torch.rand(1, 3, 8, 8)).shape == (1, 3, 32, 32)
