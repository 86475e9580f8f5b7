"""The bundled recipes have the values of the papers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from upscale_training.data.register import PHONE_FOLDER, Registration
from upscale_training.degradation import classical, generic, real_esrgan
from upscale_training.degradation.steps import (
    BlurStep,
    EitherOrder,
    JpegStep,
    NoiseStep,
    ResizeStep,
)
from upscale_training.losses import REAL_ESRGAN_LAYERS
from upscale_training.pools.kernels import KernelStep
from upscale_training.pools.noise import InjectedNoiseStep
from upscale_training.recipe.reading import read_recipe
from upscale_training.recipe.settings import (
    DiscriminatorSettings,
    RCANSettings,
    RRDBNetSettings,
    SRVGGSettings,
)
from upscale_training.recipes import bundled

from upscale.models import build, detect

PAPER = ("real-esrgan-x4", "real-esrgan-x2", "real-esrgan-x1", "srvgg-x4", "srvgg-anime-x4")
OTHERS = (
    "esrgan-classical", "generic-x4", "generic-x4-standard", "mobile-x4", "rcan-x4", "realsr-x4",
    "tiny-x4", "tiny-srvgg-x4",
)  # fmt: skip
OWN = (
    "upscale-x4-fast-clean", "upscale-x4-fast-damaged", "upscale-x4-fast-detail",
    "upscale-x4-fast", "upscale-x2-fast-clean", "upscale-x2-fast-detail", "upscale-x2-fast",
    "upscale-x1-restore", "upscale-x1-exact", "upscale-x1-careful", "upscale-x1-clean",
    "upscale-x1-grain", "upscale-x1",
)  # fmt: skip
"""Recipes of the package's own weights."""

OF_ONE_STAGE = ("generic-x4-standard", "mobile-x4", "rcan-x4", "realsr-x4")


@pytest.fixture(scope="module")
def recipes():
    return {name: read_recipe(path) for name, path in bundled().items()}


def test_these_recipes_come_with_upscale():
    assert set(bundled()) == {*PAPER, *OTHERS, *OWN}
    assert all(path.read_text().startswith("#") for path in bundled().values())


@pytest.mark.parametrize("name", [*PAPER, *OTHERS, *OWN])
def test_a_recipe_has_the_name_of_its_file(recipes, name):
    assert recipes[name].name == name
    assert len(recipes[name].stages) == (1 if name in (*OWN, *OF_ONE_STAGE) else 2)


@pytest.mark.parametrize("name", [*PAPER, *OTHERS, *OWN])
def test_its_network_can_be_built_and_is_recognised(recipes, name):
    settings = recipes[name].network
    small = {
        RRDBNetSettings: ["network.blocks=1"],
        SRVGGSettings: ["network.convolutions=1"],
        RCANSettings: ["network.groups=1", "network.blocks=1", "network.reduction=4"],
    }[type(settings)]
    path = bundled()[name]
    network = build(read_recipe(path, [*small, "network.features=8"]).network.spec)
    assert network.scale == settings.scale
    assert detect(network.state_dict()).spec.scale == settings.scale


@pytest.mark.parametrize("name", PAPER)
def test_real_esrgans_two_stages_have_the_papers_numbers(recipes, name):
    """Real-ESRGAN, section 4.1, and its official option files."""
    recipe = recipes[name]
    net, gan = recipe.stages
    assert (net.iterations, gan.iterations) == (1_000_000, 400_000)
    assert (net.optimiser.learning_rate, gan.optimiser.learning_rate) == (2e-4, 1e-4)
    for stage in recipe.stages:
        assert 4 * stage.batch * stage.accumulate == 48  # on four GPUs
        assert stage.ema == 0.999
        assert (stage.optimiser.kind, stage.optimiser.betas) == ("adam", (0.9, 0.99))
        assert stage.optimiser.weight_decay == 0
        assert stage.schedule.warmup == 0 and stage.schedule.milestones == ()
        assert stage.pixel and (stage.pixel.kind, stage.pixel.weight) == ("l1", 1)
        assert stage.pixel.sharpen
    assert net.perceptual is None and net.gan is None
    assert (recipe.data.patch, recipe.data.side, recipe.degradation.pool) == (256, 400, 180)
    assert recipe.data.flips and not recipe.data.rotations
    assert recipe.degradation.sharpen and recipe.degradation.mode == "corrected"
    assert (recipe.seed, recipe.data.workers) == (0, 5)
    assert (recipe.logging.every, recipe.saving.every) == (100, 5000)
    assert recipe.logging.tensorboard


