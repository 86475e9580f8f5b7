"""What one iteration does to each network, beside gradients worked out by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from upscale_training.loop.distributed import Processes
from upscale_training.loop.ema import MovingAverage
from upscale_training.loop.meter import LossMeter
from upscale_training.loop.networks import Networks
from upscale_training.loop.pairs import PairBatch
from upscale_training.loop.step import TrainingStep
from upscale_training.loop.timing import Stopwatch
from upscale_training.loop.trained_network import TrainedNetwork
from upscale_training.networks import UNetDiscriminator
from upscale_training.recipe import (
    GanSettings,
    OptimiserSettings,
    PixelSettings,
    Stage,
)

ADAM = OptimiserSettings(1e-3)


class Gain(nn.Module):
    """Multiplies an image."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x):
        return self.gain * x


class MeanLogit(nn.Module):
    """A judgement an image: its weighted mean."""

    def __init__(self, weight: float):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x):
        return self.weight * x.mean((1, 2, 3))


@pytest.fixture(scope="module")
def processes() -> Processes:
    return Processes("cpu", "fp32")


@pytest.fixture
def pair() -> PairBatch:
    torch.manual_seed(1)
    low, high = torch.rand(4, 3, 16, 16), torch.rand(4, 3, 16, 16)
    return PairBatch(low, high, None)


def make(processes, generator, discriminator, stage) -> tuple[TrainingStep, Networks]:
    trained = [TrainedNetwork(network, ADAM, processes) for network in (generator, discriminator)]
    networks = Networks(trained[0], MovingAverage(generator, stage.ema), trained[1], None)
    watch = Stopwatch(processes.device)
    return TrainingStep(stage, networks, processes, LossMeter(), watch), networks


def gan_stage(**settings) -> Stage:
    return Stage("gan", 1, ADAM, pixel=None, gan=GanSettings(sharpen=False, **settings))


def test_the_generators_gan_gradient_is_that_derived_by_hand(processes, pair):
    gain, weight, factor = 0.7, 2.0, 0.1
    generator = Gain(gain)
    step, _ = make(processes, generator, MeanLogit(weight), gan_stage(weight=factor))
    step([pair])
    # Loss: factor * mean(softplus(-w g m)), m the mean of an image; so d/dg is
    # factor * mean(-sigmoid(-w g m) w m).
    means = pair.lr.mean((1, 2, 3))
    expected = factor * (-torch.sigmoid(-weight * gain * means) * weight * means).mean()
    assert expected.abs() > 0.01
    torch.testing.assert_close(generator.gain.grad, expected)


def test_the_relativistic_gradient_is_that_derived_by_hand(processes, pair):
    gain, weight = 0.7, 2.0
    generator = Gain(gain)
    stage = gan_stage(weight=1.0, relativistic=True)
    step, _ = make(processes, generator, MeanLogit(weight), stage)
    step([pair])
    real, means = weight * pair.hr.mean((1, 2, 3)), pair.lr.mean((1, 2, 3))
    fake, slope = weight * gain * means, weight * means  # and the slope of fake over g
    # Loss: (mean(softplus(real - mean(fake))) + mean(softplus(-(fake - mean(real))))) / 2.
    less_real = torch.sigmoid(real - fake.mean()).mean() * -slope.mean()
    more_real = (-torch.sigmoid(-(fake - real.mean())) * slope).mean()
    expected = (less_real + more_real) / 2
    assert expected.abs() > 0.01
    torch.testing.assert_close(generator.gain.grad, expected)


def test_the_discriminators_gradient_is_that_derived_by_hand(processes, pair):
    gain, weight = 0.7, 2.0
    discriminator = MeanLogit(weight)
    step, _ = make(processes, Gain(gain), discriminator, gan_stage())
    step([pair])
    # Of the images that the generator made before its own step.
    real, fake = pair.hr.mean((1, 2, 3)), gain * pair.lr.mean((1, 2, 3))
    expected = (-torch.sigmoid(-weight * real) * real + torch.sigmoid(weight * fake) * fake).mean()
    torch.testing.assert_close(discriminator.weight.grad, expected)


