from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from upscale.metrics import MetricError, flicker


@pytest.fixture(scope="module")
def texture(eval_photo) -> np.ndarray:
    return eval_photo("city")[..., 1]


def high(plane: np.ndarray) -> np.ndarray:
    plane = plane.astype(np.float64)
    return plane - cv2.GaussianBlur(plane, (0, 0), 2)


def noisy(plane: np.ndarray, sigma: float, count: int = 4) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [plane + generator.normal(0, sigma, plane.shape) for _ in range(count)]


def pan(plane: np.ndarray, across: float, down: float, count: int = 4) -> list[np.ndarray]:
    """Frames of 160x128 of a camera that moves."""
    moves = [np.float64([[1, 0, -40 - across * i], [0, 1, -40 - down * i]]) for i in range(count)]
    return [cv2.warpAffine(plane, move, (160, 128), flags=cv2.INTER_CUBIC) for move in moves]


def test_frames_that_do_not_change_have_no_flicker(texture):
    assert flicker([texture] * 3) == 0


@pytest.mark.parametrize("sigma", [2, 5, 10])
def test_flicker_of_noise_is_its_share_of_the_detail(texture, sigma):
    crop = texture[:128, :160]
    noise = np.square(high(np.random.default_rng(1).normal(0, sigma, (400, 400)))).mean()
    expected = math.sqrt(noise / (noise + np.square(high(crop)).mean()))
    assert flicker(noisy(crop, sigma), [crop] * 4) == pytest.approx(expected, rel=0.05)


def test_noise_alone_flickers_fully(texture):
    grey = np.full((128, 160), 128.0)
    assert flicker(noisy(grey, 10), [texture[:128, :160]] * 4) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("across", "down"), [(3, 0), (-2, 1), (1.4, 0.6)])
def test_motion_is_no_flicker(texture, across, down):
    soft = cv2.GaussianBlur(texture, (0, 0), 1)
    moving = pan(soft, across, down)
    assert flicker(moving) < 0.07
    assert flicker(moving, [moving[0]] * 4) > 0.5  # without the motion


def test_motion_of_a_smaller_source_is_scaled(texture):
    soft = cv2.GaussianBlur(texture, (0, 0), 1.5)
    large = pan(soft, 4, 2)
    small = [
        cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for frame in large
    ]
    assert flicker(large, small) < 0.1
    assert flicker(large, [small[0]] * 4) > 0.5  # as if nothing moved


def test_scene_cut_does_not_count(texture, eval_photo):
    other = eval_photo("night")[:128, :160, 1]
    crop = texture[:128, :160]
    assert flicker([crop, crop, other, other]) < 0.05


def test_frames_that_cannot_be_measured(texture):
    flat = np.full((64, 64), 90, np.uint8)
    for frames, guides, message in [
        ([texture], None, "needs two frames or more"),
        ([], None, "needs two frames or more"),
        ([texture, texture[1:]], None, "different sizes"),
        ([flat, flat], None, "no detail"),
        ([texture, texture], [texture], "different numbers of frames"),
        ([texture], [texture, texture], "different numbers of frames"),
    ]:
        with pytest.raises(MetricError, match=message):
            flicker(frames, guides)
