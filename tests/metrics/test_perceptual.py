from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import torch
import torch.nn.functional as F

from upscale.errors import CheckpointError
from upscale.metrics import MetricError
from upscale.metrics.perceptual import load_dists, load_lpips, load_st_lpips

VGG16 = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512]
"""Channels of the convolutions; 0 is a pooling."""

ALEXNET = {0: (3, 64, 11), 3: (64, 192, 5), 6: (192, 384, 3), 8: (384, 256, 3), 10: (256, 256, 3)}


def random_layer(place, inputs, outputs, side, generator):
    weight = torch.randn(outputs, inputs, side, side, generator=generator)
    return {
        f"features.{place}.weight": weight * (2 / (inputs * side * side)) ** 0.5,
        f"features.{place}.bias": torch.randn(outputs, generator=generator) * 0.1,
    }


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory) -> Path:
    """A VGG16 of random weights, as torchvision stores it."""
    generator, state, place, inputs = torch.Generator().manual_seed(0), {}, 0, 3
    for outputs in VGG16:
        if outputs:
            state |= random_layer(place, inputs, outputs, 3, generator)
            inputs = outputs
        place += 2 if outputs else 1
    path = tmp_path_factory.mktemp("vgg16") / "vgg16.pth"
    torch.save(state | {"classifier.0.weight": torch.zeros(2, 2)}, path)
    return path


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory) -> Path:
    generator, state = torch.Generator().manual_seed(1), {}
    for place, shape in ALEXNET.items():
        state |= random_layer(place, *shape, generator)
    path = tmp_path_factory.mktemp("alexnet") / "alexnet.pth"
    torch.save(state, path)
    return path


def linear(path, channels):
    generator = torch.Generator().manual_seed(2)
    weights = [torch.rand(1, count, 1, 1, generator=generator) for count in channels]
    torch.save({f"lin{i}.model.1.weight": weight for i, weight in enumerate(weights)}, path)
    return path, weights


def vgg16_features(path, pixels, pool):
    """Return features of VGG16 before each pooling and at the end, layer by layer."""
    state, features, place, result = torch.load(path), pixels, 0, []
    for outputs in VGG16:
        if outputs:
            weight, bias = state[f"features.{place}.weight"], state[f"features.{place}.bias"]
            features = F.conv2d(features, weight, bias, padding=1).clamp(min=0)
            place += 2
        else:
            result.append(features)
            features = pool(features)
            place += 1
    return [*result, features]


def alexnet_features(path, pixels):
    state, features, result = torch.load(path), pixels, []
    for place, (_, _, side) in ALEXNET.items():
        if place in (3, 6):
            features = F.max_pool2d(features, 3, 2)
        weight, bias = state[f"features.{place}.weight"], state[f"features.{place}.bias"]
        stride, padding = (4, 2) if place == 0 else (1, side // 2)
        features = F.conv2d(features, weight, bias, stride, padding).clamp(min=0)
        result.append(features)
    return result


def tensor(pixels):
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].double() / 255


