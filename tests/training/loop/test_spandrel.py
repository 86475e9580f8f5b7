"""Networks of spandrel, from the recipe to the upscaled image."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from upscale_training.loop import Note, StageStarted, train
from upscale_training.loop.networks import _checkpoint_activations
from upscale_training.networks.spandrel_network import SpandrelNetwork, SpandrelSpec
from upscale_training.recipe import (
    DataSettings,
    DegradationRecipe,
    OptimiserSettings,
    Source,
    SpandrelSettings,
    Stage,
    ValidationSet,
    ValidationSettings,
)
from upscale_training.recipe.reading import read_recipe
from upscale_training.recipe.writing import to_yaml

from tests.training.loop.runs import check_same, collected, longer, one_stage
from upscale import Upscaler
from upscale.checkpoints import read_state_dict
from upscale.errors import DependencyError, TrainingError

SWIN = {
    "img_size": 16, "window_size": 8, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2],
    "mlp_ratio": 2, "upsampler": "pixelshuffledirect", "resi_connection": "1conv",
}  # fmt: skip
OMNI = {"res_num": 1, "block_num": 1, "num_feat": 8}


@pytest.fixture
def spandrel():
    try:
        import spandrel
    except Exception as error:  # torchvision raises RuntimeError if it does not match torch
        pytest.skip(f"spandrel cannot be imported ({error})")
    return spandrel


def recipe(images, kind, scale, parameters, **changes):
    return one_stage(
        images,
        Stage("psnr", 2, OptimiserSettings(1e-3), batch=1, ema=0.5),
        network=SpandrelSettings(kind, scale=scale, parameters=parameters),
        data=DataSettings((Source(images),), patch=24, margin=0, workers=0),
        degradation=DegradationRecipe("classical", pool=0),
        **changes,
    )


@pytest.mark.parametrize(
    ("kind", "scale", "parameters"), [("SwinIR", 2, SWIN), ("OmniSR", 3, OMNI)]
)
def test_a_network_of_spandrel_is_trained_resumed_validated_and_used(
    spandrel, images, tmp_path, kind, scale, parameters
):
    validation = ValidationSettings((ValidationSet(images),), every=2, images=0)
    settings = recipe(images, kind, scale, parameters, validation=validation)
    file = tmp_path / "recipe.yaml"
    file.write_text(to_yaml(settings))
    assert read_recipe(file) == settings
    (exported,) = train(settings, tmp_path / "whole", device="cpu")
    train(longer(settings, 0, 1), tmp_path / "parts", device="cpu")
    assert StageStarted("psnr", 1, 2) in collected(settings, tmp_path / "parts")
    state = read_state_dict(exported)
    check_same(state, read_state_dict(tmp_path / "parts" / exported.name))

    loaded = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(state))
    assert loaded.architecture.id == kind
    image = np.random.default_rng(0).integers(0, 256, (39, 45, 3), np.uint8)
    result = Upscaler(str(exported), device="cpu", tile=32).run(image)
    assert result.pixels.shape == (39 * scale, 45 * scale, 3)
    assert result.report.tiling.startswith("blended")

    again = replace(longer(settings, 0, 1), start=exported)
    notes = [each.text for each in collected(again, tmp_path / "b") if isinstance(each, Note)]
    assert f"starts from {exported}" in notes


def test_gradients_are_the_same_when_activations_are_computed_again(spandrel):
    networks = []
    for again in (False, True):
        torch.manual_seed(0)
        network = SpandrelNetwork(SpandrelSpec("SwinIR", 2, {**SWIN, "drop_path_rate": 0.0}))
        assert len(network.blocks) == 2
        if again:
            _checkpoint_activations(network)
        network(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))).sum().backward()
        networks.append(network)
    one, other = (
        {name: each.grad for name, each in network.named_parameters()} for network in networks
    )
    check_same(one, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SpandrelSettings("SwimIR"), r"^network\.kind: SwimIR: spandrel has .*SwinIR"),
        (SpandrelSettings("SwinIR", parameters={"dept": 1}), r"^network\.parameters: .*no dept, "),
        (SpandrelSettings("SwinIR", parameters={"depths": "x"}), r"parameters: .*cannot be built"),
        (
            SpandrelSettings("OmniSR", scale=2, parameters=OMNI | {"up_scale": 4}),
            r"^network\.scale: spandrel would read the exported file as x4 .*not as x2",
        ),
        (
            SpandrelSettings("SwinIR", parameters=SWIN | {"img_size": 8}),
            r"^network\.parameters: spandrel could not read the exported file",
        ),
    ],
    ids=["kind", "name", "value", "scale", "keys"],
)
def test_a_network_that_could_not_be_used_later_is_refused_before_the_first_iteration(
    spandrel, images, tmp_path, settings, message
):
    with pytest.raises(TrainingError, match=message) as raised:
        train(replace(recipe(images, "", 2, {}), network=settings), tmp_path / "x", device="cpu")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "x" / "states").exists()


def test_a_missing_spandrel_is_named_before_the_first_iteration(images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(DependencyError, match=r"pip install 'upscale\[community\]'"):
        train(recipe(images, "SwinIR", 2, SWIN), tmp_path / "run", device="cpu")
