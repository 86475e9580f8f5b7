from __future__ import annotations

import io
import subprocess
import sys

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from upscale.images import Metadata, encode_file, read_image
from upscale.images.pixels.colour import ToneCurve, tone_curve

FULL = {"uint8": 255, "uint16": 65535, "float32": 1}
PRIMARIES = {
    "p3": (0.680, 0.320, 1, 0.265, 0.690, 1, 0.150, 0.060, 1),
    "prophoto": (0.7347, 0.2653, 1, 0.1596, 0.8404, 1, 0.0366, 0.0001, 1),
    "srgb": (0.64, 0.33, 1, 0.30, 0.60, 1, 0.15, 0.06, 1),
}
GAMMAS = {"p3": 2.2, "prophoto": 1.8, "srgb": 2.2}


def profile(name, gamma=None):
    white = (0.3457, 0.3585, 1) if name == "prophoto" else (0.3127, 0.3290, 1)
    return imagecodecs.cms_profile(
        "rgb", whitepoint=white, primaries=PRIMARIES[name], gamma=gamma or GAMMAS[name]
    )


def grey_profile(gamma):
    return imagecodecs.cms_profile("gray", whitepoint=(0.3457, 0.3585, 1), gamma=gamma)


def seen(pixels, icc):
    """CIELAB of 8-bit RGB by Little CMS, (H, W, 3); L* 0..255."""
    lab = ImageCms.profileToProfile(
        Image.fromarray(pixels),
        ImageCms.ImageCmsProfile(io.BytesIO(icc)),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    return np.asarray(lab).astype(int)


def blocks(dtype, channels=3):
    """Patches of flat colours, 12 pixels wide, some of them saturated."""
    coarse = np.random.default_rng(3).random((8, 8, channels))
    coarse[0] = np.eye(3)[[0, 1, 2, 0, 1, 2, 0, 1]][:, :channels]
    samples = np.rint(coarse * FULL[dtype]) if dtype != "float32" else coarse
    return samples.astype(dtype).repeat(12, 0).repeat(12, 1)


def upscaled(pixels):
    """An ideal network for flat patches."""
    assert pixels.dtype != np.float32 or (pixels.min() >= 0 and pixels.max() <= 1)
    return pixels.repeat(4, 0).repeat(4, 1)


def through(pixels, metadata):
    curve = tone_curve(pixels, metadata)
    if curve is None:
        return upscaled(pixels)
    return curve.from_network(upscaled(curve.to_network(pixels)), pixels.dtype)


@pytest.mark.parametrize("name", ["p3", "prophoto"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("gamma", [None, 1.0])
def test_wide_gamut_image_looks_the_same_before_and_after(name, dtype, gamma, noise):
    icc = profile(name, gamma)
    before = blocks(dtype)
    after = through(before, Metadata(icc=icc))
    assert after.dtype == dtype
    sample = noise(dtype, metadata=Metadata(icc=icc))
    kept = read_image(encode_file(sample, "png")).metadata.icc
    assert kept == icc
    small, large = ((x // (FULL[dtype] // 255)).astype(np.uint8) for x in (before, after))
    assert np.abs(seen(large[::4, ::4], kept) - seen(small, icc)).max() <= 1
    # And it would look different as sRGB: the patches are wide enough to tell.
    other = seen(small, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert np.abs(other - seen(small, icc)).max() > 10


@pytest.mark.parametrize("name", PRIMARIES)
def test_common_curves_need_no_conversion(name):
    for dtype in FULL:
        assert tone_curve(blocks(dtype), Metadata(icc=profile(name))) is None
    assert tone_curve(blocks("uint8", 1), Metadata(icc=grey_profile(2.2))) is None
    assert tone_curve(blocks("uint8"), Metadata()) is None
    assert tone_curve(blocks("float32"), Metadata()) is None


def test_srgb_profiles_are_recognised(data):
    def curve_of(name):
        image = read_image(data / "images" / name)
        assert image.metadata.icc is not None
        return tone_curve(image.pixels, image.metadata)

    assert curve_of("generated/p3.png") is None
    assert curve_of("generated/prophoto.png") is None
    assert curve_of("generated/deep_alpha.png") is None
    assert curve_of("pillow/icc_profile.png") is None
    assert curve_of("generated/linear.png") == ToneCurve(True)


@pytest.mark.parametrize("dtype", FULL)
@pytest.mark.parametrize("channels", [1, 3])
def test_linear_light_becomes_srgb_and_is_restored_exactly(dtype, channels):
    icc = profile("srgb", 1.0) if channels == 3 else grey_profile(1.0)
    every = np.arange(65536).reshape(256, 256, 1).repeat(channels, 2) / 65535
    pixels = np.rint(every * FULL[dtype]).astype(dtype) if dtype != "float32" else every
    pixels = pixels.astype(dtype)
    curve = tone_curve(pixels, Metadata(icc=icc))
    assert curve is not None and curve.is_linear
    shown = curve.to_network(pixels)
    light = pixels / FULL[dtype]
    expected = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    assert shown.dtype == np.float32 and np.abs(shown - expected).max() < 1e-6
    back = curve.from_network(shown, dtype)
    if dtype == "float32":
        assert np.abs(back - pixels).max() < 1e-6
    else:
        assert np.array_equal(back, pixels)


def test_linear_transfer_by_number_is_used_unless_there_is_a_profile():
    pixels = blocks("uint16")
    assert tone_curve(pixels, Metadata(cicp=(1, 8))) == ToneCurve(True)
    assert tone_curve(pixels, Metadata(cicp=(9, 16))) is None
    assert tone_curve(pixels, Metadata(icc=profile("p3"), cicp=(1, 8))) is None


def test_floats_above_white_are_restored_and_others_stay_bright():
    light = np.geomspace(1e-4, 1000, 300 * 40).astype(np.float32).reshape(300, 40, 1)
    light[0, 0] = -0.2
    curve = tone_curve(light, Metadata())
    assert curve is not None and curve.is_linear
    shown = curve.to_network(light)
    assert shown.min() == 0 and shown.max() == 1
    assert (np.diff(shown.ravel()[1:]) > 0).all()
    assert shown[light < 0.5].max() > 0.1, "divided by the maximum it would be 0.0005"
    back = curve.from_network(shown, np.float32)
    np.testing.assert_allclose(back, light, rtol=2e-4, atol=1e-6)


def test_floats_with_small_overshoots_are_not_linear_light():
    pixels = np.linspace(-0.05, 1.1, 300, dtype=np.float32).reshape(20, 15, 1)
    curve = tone_curve(pixels, Metadata())
    assert curve is not None and not curve.is_linear
    np.testing.assert_allclose(
        curve.from_network(curve.to_network(pixels), np.float32), pixels, atol=1e-6
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_floats_that_are_not_finite_get_no_curve(value):
    pixels = np.full((4, 4, 3), 0.5, np.float32)
    pixels[1, 1] = value
    assert tone_curve(pixels, Metadata()) is None


def test_row_chunks_give_the_result_of_the_whole_array(monkeypatch):
    pixels = cv2.resize(np.random.default_rng(0).random((9, 9, 3)), (64, 700)).astype(np.float32)
    curve = ToneCurve(True, -0.1, 2.0)
    whole = curve.to_network(pixels)
    monkeypatch.setattr("upscale.images.pixels.row_chunks.CHUNK_SAMPLES", 17 * 64 * 3)
    assert np.array_equal(curve.to_network(pixels), whole)


def test_hostile_profiles_do_not_crash(data, tmp_path):
    (tmp_path / "bad.icc").write_bytes(
        (data / "images/generated/invalid-illuminant.icc").read_bytes()
    )
    (tmp_path / "p3.icc").write_bytes(profile("p3"))
    ink = Image.open(data / "images/generated/cmyk.jpg")
    (tmp_path / "ink.icc").write_bytes(ink.info["icc_profile"])
    code = """
import sys
from pathlib import Path
import numpy as np
from upscale.images import Metadata
from upscale.images.pixels.colour import tone_curve
rng = np.random.default_rng(0)
pixels = np.zeros((4, 4, 3), np.uint8)
for path in sorted(Path(sys.argv[1]).glob("*.icc")):
    real = path.read_bytes()
    for channels in (1, 3):
        assert tone_curve(pixels[..., :channels], Metadata(icc=real)) is None
    for turn in range(150):
        damaged = np.frombuffer(real, np.uint8).copy()
        damaged[rng.integers(0, min(len(real), 700), 8)] = rng.integers(0, 256, 8)
        cut = len(real) if turn % 3 else int(rng.integers(0, len(real)))
        tone_curve(pixels, Metadata(icc=damaged.tobytes()[:cut]))
print("alive")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "alive", done.stderr[-500:]
