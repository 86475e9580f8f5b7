"""Networks for faces: how spandrel's are called, and the real ones where spandrel is installed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from upscale.checkpoints import face_networks
from upscale.checkpoints.face_networks import check_packages, load_face_network
from upscale.errors import CheckpointError, DependencyError
from upscale.faces.restorer import NetworkRestorer


class Fake(nn.Module):
    """Records its calls and returns the negative of its input, as networks do: in a tuple."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), -1.0))
        self.calls = []

    def forward(self, face, **options):
        self.calls.append((float(face.min()), float(face.max()), options))
        return face * self.scale, None


@pytest.fixture
def spandrel(monkeypatch):
    """A stand-in for spandrel that takes every file for a network of `name`."""
    fake = SimpleNamespace(name="GFPGAN", network=Fake(), registries=[])

    class ModelLoader:
        def __init__(self, device, registry=None):
            fake.registries.append(registry)

        def load_from_state_dict(self, state):
            if "bad" in state:
                raise ValueError("no such\narchitecture")
            architecture = SimpleNamespace(name=fake.name)
            return SimpleNamespace(
                model=fake.network, architecture=architecture, supports_bfloat16=True
            )

    module = SimpleNamespace(ModelLoader=ModelLoader)
    monkeypatch.setattr(face_networks, "import_spandrel", lambda extra: module)
    monkeypatch.setattr(face_networks, "_extra_registry", lambda: "extra")
    return fake


def checkpoint(tmp_path, *keys):
    path = tmp_path / "face.pth"
    torch.save({"params_ema": {key: torch.zeros(2) for key in keys or ("a.weight",)}}, path)
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("GFPGAN", {"return_rgb": False, "randomize_noise": False}),
        ("RestoreFormer", {}),
        ("CodeFormer", {"weight": 0.25}),
    ],
)
def test_networks_get_and_return_values_of_their_own_range(name, options, spandrel, tmp_path):
    spandrel.name = name
    network = load_face_network(checkpoint(tmp_path), 0.25)
    assert (network.name, network.has_fidelity) == (name, name == "CodeFormer")
    face = np.zeros((512, 512, 3), np.float32)
    face[0, 0], face[1, 1] = (1, 0.25, 0), 1
    result = NetworkRestorer(network, "cpu", "fp32").restore(face)
    assert np.allclose(result, 1 - face)
    # A copy of the network computes, which keeps its list of calls.
    copied = NetworkRestorer(network, "cpu", "fp32")
    copied.restore(face)
    assert copied._module._network.calls[-1] == (-1.0, 1.0, options)


def test_codeformer_is_looked_for_in_the_package_with_its_code(spandrel, tmp_path):
    spandrel.name = "CodeFormer"
    load_face_network(checkpoint(tmp_path, "idx_pred_layer.1.weight"))
    load_face_network(checkpoint(tmp_path, "a.weight"))
    assert spandrel.registries[1:] == ["extra", None] or spandrel.registries[-1] is None
    assert "extra" in spandrel.registries


def test_other_networks_and_unknown_files_are_refused(spandrel, tmp_path):
    spandrel.name = "SwinIR"
    with pytest.raises(CheckpointError, match=r"face.pth: is a network of SwinIR, which does not"):
        load_face_network(checkpoint(tmp_path))
    with pytest.raises(CheckpointError, match=r"face.pth: spandrel does not support .*no such"):
        load_face_network(checkpoint(tmp_path, "bad"))


def test_half_precision_that_a_network_does_not_support_becomes_fp32(spandrel, tmp_path):
    network = load_face_network(checkpoint(tmp_path))
    assert NetworkRestorer(network, "cpu", "fp16")._dtype == torch.float32
    assert NetworkRestorer(network, "cpu", "bf16")._dtype == torch.bfloat16


def test_values_that_are_not_finite_are_an_error(spandrel, tmp_path):
    nn.init.constant_(spandrel.network.scale, float("nan"))
    network = load_face_network(checkpoint(tmp_path))
    face = np.zeros((512, 512, 3), np.float32)
    for precision in ("fp32", "bf16"):
        with pytest.raises(CheckpointError, match="GFPGAN: its result is not finite"):
            NetworkRestorer(network, "cpu", precision).restore(face)


def test_missing_packages_are_named_with_their_extra(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(DependencyError, match=r"pip install 'upscale\[face\]'"):
        check_packages("gfpgan")
    monkeypatch.setattr(face_networks, "import_spandrel", lambda extra: None)
    check_packages("gfpgan")
    with pytest.raises(DependencyError, match="CodeFormer needs the package spandrel-extra-arches"):
        check_packages("codeformer")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GFPGAN", "RestoreFormer", "CodeFormer"])
def test_a_network_of_spandrel_with_random_weights_restores(name, tmp_path):
    """The same input gives the same face."""
    try:
        package = "spandrel_extra_arches" if name == "CodeFormer" else "spandrel"
        architectures = pytest.importorskip(f"{package}.architectures.{name}")
    except Exception as error:  # torchvision raises RuntimeError if it does not match torch
        pytest.skip(f"spandrel does not work here: {error}")
    torch.manual_seed(0)
    own = {"GFPGAN": {"different_w": True, "sft_half": True, "input_is_latent": True,
                      "fix_decoder": False},
           "RestoreFormer": {"ch_mult": (1, 2, 2, 4, 4, 8), "attn_resolutions": (16,),
                             "enable_mid": True},
           "CodeFormer": {}}  # fmt: skip
    network = getattr(architectures, name)(**own[name])
    path = tmp_path / "random.pth"
    torch.save({"params_ema": network.state_dict()}, path)
    restorer = NetworkRestorer(load_face_network(path), "cpu")
    face = np.random.default_rng(0).random((512, 512, 3), np.float32)
    first = restorer.restore(face)
    assert first.shape == (512, 512, 3)
    assert first.std() > 0.01
    assert (restorer.restore(face) == first).all()