def reference_lpips(features_of, weights, a, b):
    """Equation 1 of the paper."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    features = [features_of(((tensor(p) - mean) / deviation).float()) for p in (a, b)]
    total = 0.0
    for one, other, weight in zip(*features, weights, strict=True):
        unit = [each / each.norm(dim=1, keepdim=True).clamp(min=1e-10) for each in (one, other)]
        total += float(((unit[0] - unit[1]) ** 2 * weight).sum(1).mean())
    return total


@pytest.fixture(scope="module")
def pair(photo, damages):
    return photo[100:190, 40:145], damages["blur"](photo, 2)[100:190, 40:145]


def test_lpips_agrees_with_the_definition_with_alexnet(alexnet, tmp_path, pair):
    file, weights = linear(tmp_path / "alex.pth", [64, 192, 384, 256, 256])
    result = load_lpips("alexnet", alexnet, file, "cpu")
    expected = reference_lpips(lambda x: alexnet_features(alexnet, x), weights, *pair)
    # The paper's release has ImageNet's mean and deviation with three digits.
    assert result(*pair) == pytest.approx(expected, rel=5e-3)
    assert result(pair[0], pair[0]) == 0


def test_lpips_agrees_with_the_definition_with_vgg16(vgg16, tmp_path, pair):
    file, weights = linear(tmp_path / "vgg.pth", [64, 128, 256, 512, 512])
    result = load_lpips("vgg16", vgg16, file, "cpu")
    pool = lambda x: F.max_pool2d(x, 2)  # noqa: E731
    expected = reference_lpips(lambda x: vgg16_features(vgg16, x, pool), weights, *pair)
    assert result(*pair) == pytest.approx(expected, rel=5e-3)
    assert result(pair[0], pair[0]) == 0


def test_dists_agrees_with_the_definition(vgg16, tmp_path, pair):
    generator = torch.Generator().manual_seed(3)
    alpha, beta = torch.rand(2, 1, 1475, 1, 1, generator=generator)
    torch.save({"alpha": alpha, "beta": beta}, tmp_path / "weights.pt")
    result = load_dists(vgg16, tmp_path / "weights.pt", "cpu")

    def pool(features):
        window = torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
        kernel = window.repeat(features.shape[1], 1, 1, 1)
        squares = F.conv2d(features**2, kernel, stride=2, padding=1, groups=features.shape[1])
        return (squares + 1e-12) ** 0.5

    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    maps = [
        [tensor(p).float(), *vgg16_features(vgg16, ((tensor(p) - mean) / deviation).float(), pool)]
        for p in pair
    ]
    total, channel = 0.0, 0
    weight = float(alpha.sum() + beta.sum())
    for one, other in zip(*maps, strict=True):
        for x, y in zip(one[0].double(), other[0].double(), strict=True):
            texture = (2 * x.mean() * y.mean() + 1e-6) / (x.mean() ** 2 + y.mean() ** 2 + 1e-6)
            covariance = ((x - x.mean()) * (y - y.mean())).mean()
            spread = x.var(correction=0) + y.var(correction=0)
            structure = (2 * covariance + 1e-6) / (spread + 1e-6)
            total += float(alpha[0, channel] * texture + beta[0, channel] * structure) / weight
            channel += 1
    assert channel == 1475
    assert result(*pair) == pytest.approx(1 - total, abs=2e-5)
    assert result(pair[0], pair[0]) == pytest.approx(0, abs=1e-5)


@pytest.fixture(scope="module")
def st_lpips():
    spec = importlib.util.find_spec("stlpips_pytorch")
    if spec is None:
        pytest.skip("stlpips-pytorch is not installed")
    folder = Path(spec.submodule_search_locations[0])
    return load_st_lpips(folder / "weights/vST0.0/alex_shift_tolerant.pth", "cpu")


def test_st_lpips_agrees_with_its_package(st_lpips, photo):
    # Measured with stlpips_pytorch 0.0.2 itself, with stand-ins for what it imports.
    crop = photo[4:261, 2:313]
    assert st_lpips(crop, cv2.GaussianBlur(crop, (0, 0), 1.5)) == pytest.approx(0.337801, abs=1e-5)


def test_st_lpips_rises_with_distortion_but_not_with_a_shift(st_lpips, photo, damages):
    crop = photo[:256, :256]
    assert st_lpips(crop, crop) == 0
    for kind in ("noise", "blur", "jpeg"):
        result = [st_lpips(damages[kind](crop, step), crop) for step in (1, 2, 3, 4)]
        assert result == sorted(result)
    shifted = st_lpips(photo[:256, 1:257], crop)
    assert shifted < 0.02 < 5 * st_lpips(damages["blur"](crop, 1), crop)


def test_score_is_independent_of_depth_and_grey_layout_and_ignores_the_border(
    st_lpips, photo, damages
):
    one, other = photo[:96, :96], damages["noise"](photo, 2)[:96, :96]
    expected = st_lpips(one, other)
    assert st_lpips(one.astype(np.uint16) * 257, other) == pytest.approx(expected, abs=1e-6)
    assert st_lpips((one / 255).astype(np.float32), other) == pytest.approx(expected, abs=1e-6)
    grey = [each[..., 1] for each in (one, other)]
    tripled = [np.dstack([each] * 3) for each in grey]
    assert st_lpips(*grey) == pytest.approx(st_lpips(*tripled), abs=1e-6)
    assert st_lpips(one, other, border=8) == pytest.approx(
        st_lpips(one[8:-8, 8:-8], other[8:-8, 8:-8]), abs=1e-6
    )


def test_unsuitable_images_are_rejected(st_lpips, photo, monkeypatch):
    with pytest.raises(MetricError, match="40x31 is smaller than 32x32"):
        st_lpips(photo[:31, :40], photo[:31, :40])
    assert st_lpips(photo[:32, :32], photo[:32, :32]) == 0
    with pytest.raises(MetricError, match="sizes must be equal"):
        st_lpips(photo, photo[1:])
    little = psutil.virtual_memory()._replace(available=2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(MetricError, match="640x528 needs about 1 GB of memory"):
        st_lpips(*[np.tile(photo, (2, 2, 1))] * 2)


def test_wrong_weight_files_are_rejected(vgg16, alexnet, tmp_path):
    file, _ = linear(tmp_path / "alex.pth", [64, 192, 384, 256, 256])
    with pytest.raises(CheckpointError, match=r"vgg16\.pth: lacks features\."):
        load_lpips("alexnet", vgg16, file, "cpu")
    with pytest.raises(CheckpointError, match=r"alex\.pth: has no weights for this network"):
        load_lpips("vgg16", vgg16, file, "cpu")
    with pytest.raises(CheckpointError, match=r"alex\.pth: is not the weights\.pt of DISTS"):
        load_dists(vgg16, file, "cpu")
    with pytest.raises(CheckpointError, match=r"alexnet\.pth: lacks"):
        load_dists(alexnet, file, "cpu")
    with pytest.raises(CheckpointError, match=r"alex\.pth: lacks"):
        load_st_lpips(file, "cpu")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_st_lpips(tmp_path / "none.pth", "cpu")
