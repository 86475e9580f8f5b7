from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from upscale_training.loop import Note
from upscale_training.loop.initialisation import (
    fresh_discriminator,
    fresh_generator,
    start_discriminator,
    start_generator,
)
from upscale_training.loop.state import saved_states
from upscale_training.recipe import DiscriminatorSettings, OptimiserSettings, RRDBNetSettings, Stage

from tests.training.loop.runs import collected, one_stage
from upscale.checkpoints import availability, catalog, read_state_dict, write_safetensors
from upscale.errors import CheckpointError, TrainingError
from upscale.models import RRDBNet, RRDBSpec, SRVGGNetCompact, SRVGGSpec

SMALL = {"features": 8, "blocks": 1, "growth": 4}


@pytest.fixture
def saved(random_network, tmp_path):
    """Saves a network of given hyper-parameters with random weights."""

    def saved(spec):
        network, path = random_network(spec), tmp_path / "start.safetensors"
        write_safetensors(network.state_dict(), path, {})
        return network, path

    return saved


def shrunk(x: torch.Tensor, factor: int) -> torch.Tensor:
    return F.avg_pool2d(x, factor)


@pytest.mark.parametrize("unshuffle", [2, 4])
def test_an_rrdbnet_for_x2_or_x1_gives_what_that_for_x4_gives_for_the_downscaled_image(
    saved, unshuffle
):
    x4, path = saved(RRDBSpec(**SMALL))
    network = RRDBNet(RRDBSpec(**SMALL, unshuffle=unshuffle)).requires_grad_(False)
    start_generator(network, path)
    image = torch.rand(2, 3, 16, 24)
    torch.testing.assert_close(network(image), x4(shrunk(image, unshuffle)))


@pytest.mark.parametrize("unshuffle", [2, 4])
def test_an_rrdbnet_for_x4_gives_what_a_smaller_scale_gives_for_the_repeated_pixels(
    saved, unshuffle
):
    small, path = saved(RRDBSpec(**SMALL, unshuffle=unshuffle))
    network = RRDBNet(RRDBSpec(**SMALL)).requires_grad_(False)
    start_generator(network, path)
    image = torch.rand(1, 3, 6, 5)
    repeated = F.interpolate(image, scale_factor=unshuffle, mode="nearest")
    torch.testing.assert_close(network(image), small(repeated))


def test_an_rrdbnet_for_x1_from_one_for_x2_gives_what_that_gives_for_the_downscaled_image(saved):
    x2, path = saved(RRDBSpec(**SMALL, unshuffle=2))
    network = RRDBNet(RRDBSpec(**SMALL, unshuffle=4)).requires_grad_(False)
    start_generator(network, path)
    image = torch.rand(1, 3, 16, 8)
    torch.testing.assert_close(network(image), x2(shrunk(image, 2)))


