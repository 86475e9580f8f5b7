from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import avg_pool2d
from upscale_training.data.patches import PatchDataset
from upscale_training.loop.distributed import Processes
from upscale_training.loop.pairs import PairLoader
from upscale_training.loop.timing import Stopwatch
from upscale_training.recipe import DegradationRecipe

from tests.training.loop.runs import make_images, one_stage


@pytest.fixture
def recipe(tmp_path):
    found = one_stage(make_images(tmp_path), degradation=DegradationRecipe("classical", pool=0))
    return replace(found, data=replace(found.data, margin=8))


def pairs(recipe) -> PairLoader:
    processes = Processes("cpu", "fp32")
    dataset = PatchDataset(recipe.data, recipe.seed, recipe.network.scale)
    return PairLoader(recipe, recipe.stages[0], dataset, processes, Stopwatch(processes.device))


def test_both_images_of_a_pair_show_the_same_area_without_margin(recipe):
    found = pairs(recipe)
    for _ in range(6):
        pair = found.take()
        assert pair.hr.shape[1:] == (3, 16, 16) and pair.lr.shape[1:] == (3, 4, 4)
        small = avg_pool2d(pair.hr, 4)
        own = (pair.lr - small).abs().mean()
        others = (pair.lr - small.roll(1, 3)).abs().mean(), (pair.lr - small.flip(2)).abs().mean()
        assert own < 0.08 and own < min(others)


def test_margins_are_cut_off_alike_after_resuming(recipe):
    whole, paused = pairs(recipe), pairs(recipe)
    first = [whole.take() for _ in range(4)]
    paused.take()
    again = pairs(recipe)
    again.load_state_dict(paused.state_dict())
    for pair in first[1:]:
        assert torch.equal(again.take().lr, pair.lr)


def test_jpeg_blocks_start_anywhere(recipe):
    """Otherwise networks learn their position in a patch."""
    found = pairs(recipe)
    size = recipe.data.side // 4
    whole = torch.arange(size * size).reshape(1, 1, size, size).expand(1, 3, -1, -1)
    high = whole.repeat_interleave(4, 2).repeat_interleave(4, 3)
    corners = {int(found._crop(whole, high, [number])[0][0, 0, 0, 0]) for number in range(200)}
    assert len(corners) == 25
