"""Backbone files: what each is read as, and what is refused."""

from __future__ import annotations

import hashlib
import math
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from upscale_training import backbone_files
from upscale_training.backbone_files import load_backbone
from upscale_training.networks import efficientnet_lite0, vgg

from upscale.errors import CheckpointError, DependencyError, UsageError

KERAS_COUNTS = (2, 2, 3, 3, 3)
KERAS_WIDTHS = (64, 128, 256, 512, 512)


def first_layers(name="vgg16", seed=0):
    """A whole VGG under torchvision's keys: random first convolution, empty others."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for place, layer in enumerate(vgg(name)):
        for part, tensor in layer.state_dict().items():
            values = torch.randn(tensor.shape, generator=generator) if place == 0 else 0
            state[f"features.{place}.{part}"] = torch.zeros(tensor.shape) + values
    return state


def test_torchvisions_normalisation_comes_first(tmp_path):
    state = first_layers()
    save_file(state, tmp_path / "vgg16.safetensors")
    image = torch.rand(1, 3, 6, 7)
    found = load_backbone(tmp_path / "vgg16.safetensors", ["conv1_1"])(image)["conv1_1"]
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    normal = (image - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    expected = torch.nn.functional.conv2d(
        normal, state["features.0.weight"], state["features.0.bias"], padding=1
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name, last", [("vgg16", "conv5_3"), ("vgg19", "conv5_4")])
def test_the_vgg_is_recognised_from_the_file(tmp_path, name, last):
    torch.save(first_layers(name), tmp_path / "backbone.pth")
    assert list(load_backbone(tmp_path / "backbone.pth", [last]).backbone)[-1].in_channels == 512
    with pytest.raises(UsageError, match=r"conv5_9: the backbone has no such layer; did you mean"):
        load_backbone(tmp_path / "backbone.pth", ["conv5_9"])


def test_half_precision_files_give_single_precision_backbones(tmp_path):
    state = {key: tensor.half() for key, tensor in first_layers().items()}
    torch.save(state, tmp_path / "backbone.pth")
    backbone = load_backbone(tmp_path / "backbone.pth", ["conv1_1"])
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}


def test_loading_uses_no_random_numbers(tmp_path):
    torch.save(first_layers(), tmp_path / "backbone.pth")
    before = torch.get_rng_state()
    load_backbone(tmp_path / "backbone.pth", ["conv5_3"])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_file_under_a_known_name_must_be_that_file(tmp_path, monkeypatch):
    path = tmp_path / "vgg19-dcbb9e9d.pth"
    torch.save(first_layers("vgg19"), path)
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        load_backbone(path, ["conv1_1"])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(backbone_files.KNOWN_FILES, path.name, digest)
    load_backbone(path, ["conv1_1"])


def test_digests_agree_with_the_names_that_carry_their_first_digits():
    for name, digest in backbone_files.KNOWN_FILES.items():
        assert len(bytes.fromhex(digest)) == 32
        if name.endswith(".pth"):
            assert digest.startswith(name.removesuffix(".pth").rpartition("-")[2])


def test_files_that_are_no_backbones_raise_an_error_of_one_line(tmp_path):
    whole = first_layers()
    cases = {
        "absent.pth": (None, "cannot be read .* not downloaded"),
        "other.pth": ({"conv_first.weight": torch.zeros(1)}, "not a known backbone"),
        "lacks.pth": (
            {key: value for key, value in whole.items() if key != "features.2.bias"},
            "conv1_2.bias is missing",
        ),
        "shape.pth": (whole | {"features.2.weight": torch.zeros(8, 8, 3, 3)}, "does not fit"),
        "nan.pth": (whole | {"features.0.bias": torch.full((64,), math.nan)}, "not finite"),
    }
    for name, (state, message) in cases.items():
        path = tmp_path / name
        if state is not None:
            torch.save(state, path)
        with pytest.raises(CheckpointError, match=message) as caught:
            load_backbone(path, ["conv2_1"])
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_layers_after_the_last_requested_one_are_not_needed(tmp_path):
    state = first_layers()
    del state["features.28.bias"]
    torch.save(state, tmp_path / "backbone.pth")
    backbone = load_backbone(tmp_path / "backbone.pth", ["relu1_2", "conv1_1"])
    assert [name for name, _ in backbone.backbone.named_children()] == [
        "conv1_1", "relu1_1", "conv1_2", "relu1_2",
    ]  # fmt: skip
    assert list(backbone(torch.rand(1, 3, 8, 8))) == ["conv1_1", "relu1_2"]
    with pytest.raises(UsageError, match="at least one layer"):
        load_backbone(tmp_path / "backbone.pth", [])


def test_efficientnet_lite0_is_read_under_its_usual_keys(tmp_path):
    backbone = efficientnet_lite0().eval()
    state = {}
    for key, tensor in backbone.state_dict().items():
        usual = key.removeprefix("stem.").replace("block", "_blocks.", 1)
        state[usual] = tensor if "num_batches" in key else torch.rand(tensor.shape)
    torch.save(state | {"_fc.bias": torch.zeros(1000)}, tmp_path / "lite0.pth")
    backbone = load_backbone(tmp_path / "lite0.pth", ["stem", "block3", "block15"])
    assert torch.equal(
        backbone.backbone.state_dict()["block3._bn1.running_var"],
        state["_blocks.3._bn1.running_var"],
    )
    shapes = {name: tuple(x.shape) for name, x in backbone(torch.rand(1, 3, 65, 96)).items()}
    assert shapes == {"stem": (1, 32, 33, 48), "block3": (1, 40, 9, 12), "block15": (1, 320, 3, 3)}


@pytest.mark.parametrize("size, padding", [((8, 9), (1, 1, 0, 1)), ((9, 8), (0, 1, 1, 1))])
def test_efficientnet_lite0_pads_as_tensorflow_does(size, padding):
    torch.manual_seed(0)
    stem = efficientnet_lite0().eval()[0]
    image = torch.rand(1, 3, *size)
    kernel = stem.state_dict()["_conv_stem.weight"]
    padded = torch.nn.functional.pad(image, padding)  # left, right, top, bottom
    expected = torch.nn.functional.conv2d(padded, kernel, stride=2) / (1 + 1e-3) ** 0.5
    torch.testing.assert_close(stem(image), expected.clamp(0, 6))


def test_efficientnet_lite0_has_the_published_size():
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in efficientnet_lite0().parameters())
    head = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert count + head == 4_652_008  # published: 4.652 M


def write_keras(path, h5py, *, leave=(), **changed):
    """A VGG16 inside a larger network, as Keras 3 writes it."""
    random = np.random.default_rng(0)
    kernels = {}
    with h5py.File(path, "w") as file:
        inputs = 3
        for block, (count, width) in enumerate(zip(KERAS_COUNTS, KERAS_WIDTHS, strict=True), 1):
            for place in range(1, count + 1):
                name = f"block{block}_conv{place}"
                kernel = np.zeros((3, 3, inputs, width), np.float32)
                if name == "block1_conv1":
                    kernel = random.normal(size=kernel.shape).astype(np.float32)
                kernel = changed.get(name, kernel)
                inputs = width
                if name in leave:
                    continue
                suffix = "" if place == 1 else f"_{place - 1}"
                group = file.create_group(f"block{block}/layers/conv2d{suffix}/vars")
                group.attrs["name"] = name
                group.create_dataset("0", data=kernel, compression="gzip")
                group.create_dataset("1", data=np.arange(width, dtype=np.float32))
                kernels[name] = kernel
        file.create_group("dsn1/vars").attrs["name"] = "conv2d"
    return kernels


def test_a_keras_vgg16_normalises_as_in_caffe(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed (only HDF5 files need it)")
    kernel = write_keras(tmp_path / "vgg16.weights.h5", h5py)["block1_conv1"]
    backbone = load_backbone(tmp_path / "vgg16.weights.h5", ["conv1_1", "conv5_3"])
    image = torch.rand(1, 3, 16, 16)
    found = backbone(image)["conv1_1"]
    # One result by hand: levels, blue first, minus Caffe's mean, in TensorFlow's layout.
    levels = image[0].flip(0).permute(1, 2, 0).double().numpy() * 255
    levels = levels - np.array([104.00699, 116.66877, 122.67892])
    expected = np.einsum("hwc,hwcf->f", levels[4:7, 8:11], kernel.astype(float)) + np.arange(64)
    np.testing.assert_allclose(found[0, :, 5, 9].numpy(), expected, rtol=1e-4, atol=1e-2)


def test_hdf5_files_that_are_no_vgg_raise_an_error(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed (only HDF5 files need it)")
    path = tmp_path / "weights.h5"
    huge = {"block5_conv3": np.zeros((3, 3, 512, 513), np.float32)}
    broken = {"block1_conv1": np.full((3, 3, 3, 64), np.nan, np.float32)}
    cases = [
        ({"leave": ["block5_conv3"]}, "contains no VGG16 or VGG19"),
        (huge, "larger than any of VGG"),
        (broken, "not finite"),
    ]
    for changes, message in cases:
        write_keras(path, h5py, **changes)
        with pytest.raises(CheckpointError, match=message):
            load_backbone(path, ["conv1_1"])
    write_keras(path, h5py)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(CheckpointError, match="damaged HDF5"):
        load_backbone(path, ["conv1_1"])


def test_without_h5py_the_error_names_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    path = tmp_path / "weights.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(DependencyError, match="pip install h5py"):
        load_backbone(path, ["conv1_1"])
