from __future__ import annotations

import math

import numpy as np
import pytest

from upscale.metrics import MetricError
from upscale.metrics.brisque import _features, _model, brisque

DOG_FEATURES = [
    *(2.14, 0.25501, 0.698, 0.06836, 0.04623, 0.10425, 0.71, 0.05128, 0.05173),
    *(0.09477, 0.674, 0.03954, 0.05987, 0.09479, 0.698, -0.04562, 0.09481, 0.05566),
    *(2.174, 0.29808, 0.696, 0.02536, 0.09095, 0.11671, 0.703, -0.00029, 0.10232),
    *(0.10203, 0.682, 0.02233, 0.09167, 0.11446, 0.718, -0.03008, 0.1122, 0.08294),
]
"""`cv2.quality.QualityBRISQUE_computeFeatures` of opencv-contrib-python 4.12.0."""

SCORES = {"dog": 6.6490, "waves": 15.3392, "flowers": 11.6585, "city": 19.4019}
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
