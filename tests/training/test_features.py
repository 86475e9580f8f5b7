"""Perceptual and style losses against basicsr's, with a random VGG19 in torchvision's layout."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from upscale_training.backbone_files import load_backbone
from upscale_training.losses import (
    REAL_ESRGAN_LAYERS,
    FeatureLoss,
    PixelLoss,
    charbonnier,
    gram,
    l1,
    perceptual,
    style,
)
from upscale_training.networks import Backbone, Normalisation, vgg

from tests.training.official_losses import load_official


def torchvision_vgg19():
    """The layers of torchvision's `vgg19().features`, with random weights that keep their size."""
    layers, inputs = [], 3
    for width in (64, 64, 0, 128, 128, 0, *[256] * 4, 0, *[512] * 4, 0, *[512] * 4, 0):
        if width == 0:
            layers.append(nn.MaxPool2d(2, 2))
            continue
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
        nn.init.kaiming_normal_(layers[-2].weight)
        nn.init.normal_(layers[-2].bias, std=0.1)
        inputs = width
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def features():
    torch.manual_seed(0)
    return torchvision_vgg19()


@pytest.fixture(scope="module")
def vgg19_file(features, tmp_path_factory):
    path = tmp_path_factory.mktemp("backbone") / "vgg19.pth"
    state = {f"features.{key}": tensor for key, tensor in features.state_dict().items()}
    torch.save(state | {"classifier.0.weight": torch.zeros(4, 4)}, path)
    return path


def pair_of_images(size=(34, 47), count=2):
    generator = torch.Generator().manual_seed(1)
    output = torch.rand(count, 3, *size, generator=generator).requires_grad_()
    return output, torch.rand(count, 3, *size, generator=generator)


AFTER = {layer.replace("conv", "relu"): weight for layer, weight in REAL_ESRGAN_LAYERS.items()}
MIXED = {"conv1_1": 0.5, "relu1_1": 0.25, "pool3": 2.0, "conv4_2": 1.0}


@pytest.mark.parametrize("distance, official_name", [("l1", "l1"), ("frobenius", "fro")])
@pytest.mark.parametrize("layers", [REAL_ESRGAN_LAYERS, AFTER, MIXED], ids=["conv", "relu", "mix"])
def test_values_and_gradients_equal_the_official_loss(
    features, vgg19_file, layers, distance, official_name
):
    theirs = load_official(features).PerceptualLoss(
        dict(layers), perceptual_weight=0.7, style_weight=3.0, criterion=official_name
    )
    ours = FeatureLoss(
        load_backbone(vgg19_file, layers),
        layers,
        perceptual_weight=0.7,
        style_weight=3.0,
        distance=distance,
    )
    output, target = pair_of_images()
    terms = ours(output, target)
    expected = theirs(output, target)
    torch.testing.assert_close(terms.perceptual, expected[0])
    torch.testing.assert_close(terms.style, expected[1])
    gradients = [
        torch.autograd.grad(sum(values), output)[0]
        for values in ((terms.perceptual, terms.style), expected)
    ]
    assert gradients[0].abs().max() > 0
    scale = gradients[1].abs().max().item()
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5 * scale)


def test_without_normalisation_it_equals_the_official_loss(features, vgg19_file):
    layers = {"conv2_2": 1.0}
    theirs = load_official(features).PerceptualLoss(layers, use_input_norm=False)
    ours = FeatureLoss(load_backbone(vgg19_file, layers, normalise=False), layers)
    output, target = pair_of_images()
    terms = ours(output, target)
    torch.testing.assert_close(terms.perceptual, theirs(output, target)[0])
    assert terms.style is None


def test_a_term_of_weight_0_is_omitted(small):
    terms = FeatureLoss(small, {"conv1_1": 1.0}, perceptual_weight=0, style_weight=2)(
        *pair_of_images()
    )
    assert terms.perceptual is None
    assert terms.style.item() > 0


@pytest.fixture
def small():
    """A backbone of one layer."""
    torch.manual_seed(0)
    return Backbone(vgg("vgg16"), ["conv1_1"], Normalisation())


