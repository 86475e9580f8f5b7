"""The discriminators against basicsr's, and what keeps them stable in training."""

from __future__ import annotations

import pytest
import torch
from upscale_training.networks import PatchDiscriminator, UNetDiscriminator, VGGStyleDiscriminator

from tests.training.official_losses import load_official
from upscale import checkpoints
from upscale.errors import UsageError


@pytest.fixture(scope="module")
def official():
    return load_official()


def pair(official, name, features=8):
    """Ours and theirs, made from the same seed."""
    makers = {
        "unet": (
            lambda: UNetDiscriminator(3, features),
            lambda: official.UNetDiscriminatorSN(3, features, True),
        ),
        "vgg 128": (
            lambda: VGGStyleDiscriminator(3, features, 128),
            lambda: official.VGGStyleDiscriminator(3, features, 128),
        ),
        "vgg 256": (
            lambda: VGGStyleDiscriminator(3, features, 256),
            lambda: official.VGGStyleDiscriminator(3, features, 256),
        ),
    }
    networks = []
    for make in makers[name]:
        torch.manual_seed(3)
        networks.append(make())
    return networks


def images(size, count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, *size, generator=generator)


CASES = [("unet", (32, 48)), ("vgg 128", (128, 128)), ("vgg 256", (256, 256))]


@pytest.mark.parametrize("name, size", CASES)
def test_a_seed_gives_the_official_weights_under_the_official_keys(official, name, size):
    ours, theirs = (network.state_dict() for network in pair(official, name))
    assert list(ours) == list(theirs)
    for key, tensor in theirs.items():
        assert torch.equal(ours[key], tensor), key


@pytest.mark.parametrize("name, size", CASES)
def test_training_steps_equal_the_official_ones(official, name, size):
    ours, theirs = pair(official, name)
    for seed in range(3):
        results = [network(images(size, seed=seed)) for network in (ours, theirs)]
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)
        for network, result in zip((ours, theirs), results, strict=True):
            network.zero_grad()
            result.square().mean().backward()
        expected = dict(theirs.named_parameters())
        for key, parameter in ours.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[key].grad, rtol=1e-4, atol=1e-6)
    for key, tensor in theirs.state_dict().items():  # spectral vectors, running statistics
        torch.testing.assert_close(ours.state_dict()[key], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name, size", CASES)
def test_an_official_checkpoint_loads_and_gives_the_same_logits(official, name, size, tmp_path):
    _, theirs = pair(official, name)
    for seed in range(2):
        theirs(images(size, seed=seed))
    torch.save({"params": theirs.state_dict()}, tmp_path / "net_d.pth")
    torch.manual_seed(99)
    ours = type(pair(official, name)[0])(3, 8, *([size[0]] if "vgg" in name else []))
    ours.load_state_dict(checkpoints.read_state_dict(tmp_path / "net_d.pth"))
    with torch.inference_mode():
        judgements = [network.eval()(images(size)) for network in (ours, theirs)]
    torch.testing.assert_close(*judgements, rtol=1e-5, atol=1e-6)


def test_the_full_sizes_are_the_official_ones(official):
    with torch.device("meta"):
        networks = [
            (UNetDiscriminator(), official.UNetDiscriminatorSN(3, 64, True)),
            (VGGStyleDiscriminator(), official.VGGStyleDiscriminator(3, 64)),
            (VGGStyleDiscriminator(size=256), official.VGGStyleDiscriminator(3, 64, 256)),
        ]
    for ours, theirs in networks:
        assert shapes(ours) == shapes(theirs)


def shapes(network):
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


def test_the_unet_gives_a_logit_per_pixel_at_any_size():
    network = UNetDiscriminator(3, 4)
    for size in [(8, 8), (13, 31), (50, 41)]:
        assert network(images(size)).shape == (2, 1, *size)


def test_spectral_norms_iterate_in_training_and_not_in_evaluation():
    torch.manual_seed(0)
    network = UNetDiscriminator(3, 4)
    names = [f"conv{place}.weight_u" for place in range(1, 9)]

    def vectors():
        return {name: network.state_dict()[name].clone() for name in names}

    before = vectors()
    network(images((16, 16)))
    after = vectors()
    assert all(not torch.equal(before[name], after[name]) for name in names)
    network.eval()(images((16, 16)))
    assert all(torch.equal(after[name], vectors()[name]) for name in names)


def test_spectral_norms_come_to_one():
    torch.manual_seed(0)
    network = UNetDiscriminator(3, 4)
    norms = []
    for _ in range(60):
        network(images((8, 8), count=1))
        norms.append(torch.linalg.matrix_norm(network.conv4.weight.flatten(1), 2).item())
    assert norms[0] > 1.01
    assert norms[-1] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("size", [100, 512])
def test_a_vgg_style_discriminator_of_another_size_raises_an_error(size):
    with pytest.raises(UsageError, match=f"128 or 256, not {size}"):
        VGGStyleDiscriminator(size=size)


def test_crops_of_another_size_raise_an_error():
    with pytest.raises(UsageError, match="128x128, not 96x128"):
        VGGStyleDiscriminator(3, 4)(images((128, 96)))


def test_the_patch_discriminator_has_the_published_size_and_keys():
    conditional, network = PatchDiscriminator(channels=6), PatchDiscriminator()
    counts = [sum(map(torch.numel, each.parameters())) for each in (conditional, network)]
    assert counts == [2_768_705, 2_765_633]  # pix2pix prints "2.769 M", CycleGAN "2.765 M"
    kernels = {key: tuple(value.shape[:2]) for key, value in network.state_dict().items()
               if value.ndim == 4}  # fmt: skip
    assert kernels == {
        "model.0.weight": (64, 3),
        "model.2.weight": (128, 64),
        "model.5.weight": (256, 128),
        "model.8.weight": (512, 256),
        "model.11.weight": (1, 512),
    }


def test_a_patch_logit_depends_on_seventy_pixels():
    torch.manual_seed(0)
    network = PatchDiscriminator(3, 4).eval()
    image = images((256, 256), count=1).requires_grad_()
    judgements = network(image)
    assert judgements.shape == (1, 1, 30, 30)
    judgements[0, 0, 15, 14].backward()
    seen = image.grad[0].abs().sum(0)
    assert seen.any(1).sum() == seen.any(0).sum() == 70
