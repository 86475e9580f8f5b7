"""Degraded samples: found by name or recipe, sampled by number or name, replayed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from upscale_training.degradation import apply, real_esrgan, sample, sharpen
from upscale_training.degradation.operations import Jpeg
from upscale_training.degraded_sample import (
    CHAINS,
    DegradationSampler,
    DegradedSample,
    divisible,
    find_sampler,
    read_descriptions,
)
from upscale_training.loop.pairs import sample_degradations
from upscale_training.recipe.settings import DegradationRecipe

from upscale.errors import ImageError, UsageError

RECIPE = """
name: trial
seed: 11
network: {architecture: rrdbnet, scale: 2, features: 8, blocks: 1, growth: 4}
data: {sources: [{path: photos}], patch: 32}
degradation: {chain: generic, mode: corrected, sharpen: true}
stages:
  - {name: one, iterations: 1, batch: 1, optimiser: {learning_rate: 1e-4}}
"""


@pytest.fixture
def hr():
    """A smooth image (40, 56, 3) in 8 bits."""
    rows, columns = np.mgrid[:40, :56]
    return np.dstack([rows * 6, columns * 4, rows + columns]).astype(np.uint8)


def test_a_sample_is_sharpened_and_degraded(hr):
    [degradation] = sample(real_esrgan(), 1, np.random.default_rng(1))
    images = torch.from_numpy(hr).permute(2, 0, 1)[None].float() / 255
    for sharpened in (True, False):
        made = DegradedSample(degradation, sharpened).make(hr)
        expected = apply(sharpen(images) if sharpened else images, [degradation])
        assert made.dtype == np.uint8 and made.shape == (10, 14, 3)
        assert np.array_equal(made, (expected[0] * 255).round().permute(1, 2, 0).numpy())


@pytest.mark.parametrize("chain", CHAINS)
def test_samples_depend_on_their_number_and_the_seed(chain):
    sampler = find_sampler(chain, seed=5)
    again = DegradationSampler(CHAINS[chain], 4, 5)
    assert [sampler.sample(n) for n in range(5)] == [again.sample(n) for n in range(5)]
    if chain != "classical":
        assert sampler.sample(0) != sampler.sample(1)
        assert sampler.sample(0) != find_sampler(chain, seed=6).sample(0)


@pytest.mark.parametrize("mode", ["corrected", "official"])
def test_samples_are_those_of_training(mode):
    sampler = find_sampler("real-esrgan", mode=mode, seed=7)
    settings = real_esrgan(4, mode)
    in_training = (
        sample_degradations(settings, 7, [3])
        if mode == "official"
        else sample_degradations(settings, 7, range(5))
    )
    expected = in_training[0 if mode == "official" else 3]
    assert sampler.sample(3) == DegradedSample(expected, sharpen=True)


def test_names_give_samples_like_numbers():
    sampler = find_sampler("real-esrgan")
    assert sampler.sample("a/b") == find_sampler("real-esrgan").sample("a/b")
    assert sampler.sample("a/b") != sampler.sample("a/c")
    assert sampler.sample("\udcff") != sampler.sample("a")  # a name that is not UTF-8


def test_only_real_esrgan_sharpens_first():
    assert {chain: found.sharpen for chain, found in CHAINS.items()} == {
        "real-esrgan": True,
        "classical": False,
        "generic": False,
    }


def test_chain_scale_and_seed_of_a_recipe_can_be_overridden(tmp_path):
    path = tmp_path / "trial.yaml"
    path.write_text(RECIPE)
    found = find_sampler(str(path))
    assert found == DegradationSampler(DegradationRecipe("generic", sharpen=True), 2, 11)
    assert find_sampler(str(path), scale=3, seed=0) == DegradationSampler(found.recipe, 3, 0)


def test_impossible_chains_raise_an_error(tmp_path):
    with pytest.raises(UsageError, match="did you mean classical"):
        find_sampler("clasical")
    with pytest.raises(UsageError, match="chains are real-esrgan, classical, generic"):
        find_sampler("none")
    with pytest.raises(UsageError, match="basicsr cannot resize by nearest"):
        find_sampler("generic", mode="official")
    path = tmp_path / "pairs.yaml"
    path.write_text(
        RECIPE.replace("path: photos", "path: a, low: b").replace(
            "{chain: generic, mode: corrected, sharpen: true}", "{chain: none}"
        )
    )
    with pytest.raises(UsageError, match="degrades nothing"):
        find_sampler(str(path))


def described(path, *extra):
    samples = [find_sampler("real-esrgan", seed=seed).sample(0) for seed in (1, 2)]
    lines = [json.dumps(each.as_dict() | dict(extra)) for each in samples]
    path.write_text("\n".join(lines) + "\n\n")
    return samples


def test_descriptions_are_read_from_one_or_several_lines(tmp_path):
    path = tmp_path / "samples.jsonl"
    samples = described(path, ("input", "x.png"), ("crop", [1, 2, 30, 40]))
    found = read_descriptions(path)
    assert [each.sample for each in found] == samples
    assert found[0].crop == (1, 2, 30, 40)
    path.write_text(json.dumps(samples[0].as_dict(), indent=2))
    [only] = read_descriptions(path)
    assert (only.sample, only.crop) == (samples[0], None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"[]",
        b"3",
        b"not json",
        b"\xff\xfe",
        b'{"mode": "corrected"}',
        b'{"mode": "corrected", "operations": [], "sharpen": 1}',
        b'{"mode": "corrected", "operations": [], "crop": [1, 2, 3]}',
        b'{"mode": "corrected", "operations": [], "crop": [1, 2, 3, "4"]}',
        b'{"mode": "corrected", "operations": []}\n{"mode": "corrected"',
        b"[" * 100_000,
    ],
)
def test_files_without_descriptions_raise_an_error_of_one_line(tmp_path, content):
    path = tmp_path / "samples.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"samples.jsonl: ") as refused:
        read_descriptions(path)
    assert "\n" not in str(refused.value)
    with pytest.raises(UsageError, match="cannot be read"):
        read_descriptions(tmp_path / "absent.jsonl")


def test_images_are_cropped_to_a_multiple_of_the_scale(hr):
    assert divisible(hr, 3, "a.png").shape == (39, 54, 3)
    assert np.array_equal(divisible(hr, 3, "a.png"), hr[:39, :54])
    with pytest.raises(ImageError, match=r"a.png: smaller than 41 pixels"):
        divisible(hr, 41, "a.png")


def test_an_official_sample_does_not_depend_on_others(hr):
    sampler = find_sampler("real-esrgan", mode="official")
    assert np.array_equal(sampler.sample(3).make(hr), sampler.sample(3).make(hr))
    assert DegradedSample(sampler.sample(3).degradation).degradation.mode == "official"
    assert any(isinstance(each, Jpeg) for each in sampler.sample(3).degradation.operations)
