"""Every loss, optimiser and schedule that a recipe can name, from its text to the weights."""

from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch
from torch import nn
from upscale_training.loop.distributed import Processes
from upscale_training.loop.ema import MovingAverage
from upscale_training.loop.meter import LossMeter
from upscale_training.loop.networks import Networks
from upscale_training.loop.pairs import PairBatch
from upscale_training.loop.schedule import rate_factor
from upscale_training.loop.step import TrainingStep
from upscale_training.loop.timing import Stopwatch
from upscale_training.loop.trained_network import TrainedNetwork
from upscale_training.losses import GanKind
from upscale_training.losses.pixels import PIXEL_LOSSES
from upscale_training.recipe.nodes import compose
from upscale_training.recipe.reading import build_recipe

RECIPE = """
name: mine
network: {architecture: srvgg, features: 4, convolutions: 1}
data: {sources: [{path: photos}], patch: 32}
stages:
  - name: one
    iterations: 8
    batch: 2
    ema: 0.5
"""
ADAM = "optimiser: {learning_rate: 1e-3}"
OPTIMISERS = {
    "adam": "{learning_rate: 1e-2, kind: adam}",
    "adamw": "{learning_rate: 1e-2, kind: adamw, weight_decay: 0.1}",
    "adam with weight decay": "{learning_rate: 1e-2, kind: adam, weight_decay: 0.1}",
    "clipped": "{learning_rate: 1e-2, clip: 1e-9}",
    "schedule-free": "{learning_rate: 1e-2, kind: schedule-free}",
    "adan": "{learning_rate: 1e-2, kind: adan, betas: [0.98, 0.92, 0.99]}",
}


