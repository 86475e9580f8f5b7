from __future__ import annotations

import cv2
import pytest

from upscale.selection.patches import patches_of
from upscale.selection.spectrum import sharpness_of


def test_blur_lowers_the_sharpness_in_order(photo):
    blurs = [photo, *(cv2.GaussianBlur(photo, (0, 0), sigma) for sigma in (0.5, 0.8))]
    measured = [sharpness_of(patches_of(pixels)) for pixels in blurs]
    assert measured == sorted(measured, reverse=True)
    assert measured[0] > -2 and measured[2] < measured[0] - 0.8


@pytest.mark.parametrize("kind", [cv2.INTER_CUBIC, cv2.INTER_LINEAR, cv2.INTER_LANCZOS4])
def test_upscaled_image_is_soft(photo, kind):
    larger = cv2.resize(photo, None, fx=2, fy=2, interpolation=kind)
    assert sharpness_of(patches_of(larger)) < -2.2


def test_noise_does_not_lower_it(photo, noisy):
    assert sharpness_of(patches_of(noisy(photo, 5))) > -1.8
