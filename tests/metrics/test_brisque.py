from __future__ import annotations

import math

import numpy as np
import pytest

from upscale.metrics import MetricError
from upscale.metrics.brisque import _features, _model, brisque

DOG_FEATURES = [
    *(1.921, 0.19663, 0.65, 0.05254, 0.02812, 0.06394, 0.646, 0.06365, 0.02573),
    *(0.06961, 0.619, 0.01858, 0.04164, 0.05511, 0.621, -0.00315, 0.04948, 0.04719),
    *(2.036, 0.25292, 0.672, 0.01534, 0.06971, 0.08328, 0.654, 0.04154, 0.06113),
    *(0.09886, 0.654, 0.00398, 0.07589, 0.07948, 0.651, -0.00329, 0.07947, 0.07649),
]
"""`cv2.quality.QualityBRISQUE_computeFeatures` of opencv-contrib-python 4.12.0."""

SCORES = {"dog": 6.1378, "waves": 15.0834, "flowers": 9.6737, "city": 22.8547}
"""Scores by libsvm 3.36 for such features, with the model of the wheel brisque 0.2.0."""


def reference_score(features):
    """A support vector regression, vector by vector."""
    model = _model()
    total = model.bias
    for vector, weight in zip(model.vectors.tolist(), model.weights.tolist(), strict=True):
        distance = 0.0
        for place, low, high, feature in zip(vector, model.low, model.high, features, strict=True):
            distance += (-1 + 2 * (feature - low) / (high - low) - place) ** 2
        total += weight * math.exp(-0.05 * distance)
    return total


def test_features_agree_with_opencv(eval_photo):
    pixels = eval_photo("dog").astype(np.float64)
    grey = np.rint(0.299 * pixels[..., 0] + 0.587 * pixels[..., 1] + 0.114 * pixels[..., 2])
    np.testing.assert_allclose(_features(grey / 255), DOG_FEATURES[:18], atol=1.1e-3)


@pytest.mark.parametrize("name", list(SCORES))
def test_score_agrees_with_opencv_and_libsvm(eval_photo, name):
    assert brisque(eval_photo(name)) == pytest.approx(SCORES[name], abs=0.05)


def test_regression_agrees_with_libsvm():
    assert reference_score(DOG_FEATURES) == pytest.approx(SCORES["dog"], abs=2e-3)
    assert len(_model().weights) == 770


@pytest.mark.parametrize("kind", ["noise", "blur", "jpeg"])
def test_score_rises_with_distortion(photos, damages, kind):
    for pixels in photos.values():
        scores = [brisque(damages[kind](pixels, step)) for step in (1, 2, 3, 4)]
        assert scores == sorted(scores)


def test_score_is_independent_of_depth_and_grey_layout(photo):
    expected = brisque(photo)
    assert brisque(photo.astype(np.uint16) * 257) == expected
    assert brisque((photo / 255).astype(np.float32)) == pytest.approx(expected, abs=0.01)
    grey = photo[..., 1]
    assert brisque(grey) == brisque(grey[..., None])
    assert brisque(np.dstack([grey] * 3)) == pytest.approx(brisque(grey), abs=1e-6)


def test_border_is_ignored(photo):
    framed = photo.copy()
    framed[:5], framed[-5:] = 0, 0
    assert brisque(framed, border=5) == brisque(photo[5:-5, 5:-5])


def test_small_and_flat_images_are_rejected(photo):
    with pytest.raises(MetricError, match="20x15 is smaller than 16x16"):
        brisque(photo[:15, :20])
    assert math.isfinite(brisque(photo[:17, :16]))
    with pytest.raises(MetricError, match="flat"):
        brisque(np.zeros((64, 64), np.uint8))
