from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import avg_pool2d
from upscale_training.data.patches import PatchDataset
from upscale_training.data.pixels import read_rgb, write_png
from upscale_training.loop.distributed import Processes
from upscale_training.loop.pairs import PairLoader
from upscale_training.loop.timing import Stopwatch
from upscale_training.recipe import DegradationRecipe, Source

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


def test_pairs_of_files_and_degraded_images_share_a_batch_in_the_order_of_samples(
    recipe, tmp_path_factory
):
    high = Path(recipe.data.sources[0].path)
    low = tmp_path_factory.mktemp("low")
    for file in sorted(high.glob("*.png")):
        write_png(read_rgb(file)[1::4, 2::4].copy(), low / file.name)
    mixed = replace(recipe.data, sources=(*recipe.data.sources, Source(high, low)))
    stages = (replace(recipe.stages[0], batch=10),)
    found = pairs(replace(recipe, data=mixed, stages=stages)).take()
    dataset = PatchDataset(mixed, recipe.seed, 4)
    samples = [dataset[number] for number in range(10)]
    kinds = [sample.lr is not None for sample in samples]
    assert 0 < sum(kinds) < 10
    for index, sample in enumerate(samples):
        if sample.lr is not None:
            assert torch.equal(found.hr[index], sample.hr.float() / 255)
            assert torch.equal(found.lr[index], sample.lr.float() / 255)
        else:
            assert sample.hr.shape[-1] == 32
            windows = sample.hr.float().div(255).unfold(1, 16, 4).unfold(2, 16, 4)
            assert (windows.permute(1, 2, 0, 3, 4) == found.hr[index]).flatten(2).all(2).any()
