from __future__ import annotations

import statistics

import numpy as np
import pytest
import scipy.ndimage

from upscale.metrics.piqe import piqe

SCORES = {"dog": 20.521206, "baby": 21.128788, "city": 46.978998}
"""Scores by pypiqe 1.2 for photographs that contain both black and white."""


def reference_piqe(grey):
    """Compute PIQE block by block, as its documentation describes."""
    plane = grey.astype(np.float64)
    steps = np.arange(7) - 3
    weights = np.exp(-(steps**2) / (2 * (7 / 6) ** 2))
    weights = np.outer(weights, weights) / weights.sum() ** 2
    mean = scipy.ndimage.convolve(plane, weights, mode="nearest")
    square = scipy.ndimage.convolve(plane * plane, weights, mode="nearest")
    plane = (plane - mean) / (np.sqrt(np.abs(square - mean * mean)) + 1)
    total, active = 0.0, 0
    for top in range(0, plane.shape[0], 16):
        for left in range(0, plane.shape[1], 16):
            block = plane[top : top + 16, left : left + 16]
            variance = statistics.variance(block.ravel().tolist())
            if variance <= 0.1:
                continue
            active += 1
            edges = [block[0], block[15], block[:, 0], block[:, 15]]
            pieces = [edge[start : start + 6].tolist() for edge in edges for start in range(11)]
            if min(map(statistics.stdev, pieces)) < 0.1:
                total += 1 - variance
            centre = statistics.stdev(block[:, 7:9].ravel().tolist())
            around = statistics.stdev(np.delete(block, [7, 9], axis=1).ravel().tolist())
            deviation, ratio = variance**0.5, centre / around
            if deviation > 2 * abs(deviation - ratio) / max(deviation, ratio):
                total += variance
    return 100 * (total + 1) / (active + 1)


@pytest.mark.parametrize("name", list(SCORES))
def test_score_agrees_with_pypiqe(eval_photo, name):
    pixels = eval_photo(name)[:256]
    pixels[0, 0], pixels[0, 1] = 0, 255  # so that pypiqe does not stretch them
    assert piqe(pixels) == pytest.approx(SCORES[name], abs=1e-3)


@pytest.mark.parametrize("kind", ["noise", "blur", "jpeg"])
def test_score_agrees_with_the_definition(photo, damages, kind):
    grey = damages[kind](photo, 3)[:160, :208, 1]
    assert piqe(grey) == pytest.approx(reference_piqe(grey), abs=1e-9)


def test_incomplete_blocks_are_padded(photo):
    grey = photo[:150, :205, 1]
    whole = np.pad(grey, ((0, 10), (0, 3)), mode="edge")
    assert piqe(grey) == piqe(whole) == pytest.approx(reference_piqe(whole), abs=1e-9)


@pytest.mark.parametrize("kind", ["noise", "blur"])
def test_score_rises_with_distortion(photos, damages, kind):
    for pixels in photos.values():
        scores = [piqe(damages[kind](pixels, step)) for step in (1, 2, 3, 4)]
        assert scores == sorted(scores)


def test_mean_score_rises_with_compression(photos, damages):
    scores = [
        np.mean([piqe(damages["jpeg"](pixels, step)) for pixels in photos.values()])
        for step in (2, 3, 4)
    ]
    assert scores == sorted(scores)


def test_score_is_independent_of_depth_and_grey_layout(photo):
    expected = piqe(photo)
    assert piqe(photo.astype(np.uint16) * 257) == expected
    assert piqe((photo / 255).astype(np.float32)) == pytest.approx(expected, abs=0.01)
    grey = photo[..., 1]
    assert piqe(grey) == piqe(grey[..., None]) == pytest.approx(piqe(np.dstack([grey] * 3)))


def test_border_is_ignored(photo):
    framed = photo.copy()
    framed[:5], framed[-5:] = 0, 0
    assert piqe(framed, border=5) == piqe(photo[5:-5, 5:-5])


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (64, 64)])
def test_flat_images_score_100(shape):
    assert piqe(np.full(shape, 77, np.uint8)) == 100
