"""Optimisers of other packages, in runs that are resumed exactly."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from upscale_training.loop import Note, train
from upscale_training.loop.distributed import Processes
from upscale_training.loop.optimisers import make_optimiser
from upscale_training.loop.trained_network import TrainedNetwork
from upscale_training.loop.watch import CollapseWatch
from upscale_training.recipe import (
    DataSettings,
    DegradationRecipe,
    MixSettings,
    OptimiserSettings,
    PixelSettings,
    Source,
    SRVGGSettings,
    Stage,
)

from tests.training.loop.runs import check_same, make_images, one_stage
from upscale.errors import DependencyError

KINDS = {
    "schedule-free": OptimiserSettings(1e-2, "schedule-free", (0.9, 0.99)),
    "adan": OptimiserSettings(1e-3, "adan", (0.98, 0.92, 0.99), weight_decay=0.01),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("images"), side=24)


def weights(folder):
    (path,) = folder.glob("*-one.safetensors")
    return load_file(path)


def recipe_of(images, settings, iterations=4):
    stage = Stage("one", iterations, settings, batch=2, ema=0.5, more=(PixelSettings("ldl"),))
    recipe = one_stage(
        images,
        stage,
        network=SRVGGSettings(features=4, convolutions=1),
        data=DataSettings((Source(images),), 16, 0, workers=0, mix=MixSettings(0.3, 0.3, 0.4)),
        degradation=DegradationRecipe("classical", pool=0),
    )
    return replace(recipe, validation=None, saving=replace(recipe.saving, every=2))


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_with_mixtures_and_ldl_gives_the_weights_of_an_uninterrupted_one(
    images, tmp_path, kind
):
    pytest.importorskip("pytorch_optimizer")
    train(recipe_of(images, KINDS[kind]), tmp_path / "whole", device="cpu")
    train(recipe_of(images, KINDS[kind], iterations=2), tmp_path / "parts", device="cpu")
    train(recipe_of(images, KINDS[kind]), tmp_path / "parts", device="cpu")
    check_same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))


def test_the_schedule_free_optimiser_is_evaluated_with_its_averaged_weights():
    pytest.importorskip("pytorch_optimizer")
    torch.manual_seed(0)
    network = nn.Linear(3, 3)
    trained = TrainedNetwork(network, KINDS["schedule-free"], Processes("cpu", "fp32"))
    last = [network.weight.detach().clone()]
    for _ in range(3):
        trained.step([torch.ones(1, 3)], lambda batch: trained.run(batch).square().sum())
    before = network.weight.detach().clone()
    with trained.evaluated():
        averaged = network.weight.detach().clone()
    assert torch.equal(network.weight, before)
    # y = beta x + (1 - beta) z, for the average x and the last weights z
    last = trained._optimiser.state[network.weight]["z"]
    assert torch.allclose(0.9 * averaged + 0.1 * last, before, atol=1e-6)
    assert not torch.equal(averaged, before)


def test_other_optimisers_are_evaluated_as_they_are():
    network = nn.Linear(3, 3)
    trained = TrainedNetwork(network, OptimiserSettings(1e-3), Processes("cpu", "fp32"))
    with trained.evaluated():
        assert network.weight is next(network.parameters())


def test_a_missing_package_is_named_before_the_first_iteration(images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(
        DependencyError, match=r"stages\.0\.optimiser\.kind.*pytorch-optimizer"
    ) as raised:
        train(recipe_of(images, KINDS["adan"]), tmp_path / "run", device="cpu")
    assert "pip install 'upscale[optimisers]'" in str(raised.value)
    assert not list((tmp_path / "run").glob("states/*/0*"))


def test_the_wrong_number_of_betas_is_refused_with_an_example():
    with pytest.raises(ValueError, match=r"3 numbers for adan, as \[0.98, 0.92, 0.99\]"):
        OptimiserSettings(1e-3, "adan")
    with pytest.raises(ValueError, match="2 numbers for adam"):
        OptimiserSettings(1e-3, betas=(0.9, 0.9, 0.9))
    assert make_optimiser([nn.Parameter(torch.zeros(1))], OptimiserSettings(1e-3))


def test_a_drift_of_colours_and_a_collapse_are_reported():
    watch = CollapseWatch()
    assert watch.check({"shift": 0.3, "contrast": 0.2}) == []  # the first iterations
    assert watch.check({"shift": 0.005, "contrast": 0.9}) == []
    assert watch.check({"shift": 0.02, "contrast": 1.5}) == []
    (drift,) = watch.check({"shift": 0.08, "contrast": 0.6})
    assert drift.startswith("colours drift") and "0.080" in drift and "0.005" in drift
    (flat,) = watch.check({"shift": 0.01, "contrast": 0.3})
    assert flat.startswith("outputs turn flat") and "0.30" in flat


def test_a_run_whose_colours_drift_says_so(images, tmp_path):
    from upscale_training.losses import register_loss, unregister_loss

    register_loss("brighter", lambda output, target: -output.mean())
    try:
        stage = Stage("one", 8, OptimiserSettings(3e-2), batch=2, ema=0.5,
                      pixel=PixelSettings("brighter", sharpen=False))  # fmt: skip
        recipe = one_stage(
            images, stage, network=SRVGGSettings(features=4, convolutions=1),
            data=DataSettings((Source(images),), 16, 0, workers=0),
            degradation=DegradationRecipe("classical", pool=0),
        )  # fmt: skip
        notes = []
        train(replace(recipe, validation=None), tmp_path / "run", device="cpu", events=notes.append)
    finally:
        unregister_loss("brighter")
    texts = [each.text for each in notes if isinstance(each, Note)]
    assert any("one, iteration" in text and "colours drift" in text for text in texts)
