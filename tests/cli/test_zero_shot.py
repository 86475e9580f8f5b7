"""`upscale --zero-shot`: every kind of image, kernels, seeds, and requests that cannot work."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import upscale_training.zero_shot as training


@pytest.fixture
def quick(monkeypatch):
    """Train for two iterations; return the settings of each training."""
    seen = []
    train = training.train_on

    def train_quickly(image, settings, progress=None):
        seen.append(settings)
        return train(image, replace(settings, iterations=2), progress)

    monkeypatch.setattr(training, "train_on", train_quickly)
    return seen


def written(path: str, shape: tuple[int, ...], dtype: type = np.uint8) -> None:
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)
    assert cv2.imwrite(path, values)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((24, 20, 3), np.uint8), ((24, 20), np.uint8), ((24, 20, 3), np.uint16),
     ((24, 20, 4), np.uint8)],
)  # fmt: skip
def test_every_kind_of_image_keeps_its_kind(real_call, quick, shape, dtype):
    written("in.png", shape, dtype)
    ended = real_call("in.png", "--zero-shot", "--json", "--device", "cpu")
    assert ended.code == 0, ended.err
    record = json.loads(ended.out)
    assert (record["model"], record["size_out"]) == ("zero-shot", [40, 48])
    result = cv2.imread("in_x2.png", cv2.IMREAD_UNCHANGED)
    assert (result.shape, result.dtype) == ((48, 40, *shape[2:]), dtype)
    small = result.reshape(24, 2, 20, 2, -1).mean((1, 3)).squeeze()
    original = cv2.imread("in.png", cv2.IMREAD_UNCHANGED).astype(float)
    assert np.corrcoef(small.ravel(), original.ravel())[0, 1] > 0.9


def test_each_image_of_a_folder_gets_its_own_network(real_call, quick, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        written(f"in/{name}.png", (20, 20, 3))
    written("in/tiny.png", (9, 20, 3))
    ended = real_call("in", "-o", "out/", "--zero-shot", "--scale", "3", "--device", "cpu")
    assert ended.code == 3
    assert "tiny.png: has 20x9 pixels; a network can only be trained" in ended.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    assert [settings.scale for settings in quick] == [4, 4, 4]
    assert cv2.imread("out/a.png").shape == (60, 60, 3)


def test_a_kernel_and_a_seed_reach_the_training(real_call, quick):
    written("in.png", (24, 20, 3))
    kernel = np.zeros((5, 5))
    kernel[2, 2:4] = 0.5
    np.save("k.npy", kernel)
    real_call("in.png", "--zero-shot", "--kernel", "k.npy", "--seed", "7", "--device", "cpu")
    (settings,) = quick
    np.testing.assert_allclose(settings.kernel, kernel)
    assert (settings.seed, settings.estimates_kernel) == (7, False)


def test_a_kernel_can_be_estimated(real_call, quick, monkeypatch):
    written("in.png", (90, 90, 3))
    estimate = "upscale_training.zero_shot.training.estimate_kernel"
    asked = []

    def fixed(image, settings, progress):
        asked.append((image.dtype, settings.scale))
        return np.ones((3, 3)) / 9

    monkeypatch.setattr(estimate, fixed)
    ended = real_call("in.png", "--zero-shot", "--kernel", "estimate", "--device", "cpu")
    assert (ended.code, asked) == (0, [(np.uint8, 2)])


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--zero-shot", "-n", "x"), 2, "--model and --zero-shot exclude each other"),
        (("--zero-shot", "--denoise", "1"), 2, "--zero-shot and --denoise exclude each other"),
        (("--zero-shot", "--normal-map"), 2, "--zero-shot and --normal-map exclude each other"),
        (("--zero-shot", "--kernel", "k.npy", "--tta"), 2, "a flipped image has another kernel"),
        (("--kernel", "k.npy"), 2, "--kernel needs --zero-shot"),
        (("--zero-shot", "--kernel", "missing.npy"), 1, "missing.npy: no kernel can be read"),
        (("--zero-shot", "--kernel", "several.npy"), 2, "several.npy: contains several kernels"),
    ],
)
def test_impossible_requests_are_one_line(real_call, quick, flags, code, message):
    written("in.png", (24, 20, 3))
    np.save("several.npy", np.ones((2, 3, 3)))
    ended = real_call("in.png", *flags, "-o", "out.png", "--device", "cpu")
    assert ended.code == code
    assert message in ended.err
    assert cv2.imread("out.png") is None