def test_features_before_activation_differ_where_activation_is_0(small):
    torch.manual_seed(0)
    both = Backbone(vgg("vgg16"), ["conv1_1", "relu1_1"], Normalisation())
    found = both(pair_of_images()[1])
    assert found["conv1_1"].min() < 0
    assert torch.equal(found["relu1_1"], found["conv1_1"].relu())


def test_the_gradient_goes_to_the_output_alone(small):
    output, target = pair_of_images()
    target.requires_grad_()
    FeatureLoss(small, {"conv1_1": 1.0})(output, target).perceptual.backward()
    assert output.grad.abs().max() > 0
    assert target.grad is None
    assert all(parameter.grad is None for parameter in small.parameters())


def test_training_mode_does_not_reach_the_backbone(small):
    loss = FeatureLoss(small, {"conv1_1": 1.0}).train()
    assert loss.training
    assert not any(module.training for module in small.modules())


def test_relative_differences_do_not_depend_on_the_scale_of_features():
    ours, theirs = {"a": torch.rand(2, 3, 4, 4)}, {"a": torch.rand(2, 3, 4, 4)}
    weights = {"a": 0.5}
    for loss, distance in ((perceptual, "l1"), (perceptual, "l2"), (style, "frobenius")):
        values = [
            loss(
                {"a": ours["a"] * scale}, {"a": theirs["a"] * scale}, weights, distance,
                relative=True,
            )
            for scale in (1, 300)
        ]  # fmt: skip
        torch.testing.assert_close(*values)
        assert loss(theirs, theirs, weights, distance, relative=True) == 0
    expected = 0.5 * (ours["a"] - theirs["a"]).abs().mean() / theirs["a"].mean()
    torch.testing.assert_close(perceptual(ours, theirs, weights, relative=True), expected)
    nothing = {"a": torch.zeros(1, 1, 2, 2)}
    assert perceptual(nothing, nothing, weights, relative=True) == 0


def test_a_shift_moves_both_images_before_the_backbone_alike():
    layers = nn.Sequential()
    layers.add_module("pool1", nn.MaxPool2d(4))
    backbone = Backbone(layers, ["pool1"], Normalisation())
    dots = torch.zeros(1, 3, 16, 16)
    dots[..., ::4, ::4] = 1  # one in each block of 4x4: a pooling sees no difference from white
    white = torch.ones(1, 3, 16, 16)
    assert FeatureLoss(backbone, {"pool1": 1.0})(dots, white).perceptual == 0
    shifted = FeatureLoss(backbone, {"pool1": 1.0}, shift=3)
    assert all(shifted(dots, dots).perceptual == 0 for _ in range(8))
    torch.manual_seed(0)
    sizes: set[tuple[int, ...]] = set()
    backbone.register_forward_hook(lambda _, inputs, __: sizes.add(tuple(inputs[0].shape[-2:])))
    for _ in range(60):
        shifted(dots, white)
    assert sizes == {(rows, columns) for rows in range(13, 17) for columns in range(13, 17)}


def test_a_gram_matrix_is_the_mean_product_of_channels():
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])  # (1, 2, 1, 2)
    expected = torch.tensor([[[5.0, 1.0], [1.0, 10.0]]]) / 4
    torch.testing.assert_close(gram(features), expected)


def test_a_gram_matrix_of_half_precision_does_not_overflow():
    features = torch.full((1, 2, 64, 64), 200.0).half()
    with torch.autocast("cpu", torch.bfloat16):
        result = gram(features)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, torch.full((1, 2, 2), 20000.0))


def test_pixel_losses_equal_the_official_ones():
    official = load_official()
    output, target = pair_of_images()
    torch.testing.assert_close(
        PixelLoss("l1", 0.3)(output, target), official.L1Loss(0.3)(output, target)
    )
    theirs = official.CharbonnierLoss(0.3, eps=0.01**2)(output, target)
    torch.testing.assert_close(PixelLoss("charbonnier", 0.3, 0.01)(output, target), theirs)


def test_charbonnier_is_smooth_at_0():
    images = torch.zeros(1, 3, 2, 2, requires_grad=True)
    charbonnier(images, torch.zeros(1, 3, 2, 2)).backward()
    assert images.grad.abs().max() == 0
    far = torch.full((1, 3, 2, 2), 0.5)
    assert abs(charbonnier(far, images) - l1(far, images)) < 1e-5
