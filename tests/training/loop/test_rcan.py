"""The bundled recipe for RCAN at a toy size: trained, exported and used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from upscale_training.loop import Exported, Logged
from upscale_training.recipe.reading import read_recipe
from upscale_training.recipes import bundled

from tests.training.loop.runs import collected
from upscale import Upscaler
from upscale.checkpoints import read_state_dict
from upscale.models import RCANSpec, detect

SMALL = [
    "network.features=8",
    "network.groups=1",
    "network.blocks=2",
    "network.reduction=4",
    "data.margin=0",
    "data.workers=0",
    "stages.0.iterations=3",
    "stages.0.batch=2",
    "stages.0.optimiser.learning_rate=1e-3",
    "logging.every=1",
]


def trained(images, folder, scale, *more):
    recipe = read_recipe(
        bundled()["rcan-x4"],
        [*SMALL, f"data.sources.0.path={images}", f"network.scale={scale}",
         f"data.patch={scale * 4}", *more],
    )  # fmt: skip
    events = collected(recipe, folder)
    assert all(event.losses["pixel"] > 0 for event in events if isinstance(event, Logged))
    return next(event.path for event in events if isinstance(event, Exported))


@pytest.mark.parametrize("scale", [3, 4])
def test_a_trained_rcan_upscales_in_exact_tiles(images, tmp_path, scale):
    path = trained(images, tmp_path, scale)
    found = detect(read_state_dict(path)).spec
    assert found == RCANSpec(scale, features=8, groups=1, blocks=2, reduction=4)
    image = np.random.default_rng(0).random((150, 250, 3), np.float32)
    whole = Upscaler(path, device="cpu", tile=0).run(image)
    tiled = Upscaler(path, device="cpu", tile=16).run(image)
    assert tiled.pixels.shape == (150 * scale, 250 * scale, 3)
    assert tiled.report.tiling == "exact" and tiled.report.tiles > whole.report.tiles
    assert np.abs(tiled.pixels - whole.pixels).max() < 1e-4


def test_the_mean_of_the_images_is_not_trained(images, tmp_path):
    state = read_state_dict(trained(images, tmp_path, 2))
    assert torch.equal(state["add_mean.bias"], 255 * torch.tensor([0.4488, 0.4371, 0.4040]))
    assert torch.equal(state["sub_mean.bias"], -state["add_mean.bias"])


def test_a_network_starts_from_one_of_another_scale(images, tmp_path):
    """Section 4.1 of the paper: x4 starts from x2."""
    first = trained(images, tmp_path / "x2", 2)
    rate = "stages.0.optimiser.learning_rate=1e-12"
    second = trained(images, tmp_path / "x4", 4, f"start={first}", rate)
    old, new = read_state_dict(first), read_state_dict(second)
    assert torch.allclose(old["body.0.body.1.body.0.weight"], new["body.0.body.1.body.0.weight"])
    assert {"tail.0.2.weight"} <= new.keys() - old.keys()