def test_the_generators_step_does_not_change_the_discriminator(processes, pair):
    torch.manual_seed(0)
    discriminator = UNetDiscriminator(features=4)
    before = {key: value.clone() for key, value in discriminator.state_dict().items()}
    generator = Gain(0.5)
    step, networks = make(processes, generator, discriminator, gan_stage())
    assert networks.discriminator is not None
    networks.discriminator.step = lambda *_: None
    step([pair])
    assert generator.gain.grad.abs() > 0
    assert generator.gain != 0.5
    for key, parameter in discriminator.named_parameters():
        assert parameter.grad is None, key
        assert parameter.requires_grad, key
        assert torch.equal(parameter, before[key]), key


def test_spectral_norms_iterate_towards_the_true_norm(processes, pair):
    torch.manual_seed(0)
    discriminator = UNetDiscriminator(features=4)
    step, _ = make(processes, Gain(0.5), discriminator, gan_stage())
    started = discriminator.conv3.weight_u.clone()
    for _ in range(40):
        step([pair])
    assert not torch.equal(discriminator.conv3.weight_u, started)
    matrix = discriminator.conv3.weight_orig.detach().flatten(1)
    estimate = discriminator.conv3.weight_u @ matrix @ discriminator.conv3.weight_v
    true = torch.linalg.matrix_norm(matrix, 2)
    torch.testing.assert_close(estimate, true, rtol=0.02, atol=0)


@pytest.mark.parametrize("sharpen", [False, True])
def test_each_loss_uses_the_target_of_the_recipe(processes, sharpen):
    low, high = torch.full((1, 3, 16, 16), 0.5), torch.full((1, 3, 16, 16), 0.4)
    pair = PairBatch(low, high, torch.full((1, 3, 16, 16), 0.9))
    stage = Stage("l1", 1, ADAM, pixel=PixelSettings(sharpen=sharpen))
    generator, meter = Gain(1.0), LossMeter()
    networks = Networks(
        TrainedNetwork(generator, ADAM, processes), MovingAverage(generator, 0.9), None, None
    )
    TrainingStep(stage, networks, processes, meter, Stopwatch(processes.device))([pair])
    assert meter.means(processes)["pixel"] == pytest.approx(0.4 if sharpen else 0.1)


def test_batches_of_one_iteration_equal_one_large_batch(processes, pair):
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(), nn.Conv2d(8, 3, 1))
    discriminator = UNetDiscriminator(features=4)
    stage = Stage("gan", 1, ADAM, gan=GanSettings(sharpen=False))
    both = []
    for parts in (1, 2):
        step, networks = make(
            processes, copy.deepcopy(generator), copy.deepcopy(discriminator), stage
        )
        lows, highs = pair.lr.chunk(parts), pair.hr.chunk(parts)
        for _ in range(3):
            step([PairBatch(low, high, None) for low, high in zip(lows, highs, strict=True)])
        both.append(networks)
    for name in ("generator", "discriminator"):
        one, other = (getattr(each, name).network.state_dict() for each in both)
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, rtol=1e-4, atol=2e-6, msg=key)


def test_an_overflow_of_one_network_does_not_affect_the_other(processes):
    one, other = Gain(1.0), Gain(1.0)
    first, second = (
        TrainedNetwork(network, ADAM, processes, scaled=True) for network in (one, other)
    )
    x = torch.ones(1)
    first.step([x], lambda x: first.run(x).sum() * float("inf"))
    second.step([x], lambda x: second.run(x).sum())
    assert one.gain.item() == 1.0
    assert other.gain.item() == pytest.approx(1.0 - ADAM.learning_rate)
    scales = [learner.state_dict()["scaler"]["scale"] for learner in (first, second)]
    assert scales[0] == scales[1] / 2
    first.step([x], lambda x: first.run(x).sum())
    assert one.gain.item() == pytest.approx(1.0 - ADAM.learning_rate)
