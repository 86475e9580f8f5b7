"""The step `injected_noise`: statistics of the pool, replayed, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from upscale_training.data.pixels import read_rgb
from upscale_training.degradation import Degradation, DegradationSettings, apply, sample
from upscale_training.degradation.steps import EitherOrder, JpegStep
from upscale_training.pools.noise import InjectedNoise, InjectedNoiseStep

from upscale.errors import TrainingError, UsageError


def chain(pool, probability=1.0):
    return DegradationSettings((InjectedNoiseStep(pool=pool, probability=probability),), 1)


def flat(count, height=32, width=32):
    return torch.full((count, 3, height, width), 128 / 255)


def test_the_noise_has_the_pools_deviation(noise):
    """The patches have 3 and 6 levels; parts of them are injected equally often."""
    degradations = sample(chain(noise), 200, np.random.default_rng(0))
    result = (apply(flat(200), degradations) - 128 / 255) * 255
    for sigma in (3, 6):
        of_patch = [f"/{sigma}.png" in each.operations[0].file for each in degradations]
        assert 70 < sum(of_patch) < 130
        found = result[torch.tensor(of_patch)].std()
        assert found == pytest.approx(read_rgb(noise / f"{sigma}.png").std((0, 1)).mean(), rel=0.02)


def test_the_noise_keeps_the_colour_of_the_image(noise):
    images = 0.2 + 0.6 * torch.rand(50, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    result = apply(images, sample(chain(noise), 50, np.random.default_rng(0)))
    assert ((result - images).mean((2, 3)).abs() * 255).max() < 0.1


def test_the_noise_is_a_part_of_its_patch(noise):
    degradation = sample(chain(noise), 1, np.random.default_rng(5))[0]
    (operation,) = degradation.operations
    patch = read_rgb(Path(operation.file)).astype(float)
    top, left = (int(share * (64 - 20 + 1)) for share in (operation.top, operation.left))
    part = patch[top : top + 20, left : left + 20]
    expected = (128 + part - part.mean((0, 1))).round().clip(0, 255)
    found = apply(flat(1, 20, 20), [degradation])[0].permute(1, 2, 0) * 255
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_parts_begin_anywhere_in_a_patch(noise):
    operations = [
        each.operations[0] for each in sample(chain(noise), 500, np.random.default_rng(1))
    ]
    for shares in ([each.top for each in operations], [each.left for each in operations]):
        assert min(shares) < 0.02 and max(shares) > 0.98
    assert all(isinstance(each, InjectedNoise) for each in operations)


def test_a_large_image_gets_noise_without_a_seam(noise):
    """A patch is continued by its mirror image, so that neighbours are as different as in it."""
    degradation = sample(chain(noise), 1, np.random.default_rng(0))[0]
    result = apply(flat(1, 200, 150), [degradation])[0, 0] * 255
    rows = (result[1:] - result[:-1]).abs().mean(1)
    assert rows[63] == 0 and rows[127] == 0
    assert float(result[:, 100:].std()) == pytest.approx(float(result[:, :50].std()), rel=0.1)


def test_a_description_gives_the_same_pixels_again(noise, photographs):
    degradations = sample(chain(noise), 4, np.random.default_rng(3))
    again = [Degradation.from_dict(json.loads(json.dumps(each.as_dict()))) for each in degradations]
    assert again == list(degradations)
    assert torch.equal(apply(photographs, again), apply(photographs, degradations))
    assert str(again[0]) in ("noise of 3.png", "noise of 6.png")


def test_labels_show_the_end_of_long_names():
    operation = InjectedNoise(f"/pool/{'a' * 40}_n012.png", "0" * 64, 0, 0)
    assert str(operation) == f"noise of …{'a' * 14}_n012.png"


def test_some_images_stay_clean(noise):
    degradations = sample(chain(noise, 0.25), 400, np.random.default_rng(0))
    assert 70 < sum(bool(each.operations) for each in degradations) < 130


def test_a_file_that_changed_is_not_replayed(noise, photographs):
    values = sample(chain(noise), 1, np.random.default_rng(0))[0].as_dict()
    values["operations"][0]["sha256"] = "0" * 64
    with pytest.raises(TrainingError, match="has changed since it was described"):
        apply(photographs[:1], [Degradation.from_dict(values)])


def test_the_official_mode_has_no_pools(noise):
    with pytest.raises(UsageError, match="basicsr cannot do injected_noise"):
        DegradationSettings((InjectedNoiseStep(pool=noise),), 1, "official")


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_pool_without_patches_is_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    nested = EitherOrder(one=(InjectedNoiseStep(pool=tmp_path / name),), other=(JpegStep(),))
    with pytest.raises(TrainingError, match=f"{name}: .*patches of noise"):
        DegradationSettings((nested,), 1).prepare()


def test_a_damaged_patch_is_named(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"nothing of the kind")
    with pytest.raises(TrainingError, match=r"bad\.png.*pool of noise"):
        chain(tmp_path).prepare()
