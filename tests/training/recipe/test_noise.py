from __future__ import annotations

import cv2
import numpy as np
from upscale_training.recipes.noise import SIDE, main, noise


def test_noise_is_as_fine_as_pixels_and_sometimes_grey():
    generator = np.random.default_rng(1)
    images = [noise(generator).astype(float) for _ in range(40)]
    assert all(image.shape == (SIDE, SIDE, 3) for image in images)
    # of white noise neighbours are no more alike than pixels far apart
    alike = [np.corrcoef(p[:, :-1, 0].ravel(), p[:, 1:, 0].ravel())[0, 1] for p in images]
    assert 10 <= sum(abs(value) < 0.1 for value in alike) <= 30
    grain = [image - image.mean((0, 1)) for image in images]
    grey = [np.corrcoef(g[..., 0].ravel(), g[..., 2].ravel())[0, 1] > 0.9 for g in grain]
    assert 10 <= sum(grey) <= 30


def test_the_same_images_are_written_each_time(tmp_path):
    for folder in ("a", "b"):
        main(tmp_path / folder, 3)
    first, second = (
        [cv2.imread(str(tmp_path / folder / f"000{number}.png")) for number in range(3)]
        for folder in ("a", "b")
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], first[1])
