"""Pools in recipes: their paths, and what is checked before a training begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from upscale_training.loop.preflight import check
from upscale_training.recipe import DegradationRecipe
from upscale_training.recipe.reading import read_recipe
from upscale_training.recipe.writing import to_yaml

from tests.training.loop.runs import collected, make_images, one_stage
from upscale.errors import TrainingError

CHAIN = (
    "[{do: kernel, pool: kernels}, "
    "{do: resize, up: 0, down: 0, keep: 1, of: result, kinds: [nearest]}, "
    "{do: injected_noise, pool: noise}]"
)


@pytest.fixture
def recipe(tmp_path) -> Path:
    """A recipe beside the pools, of one iteration."""
    make_images(tmp_path / "images")
    plain = one_stage(tmp_path / "images", degradation=DegradationRecipe("classical", pool=0))
    text = to_yaml(plain).replace("chain: classical", f"chain: {CHAIN}")
    (tmp_path / "mine.yaml").write_text(text)
    return tmp_path / "mine.yaml"


def test_pools_are_relative_to_the_recipe_and_stay_so_when_it_is_written(
    recipe, tmp_path, monkeypatch
):
    read = read_recipe(recipe)
    kernel, _, noise = read.degradation.chain
    assert (kernel.pool, noise.pool) == (tmp_path / "kernels", tmp_path / "noise")
    (tmp_path / "again.yaml").write_text(to_yaml(read))
    assert read_recipe(tmp_path / "again.yaml") == read
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    changed = read_recipe(recipe, ["degradation.chain.0.pool=k.npy"])
    assert changed.degradation.chain[0].pool == tmp_path / "elsewhere/k.npy"


def test_a_missing_pool_is_named_before_the_training(recipe, kernels, tmp_path):
    for run in (lambda: check(read_recipe(recipe), "cpu"),
                lambda: collected(read_recipe(recipe), tmp_path / "run")):  # fmt: skip
        with pytest.raises(
            TrainingError, match=r"noise: cannot be read .*; name a folder of patch"
        ):
            run()


def test_a_network_trains_with_pools(recipe, kernels, noise, tmp_path):
    assert "noise" not in check(read_recipe(recipe), "cpu")
    collected(read_recipe(recipe), tmp_path / "run")
    assert (tmp_path / "run/tiny-psnr.safetensors").is_file()


def test_an_empty_path_is_refused(recipe):
    with pytest.raises(TrainingError, match=r"mine\.yaml:\d+: degradation.chain.0.*: is empty"):
        recipe.write_text(recipe.read_text().replace("pool: kernels", "pool: ''"))
        read_recipe(recipe)


def test_a_kernel_without_its_resize_is_reported_with_its_line(recipe):
    recipe.write_text(recipe.read_text().replace("kinds: [nearest]", "kinds: [bicubic]"))
    with pytest.raises(
        TrainingError, match=r"mine\.yaml:\d+: degradation.chain: .*must be followed"
    ):
        read_recipe(recipe)