@pytest.mark.parametrize("name", PAPER)
def test_real_esrgans_second_stage_has_the_papers_losses(recipes, name):
    _, stage = recipes[name].stages
    assert stage.perceptual is not None
    assert stage.perceptual.backbone.name == "vgg19-dcbb9e9d.pth"
    assert stage.perceptual.layers == {
        "conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1, "conv4_4": 1, "conv5_4": 1,
    }  # fmt: skip
    assert (stage.perceptual.weight, stage.perceptual.style) == (1, 0)
    assert (stage.perceptual.distance, stage.perceptual.relative) == ("l1", False)
    assert stage.perceptual.sharpen and stage.perceptual.normalise
    assert stage.gan is not None
    assert (stage.gan.kind, stage.gan.relativistic, stage.gan.weight) == ("vanilla", False, 0.1)
    assert not stage.gan.sharpen
    assert (stage.gan.discriminator.kind, stage.gan.discriminator.features) == ("unet", 64)
    assert stage.gan.optimiser is None


def test_the_default_layers_are_the_papers(recipes):
    perceptual = recipes["real-esrgan-x4"].stages[1].perceptual
    assert perceptual and perceptual.layers == REAL_ESRGAN_LAYERS


@pytest.mark.parametrize(("scale", "start"), [(4, None), (2, "realesrgan-x4plus"),
                                              (1, "realesrgan-x4plus")])  # fmt: skip
def test_rrdbnets_are_the_papers_at_three_scales(recipes, scale, start):
    recipe = recipes[f"real-esrgan-x{scale}"]
    assert recipe.network == RRDBNetSettings("rrdbnet", scale, features=64, blocks=23, growth=32)
    assert recipe.network.spec.scale == scale
    assert recipe.network.spec.unshuffle == {4: 1, 2: 2, 1: 4}[scale]
    assert recipe.network.spec.upsamples == 2
    assert recipe.start == start


def test_compact_networks_are_those_of_the_releases(recipes):
    assert recipes["srvgg-x4"].network == SRVGGSettings("srvgg", 4, 64, 32)
    assert recipes["srvgg-anime-x4"].network == SRVGGSettings("srvgg", 4, 64, 16)


@pytest.mark.parametrize("name", PAPER)
def test_the_chain_is_the_second_order_one(recipes, name):
    recipe = recipes[name]
    scale = recipe.network.scale
    assert recipe.degradation.settings(scale) == real_esrgan(scale)