@pytest.mark.parametrize("scale", [2, 1])
def test_a_compact_network_for_x2_or_x1_gives_the_downscaled_result_of_that_for_x4(saved, scale):
    x4, path = saved(SRVGGSpec(features=8, convolutions=2))
    network = SRVGGNetCompact(SRVGGSpec(scale, features=8, convolutions=2)).requires_grad_(False)
    start_generator(network, path)
    image = torch.rand(2, 3, 7, 9)
    torch.testing.assert_close(network(image), shrunk(x4(image), 4 // scale))


def test_a_compact_network_for_x4_gives_the_repeated_pixels_of_that_for_x2(saved):
    x2, path = saved(SRVGGSpec(2, features=8, convolutions=2))
    network = SRVGGNetCompact(SRVGGSpec(4, features=8, convolutions=2)).requires_grad_(False)
    start_generator(network, path)
    image = torch.rand(1, 3, 7, 9)
    expected = F.interpolate(x2(image), scale_factor=2, mode="nearest")
    torch.testing.assert_close(network(image), expected)


@pytest.mark.slow
@pytest.mark.skipif(
    availability(catalog()["realesrgan-x4plus"]) == "absent",
    reason="the weights of realesrgan-x4plus are absent",
)
def test_the_official_x4_weights_make_an_x2_network_that_upscales_before_any_training(data):
    from upscale_training.data.pixels import read_rgb

    from upscale.metrics import psnr

    def as_pixels(x: torch.Tensor):
        return (x[0] * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()

    network = RRDBNet(RRDBSpec(unshuffle=2)).requires_grad_(False)
    note = start_generator(network, "realesrgan-x4plus")
    assert note == "starts from realesrgan-x4plus, converted from x4 to x2"
    x4 = RRDBNet(RRDBSpec()).requires_grad_(False)
    start_generator(x4, "realesrgan-x4plus")
    crop = read_rgb(data / "photos" / "scenes" / "dog.webp")[100:196, 100:196]
    image = torch.from_numpy(crop.copy()).permute(2, 0, 1)[None].float() / 255
    ours, theirs = as_pixels(network(image)), as_pixels(shrunk(x4(image), 2))
    assert ours.shape == (192, 192, 3)
    assert psnr(ours, theirs) > 25
    grey = as_pixels(torch.full((1, 3, 192, 192), 0.5))
    assert psnr(ours, theirs) > psnr(grey, theirs) + 8


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"conv_hr.bias": None}, r"conv_hr\.bias is missing"),
        ({"conv_hr.bias": torch.zeros(3)}, r"conv_hr\.bias has shape \(3,\) instead of \(8,\)"),
        ({"conv_more.bias": torch.zeros(3)}, r"conv_more\.bias does not belong to RRDBNet"),
    ],
)
def test_every_tensor_that_does_not_fit_is_named(saved, tmp_path, changed, message):
    network, _ = saved(RRDBSpec(**SMALL))
    state = {**network.state_dict(), **changed}
    path = tmp_path / "changed.safetensors"
    write_safetensors({k: v for k, v in state.items() if v is not None}, path, {})
    with pytest.raises(TrainingError, match=message) as caught:
        start_generator(RRDBNet(RRDBSpec(**SMALL)), path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_of_another_size_raises_an_error_with_the_differences(saved):
    _, path = saved(RRDBSpec(**SMALL))
    with pytest.raises(TrainingError) as caught:
        start_generator(RRDBNet(RRDBSpec(features=8, blocks=2, growth=4)), path)
    text = str(caught.value)
    assert "RRDBNet x4, 1 blocks, 8 features, growth 4" in text
    assert "not RRDBNet x4, 2 blocks, 8 features, growth 4" in text
    assert re.search(r"body\.1\.\S+ is missing; .*and 27 more", text)
    with pytest.raises(TrainingError, match=r"RRDBNet x4.* not SRVGGNetCompact"):
        start_generator(SRVGGNetCompact(SRVGGSpec()), path)


def test_a_file_that_is_no_checkpoint_raises_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        start_generator(RRDBNet(RRDBSpec(**SMALL)), tmp_path / "none.pth")


def test_a_discriminator_starts_from_its_file_only(tmp_path):
    settings = DiscriminatorSettings("unet", features=4)
    discriminator, other = fresh_discriminator(settings, 32), fresh_discriminator(settings, 32)
    torch.save({"params": discriminator.state_dict()}, tmp_path / "discriminator.pth")
    start_discriminator(other, tmp_path / "discriminator.pth")
    for key, value in discriminator.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)
    with pytest.raises(TrainingError, match=r"discriminator\.pth: contains another discriminator"):
        start_discriminator(
            fresh_discriminator(DiscriminatorSettings("patch"), 32), tmp_path / "discriminator.pth"
        )


def test_dense_blocks_start_with_a_tenth_of_he_weights_and_no_biases():
    torch.manual_seed(0)
    network = fresh_generator(RRDBNetSettings(blocks=1).spec)
    convolution = network.body[0].rdb2.conv4
    inputs = convolution.weight[0].numel()
    assert convolution.weight.std().item() == pytest.approx(0.1 * (2 / inputs) ** 0.5, rel=0.05)
    assert not convolution.bias.any()
    assert network.conv_body.bias.any()


def test_a_run_starts_from_the_file_that_the_recipe_names(saved, images, tmp_path):
    network, path = saved(RRDBSpec(features=4, blocks=2, growth=2))
    recipe = one_stage(
        images, Stage("psnr", 1, OptimiserSettings(1e-9), batch=1, ema=0), start=path
    )
    events = collected(recipe, tmp_path / "run")
    assert Note(f"starts from {path}") in events
    trained = read_state_dict(saved_states(tmp_path / "run" / "states" / "psnr")[-1].weights)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(trained[key], value, rtol=0, atol=1e-7)
