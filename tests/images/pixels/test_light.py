"""Conversion to linear light, for formats that hold nothing else."""

import imagecodecs
import numpy as np
import pytest

from upscale.images import Image, Metadata, encode_file, losses, read_image
from upscale.images.metadata.icc import linear_profile

WHITE = (0.3127, 0.329, 1.0)
REC_2020 = (0.708, 0.292, 1.0, 0.17, 0.797, 1.0, 0.131, 0.046, 1.0)
# ITU-R BT.2087: linear light from Rec. 2020 to Rec. 709.
TO_REC_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)


@pytest.mark.parametrize("format", ["exr", "hdr"])
def test_linear_light_of_other_primaries_becomes_that_of_srgb_without_clipping(format):
    pytest.importorskip("OpenEXR", reason="OpenEXR is not installed")
    profile = bytes(imagecodecs.cms_profile("rgb", whitepoint=WHITE, primaries=REC_2020, gamma=1.0))
    pixels = np.array([[[12, 6, 5], [0.5, 0.5, 0.5], [0.25, 0.75, 0.5], [8, 8, 8]]], np.float32)
    image = Image(np.tile(pixels, (2, 2, 1)), metadata=Metadata(icc=profile))
    result = read_image(encode_file(image, format)).pixels
    expected = image.pixels @ TO_REC_709.T.astype(np.float32)
    expected = expected.clip(0) if format == "hdr" else expected  # it holds no values below 0
    assert expected.max() > 12
    assert np.allclose(result, expected, rtol=0.01, atol=0.01)
    assert any("converted to sRGB" in note for note in losses(image, format))


def test_linear_light_of_srgb_keeps_its_values_without_a_note():
    pytest.importorskip("OpenEXR", reason="OpenEXR is not installed")
    pixels = np.random.default_rng(1).uniform(-0.5, 20, (4, 5, 3)).astype(np.float32)
    image = Image(pixels, metadata=Metadata(icc=bytes(linear_profile())))
    assert np.allclose(read_image(encode_file(image, "exr")).pixels, pixels, rtol=2e-4, atol=2e-4)
    assert not any("sRGB" in note for note in losses(image, "exr"))