def test_the_x4_recipe_spells_out_the_papers_chain(recipes):
    """Real-ESRGAN, section 4.1 and figure 2."""
    chain = recipes["real-esrgan-x4"].degradation.chain
    assert not isinstance(chain, str)
    blur, resize, noise, jpeg, blur2, resize2, noise2, last = chain
    assert isinstance(blur, BlurStep) and isinstance(blur2, BlurStep)
    for one in (blur, blur2):
        assert list(one.families.weights().values()) == [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
        assert (one.sinc, one.sizes, one.generalised_beta, one.plateau_beta) == (
            0.1, (7, 21), (0.5, 4), (1, 2),
        )  # fmt: skip
    assert (blur.probability, blur.sigma) == (1, (0.2, 3))
    assert (blur2.probability, blur2.sigma) == (0.8, (0.2, 1.5))
    assert isinstance(resize, ResizeStep) and isinstance(resize2, ResizeStep)
    assert (resize.up, resize.down, resize.keep, resize.factors) == (0.2, 0.7, 0.1, (0.15, 1.5))
    assert (resize2.up, resize2.down, resize2.keep) == (0.3, 0.4, 0.3)
    assert (resize2.factors, resize2.of) == ((0.3, 1.2), "result")
    assert isinstance(noise, NoiseStep) and isinstance(noise2, NoiseStep)
    for one in (noise, noise2):
        assert (one.gaussian, one.poisson, one.mixed, one.none, one.grey) == (0.5, 0.5, 0, 0, 0.4)
    assert (noise.sigma, noise.scale) == ((1, 30), (0.05, 3))
    assert (noise2.sigma, noise2.scale) == ((1, 25), (0.05, 2.5))
    assert jpeg == JpegStep(quality=(30, 95))
    assert isinstance(last, EitherOrder) and last.probability == 0.5
    back, sinc = last.one
    assert isinstance(back, ResizeStep) and isinstance(sinc, BlurStep)
    assert back.of == "result" and back.kinds == ("area", "bilinear", "bicubic")
    assert (sinc.probability, sinc.sinc) == (0.8, 1)
    assert sinc.large_cutoff == sinc.small_cutoff == (math.pi / 3, math.pi)
    assert last.other == (JpegStep(quality=(30, 95)),)


def test_esrgan_has_its_papers_numbers(recipes):
    """ESRGAN, sections 3.2, 3.3 and 4.1."""
    recipe = recipes["esrgan-classical"]
    psnr, gan = recipe.stages
    assert recipe.network == RRDBNetSettings("rrdbnet", 4, 64, 23, 32)
    assert recipe.degradation.settings(4) == classical(4)
    assert not recipe.degradation.sharpen and recipe.degradation.pool == 0
    assert recipe.data.patch == 128 and recipe.data.flips and recipe.data.rotations
    assert (recipe.seed, recipe.data.workers) == (0, 6)
    assert [stage.iterations for stage in recipe.stages] == [1_000_000, 400_000]
    assert [stage.batch for stage in recipe.stages] == [16, 16]
    assert [stage.ema for stage in recipe.stages] == [0, 0]
    assert [stage.optimiser.kind for stage in recipe.stages] == ["adam", "adam"]
    assert [stage.optimiser.learning_rate for stage in recipe.stages] == [2e-4, 1e-4]
    assert [stage.optimiser.betas for stage in recipe.stages] == [(0.9, 0.999)] * 2
    assert psnr.schedule.milestones == (200_000, 400_000, 600_000, 800_000)
    assert gan.schedule.milestones == (50_000, 100_000, 200_000, 300_000)
    assert {stage.schedule.gamma for stage in recipe.stages} == {0.5}
    assert psnr.pixel and psnr.pixel.weight == 1 and psnr.perceptual is None and psnr.gan is None
    assert gan.pixel and gan.pixel.weight == 1e-2
    assert gan.perceptual and gan.perceptual.layers == {"conv5_4": 1}
    assert (gan.perceptual.weight, gan.perceptual.distance) == (1, "l1")
    assert psnr.pixel.kind == gan.pixel.kind == "l1"
    assert gan.gan and gan.gan.relativistic
    assert (gan.gan.kind, gan.gan.weight) == ("vanilla", 5e-3)
    assert (gan.gan.discriminator.kind, gan.gan.discriminator.features) == ("vgg", 64)
    losses = (psnr.pixel, gan.pixel, gan.perceptual, gan.gan)
    assert not any(loss.sharpen for loss in losses)


def test_rcan_has_its_papers_numbers(recipes):
    """RCAN, sections 3.4 and 4.1."""
    recipe = recipes["rcan-x4"]
    (stage,) = recipe.stages
    assert recipe.network == RCANSettings("rcan", 4, 64, groups=10, blocks=20, reduction=16)
    assert recipe.degradation.settings(4) == classical(4)
    assert not recipe.degradation.sharpen and recipe.degradation.pool == 0
    assert recipe.data.patch == 4 * 48 and recipe.data.flips and recipe.data.rotations
    assert (stage.iterations, stage.batch, stage.ema) == (1_000_000, 16, 0)
    adam = stage.optimiser
    assert (adam.kind, adam.learning_rate, adam.betas) == ("adam", 1e-4, (0.9, 0.999))
    assert stage.schedule.milestones == (200_000, 400_000, 600_000, 800_000)
    assert stage.schedule.gamma == 0.5
    assert stage.pixel and (stage.pixel.kind, stage.pixel.weight) == ("l1", 1)
    assert not stage.pixel.sharpen and stage.perceptual is None and stage.gan is None


def test_the_generic_recipe_is_rcan_then_esrgans_gan_with_samsungs_chain(recipes):
    recipe, esrgan, rcan = (recipes[name] for name in ("generic-x4", "esrgan-classical", "rcan-x4"))
    assert (recipe.network, recipe.seed) == (rcan.network, rcan.seed)
    assert replace(recipe.data, sources=esrgan.data.sources) == esrgan.data
    for stage, its in zip(recipe.stages, (rcan.stages[0], esrgan.stages[1]), strict=True):
        assert stage.ema == 0.999
        assert replace(stage, name=its.name, ema=its.ema) == its
    assert not recipe.degradation.sharpen
    assert recipe.degradation.pool == 0
    chain = recipe.degradation.chain
    assert recipe.degradation.settings(4) == generic(4)
    assert not isinstance(chain, str)
    blur, resize, noise = chain
    assert isinstance(blur, BlurStep) and (blur.sizes, blur.sigma) == ((15, 15), (0.2, 3))
    assert isinstance(resize, ResizeStep)
    assert resize.kinds == ("nearest", "bilinear", "bicubic", "lanczos")
    assert isinstance(noise, NoiseStep) and (noise.sigma, noise.peak) == ((0, 5), (50, 150))


def test_the_standard_gan_differs_from_the_relativistic_one_in_this_alone(recipes):
    recipe, relativistic = recipes["generic-x4-standard"], recipes["generic-x4"]
    assert isinstance(recipe.start, Path) and recipe.start.name == "generic-x4-psnr.safetensors"
    (stage,), other = recipe.stages, relativistic.stages[1]
    assert stage.gan and other.gan
    assert (stage.gan.relativistic, other.gan.relativistic) == (False, True)
    assert replace(stage, gan=replace(stage.gan, relativistic=True)) == other
    for part in ("network", "data", "degradation", "seed"):
        assert getattr(recipe, part) == getattr(relativistic, part)


def test_the_mobile_recipe_fine_tunes_the_generic_network_with_pairs(recipes):
    recipe, generic = recipes["mobile-x4"], recipes["generic-x4"]
    assert recipe.network == generic.network
    assert isinstance(recipe.start, Path) and recipe.start.name == "generic-x4-gan.safetensors"
    (source,) = recipe.data.sources
    assert source.low is not None
    assert (source.path.name, source.low.name) == ("teacher", PHONE_FOLDER)
    assert recipe.degradation.settings(4) is None
    assert recipe.data.patch <= 4 * Registration().size
    (stage,), its = recipe.stages, generic.stages[1]
    assert (stage.pixel, stage.perceptual, stage.gan) == (its.pixel, its.perceptual, its.gan)
    assert stage.optimiser.learning_rate == its.optimiser.learning_rate / 10


def test_the_realsr_recipe_has_the_numbers_of_its_option_file(recipes):
    """train_kernel_noise.yml of RealSR."""
    recipe, esrgan = recipes["realsr-x4"], recipes["esrgan-classical"]
    (stage,) = recipe.stages
    assert recipe.network == esrgan.network and recipe.seed == 10
    assert recipe.data.patch == 128 and recipe.data.flips and recipe.data.rotations
    kernel, resize, noise = recipe.degradation.chain
    assert isinstance(kernel, KernelStep) and kernel.pool.name == "kernels"
    assert isinstance(resize, ResizeStep) and resize.kinds == ("nearest",)
    assert noise == InjectedNoiseStep(pool=noise.pool) and noise.pool.name == "noise"
    assert not recipe.degradation.sharpen and recipe.degradation.pool == 0
    assert (stage.iterations, stage.batch, stage.ema) == (60_001, 16, 0)
    assert stage.schedule.milestones == (5_000, 10_000, 20_000, 30_000)
    gan = esrgan.stages[1]
    losses = (stage.optimiser, stage.pixel, stage.perceptual)
    assert losses == (gan.optimiser, gan.pixel, gan.perceptual)
    assert gan.gan and stage.gan == replace(gan.gan, discriminator=DiscriminatorSettings("patch"))


@pytest.mark.parametrize("name", ["tiny-x4", "tiny-srvgg-x4"])
def test_tiny_recipes_need_no_file_but_photographs(recipes, name):
    recipe = recipes[name]
    assert recipe.start is None and recipe.validation is None
    assert all(stage.perceptual is None for stage in recipe.stages)
    assert recipe.stages[1].gan is not None
    assert sum(stage.iterations for stage in recipe.stages) <= 500
    assert sum(each.numel() for each in build(recipe.network.spec).parameters()) < 500_000