class Blend(nn.Module):
    """A generator that mixes each pixel with its neighbours and adds a colour."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image):
        return self.mix(image).sigmoid()


def stage_of(*lines):
    text = RECIPE + "".join(f"    {line}\n" for line in lines)
    return build_recipe(compose(text, "mine.yaml")).stages[0]


@pytest.fixture(scope="module")
def processes():
    return Processes("cpu", "fp32")


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 2, 3, 16, 16, generator=generator)
    return PairBatch(images[0], images[1], None)


def trained(stage, processes, pair, steps=1):
    """Train a small generator; return its outputs before and after, and the logged losses."""
    torch.manual_seed(0)
    generator, discriminator = Blend(), nn.Conv2d(3, 1, 3)
    average = MovingAverage(copy.deepcopy(generator), stage.ema)
    nn.init.zeros_(average.network.mix.weight)  # far off, so that LDL counts artefacts
    before = generator(pair.lr).detach(), average.network(pair.lr)
    settings = None if stage.gan is None else stage.gan.optimiser or stage.optimiser
    judge = None if settings is None else TrainedNetwork(discriminator, settings, processes)
    own = TrainedNetwork(generator, stage.optimiser, processes)
    meter = LossMeter()
    step = TrainingStep(
        stage, Networks(own, average, judge, None), processes, meter, Stopwatch(processes.device)
    )
    for done in range(steps):
        own.scale_learning_rate(rate_factor(stage.schedule, done, stage.iterations))
        step([pair])
    with own.evaluated():
        after = generator(pair.lr).detach()
    return before, after, meter.means(processes), generator, discriminator


@pytest.mark.parametrize("kind", PIXEL_LOSSES)
@pytest.mark.parametrize("key", ["pixel", "more"])
def test_each_loss_is_logged_with_its_weight_and_lowered(processes, pair, kind, key):
    settings = f"{{kind: {kind}, weight: 0.5, sharpen: false}}"
    lines = (f"pixel: {settings}",) if key == "pixel" else ("pixel: null", f"more: [{settings}]")
    stage = stage_of(ADAM, *lines)
    (output, average), after, losses, *_ = trained(stage, processes, pair)
    function = PIXEL_LOSSES[kind]

    def loss(image):
        more = (average,) if kind == "ldl" else ()
        return function(image, pair.hr, *more).item()

    assert losses["pixel" if key == "pixel" else kind] == pytest.approx(0.5 * loss(output))
    if kind == "focal-frequency":  # its weights depend on the largest difference
        assert (after - pair.hr).square().mean() < (output - pair.hr).square().mean()
    else:
        assert 0 < loss(after) < loss(output)


@pytest.mark.parametrize("relativistic", ["true", "false"])
@pytest.mark.parametrize("kind", get_args(GanKind))
def test_each_gan_trains_both_networks_in_opposite_directions(processes, pair, kind, relativistic):
    stage = stage_of(
        ADAM,
        "pixel: null",
        f"gan: {{kind: {kind}, relativistic: {relativistic}, weight: 0.5, penalty: 10,",
        "  sharpen: false, optimiser: {learning_rate: 1e-3, kind: adamw}}",
    )
    assert stage.gan.optimiser.kind == "adamw"
    (output, _), after, losses, _, discriminator = trained(stage, processes, pair)
    assert {"gan", "real", "fake", "penalty", "mean_real", "mean_fake"} <= losses.keys()
    torch.manual_seed(0)
    Blend()
    untrained = nn.Conv2d(3, 1, 3)
    with torch.no_grad():
        assert untrained(after).mean() > untrained(output).mean(), "looks more real"
        assert not torch.equal(discriminator.weight, untrained.weight)


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_each_optimiser_lowers_the_loss_in_its_own_way(processes, pair, kind):
    if kind in ("schedule-free", "adan"):
        pytest.importorskip("pytorch_optimizer")
    stage = stage_of(f"optimiser: {OPTIMISERS[kind]}", "pixel: {sharpen: false}")
    (output, _), after, *_ = trained(stage, processes, pair, steps=4)
    assert (after - pair.hr).abs().mean() < (output - pair.hr).abs().mean()
    if kind != "adam":
        plain = stage_of(f"optimiser: {OPTIMISERS['adam']}", "pixel: {sharpen: false}")
        assert not torch.equal(after, trained(plain, processes, pair, steps=4)[1])


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("{milestones: [2, 4], gamma: 0.1}", [1, 1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01]),
        ("{warmup: 4}", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ("{kind: cosine}", [1, 0.962, 0.854, 0.691, 0.5, 0.309, 0.146, 0.038]),
        ("{kind: cosine, periods: [4, 4], minimum: 0.5}",
         [1, 0.927, 0.75, 0.573, 1, 0.927, 0.75, 0.573]),
        ("{kind: knee, hold: 0.5}", [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
        ("{kind: knee, hold: 0, warmup: 2, minimum: 0.2}",
         [0.5, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]),
    ],
)  # fmt: skip
def test_each_schedule_sets_the_learning_rates_of_all_iterations(schedule, factors):
    stage = stage_of(ADAM, f"schedule: {schedule}")
    found = [rate_factor(stage.schedule, done, stage.iterations) for done in range(8)]
    assert found == pytest.approx(factors, abs=1e-3)


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        (("pixel: {weight: 0}", "more: [{kind: l1, weight: 1, sharpen: false}]"), {"l1"}),
        (("more: [{kind: ldl, weight: 0}]",), {"pixel"}),
        (("gan: {weight: 0}",), {"pixel"}),
        (("gan: {kind: wgan, weight: 0}",), {"pixel"}),
        (("perceptual: {backbone: no.pth, weight: 0}",), {"pixel"}),
        (("dists: {backbone: no.pth, weights: no.pt, weight: 0}",), {"pixel"}),
    ],
)
def test_a_loss_of_weight_0_is_neither_computed_nor_logged(processes, pair, lines, left):
    losses = trained(stage_of(ADAM, *lines), processes, pair)[2]
    assert losses.keys() - {"shift", "contrast"} == left


def test_cudnn_measures_its_algorithms_only_where_shapes_are_fixed(processes, pair):
    from upscale_training.losses import register_loss, unregister_loss

    seen = []

    def probe(output, target):
        seen.append(torch.backends.cudnn.benchmark)
        return (output - target).abs().mean()

    register_loss("probe", probe)
    try:
        stage = stage_of(ADAM, "pixel: {kind: probe, sharpen: false}")
        trained(stage, processes, pair)
    finally:
        unregister_loss("probe")
    assert seen == [True]
    assert not torch.backends.cudnn.benchmark
    shifted = stage_of(ADAM, "perceptual: {backbone: no.pth, shift: 4}")
    meter, watch = LossMeter(), Stopwatch(processes.device)
    blend = Blend()
    networks = Networks(
        TrainedNetwork(blend, shifted.optimiser, processes), MovingAverage(blend, 0.5), None, None
    )
    assert not TrainingStep(shifted, networks, processes, meter, watch)._shapes_are_fixed
