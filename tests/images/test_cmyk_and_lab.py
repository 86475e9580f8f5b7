from __future__ import annotations

import io
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from upscale.errors import ImageError
from upscale.images import read_image

PRINT = "generated/cmyk.jpg"


def written(samples, **options):
    target = io.BytesIO()
    tifffile.imwrite(target, samples, **options)
    return target.getvalue()


def smooth(channels, dtype, side=96):
    """Smooth random samples with many combinations of colours."""
    coarse = np.random.default_rng(8).random((7, 7, channels)).astype(np.float32)
    fine = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR).clip(0, 1)
    return np.rint(fine * np.iinfo(dtype).max).astype(dtype)


def to_srgb(pil_image, profile):
    return np.asarray(
        ImageCms.profileToProfile(
            pil_image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    )


def test_cmyk_of_16_bits_equals_pillow_with_its_profile(data):
    pil_image = Image.open(data / "images" / PRINT)
    inks, profile = np.asarray(pil_image), pil_image.info["icc_profile"]
    content = written(inks.astype(np.uint16) * 257, photometric="separated", iccprofile=profile)
    image = read_image(content)
    assert image.pixels.dtype == np.uint16 and image.metadata.icc is None
    expected = to_srgb(pil_image, profile)
    assert np.abs(image.pixels / 257 - expected).max() <= 1

    ramp = np.zeros((1, 4096, 4), np.uint16)
    ramp[..., 3] = np.arange(4096) * 16
    content = written(ramp, photometric="separated", iccprofile=profile)
    levels = np.unique(read_image(content).pixels[..., 1])
    assert len(levels) > 2000, "8 bits would have 256"


@pytest.mark.parametrize("profile", ["none", "noise", "of light", "cut off"])
def test_cmyk_of_16_bits_without_cmyk_profile_uses_the_formula(profile, data):
    inks = smooth(4, np.uint16)
    content = {
        "none": None,
        "noise": bytes(range(256)) * 4,
        "of light": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "cut off": Image.open(data / "images" / PRINT).info["icc_profile"][:3000],
    }[profile]
    pixels = read_image(written(inks, photometric="separated", iccprofile=content)).pixels
    light = 1 - inks / 65535
    expected = light[..., :3] * light[..., 3:] * 65535
    assert pixels.dtype == np.uint16
    assert np.abs(pixels - expected).max() <= 1


def lab_of(dtype):
    """L* 0..100, a* and b* -100..100, as numbers."""
    samples = smooth(3, np.uint16, 64) / 65535
    samples = samples * (60, 80, 80) + (20, -40, -40)
    step = 1 if dtype == np.uint8 else 256
    stored = np.rint(samples * ((255 if step == 1 else 65535) / 100, step, step))
    return stored.astype(np.int64)


def reference(lab):
    """sRGB in [0, 1] by the definitions, with D50 adapted to D65 (Bradford)."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack((y + lab[..., 1] / 500, y, y - lab[..., 2] / 200), -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * (0.9642, 1, 0.8249)
    from_d50 = np.array(
        [
            [3.1338561, -1.6168667, -0.4906146],
            [-0.9787684, 1.9161415, 0.0334540],
            [0.0719453, -0.2289914, 1.4052427],
        ]
    )
    light = (xyz @ from_d50.T).clip(0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["cielab", "icclab"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_lab_becomes_srgb_of_16_bits(dtype, kind, compression):
    stored = lab_of(dtype)
    step = 1 if dtype == np.uint8 else 256
    full = 255 if step == 1 else 65535
    lab = stored * (100 / full, 1 / step, 1 / step)
    if kind == "icclab":
        stored[..., 1:] += 128 * step
        if step == 256:
            stored[..., 0] = np.rint(lab[..., 0] * (0xFF00 / 100))
    data = written((stored % (full + 1)).astype(dtype), photometric=kind, compression=compression)
    image = read_image(data)
    assert image.pixels.dtype == np.uint16
    assert np.abs(image.pixels / 65535 - reference(lab)).max() < 0.003


def test_lab_agrees_with_pillow(pillow_bytes):
    pil_image = Image.fromarray(smooth(3, np.uint8))
    lab = ImageCms.profileToProfile(
        pil_image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    image = read_image(pillow_bytes(lab, "TIFF"))
    difference = np.abs(image.pixels / 257 - np.asarray(pil_image))
    assert difference.mean() < 1.5, "what 8 bits of CIELAB cost"


def test_transparency_of_lab_is_kept():
    stored = np.dstack((lab_of(np.uint8) % 256, np.arange(64 * 64).reshape(64, 64) % 256))
    data = written(stored.astype(np.uint8), photometric="cielab", extrasamples=["unassalpha"])
    image = read_image(data)
    assert image.alpha is not None
    assert np.array_equal(image.alpha, stored[..., 3] * 257)


def test_lab_of_other_depths_is_rejected():
    with pytest.raises(ImageError, match="not supported"):
        read_image(written(np.zeros((9, 9, 3), np.float32), photometric="cielab"))


def test_hostile_cmyk_profiles_do_not_crash(data, tmp_path):
    """Real profiles are damaged everywhere; the process must not crash."""
    profile = Image.open(data / "images" / PRINT).info["icc_profile"]
    (tmp_path / "real.icc").write_bytes(profile)
    (tmp_path / "bad.icc").write_bytes(
        (data / "images/generated/invalid-illuminant.icc").read_bytes()
    )
    code = """
import sys
from pathlib import Path
import numpy as np
from upscale.images.codecs.pillow import raster_of_cmyk
folder, rng = Path(sys.argv[1]), np.random.default_rng(0)
inks = rng.integers(0, 65536, (8, 8, 4), np.uint16)
real = (folder / "real.icc").read_bytes()
for depth in (inks, (inks >> 8).astype(np.uint8)):
    assert raster_of_cmyk(depth, (folder / "bad.icc").read_bytes()).pixels.shape == (8, 8, 3)
for turn in range(60):
    damaged = np.frombuffer(real, np.uint8).copy()
    reach = 400 if turn % 2 else len(damaged)
    damaged[rng.integers(0, reach, 12)] = rng.integers(0, 256, 12)
    for depth in (inks, (inks >> 8).astype(np.uint8)):
        assert raster_of_cmyk(depth, damaged.tobytes()).pixels.dtype == depth.dtype
print("alive")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "alive", done.stderr[-500:]


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_transparency_of_cmyk_is_kept(dtype, kind):
    """Associated alpha multiplies the inks; a transparent pixel has none of them."""
    full = np.iinfo(dtype).max
    ink = np.broadcast_to(np.array([200, 0, 40, 20]) / 255, (8, 10, 4))
    alpha = np.linspace(0.2, 1, 80).reshape(8, 10)
    stored = ink * alpha[..., None] if kind == "assocalpha" else ink
    samples = np.rint(np.dstack([stored, alpha]) * full).astype(dtype)
    target = io.BytesIO()
    tifffile.imwrite(
        target, samples, photometric="separated", extrasamples=[kind], planarconfig="contig"
    )  # fmt: skip
    image = read_image(target.getvalue())
    assert np.array_equal(image.alpha, samples[..., 4])
    opaque = io.BytesIO()
    tifffile.imwrite(opaque, np.rint(ink * full).astype(dtype), photometric="separated")
    expected = read_image(opaque.getvalue()).pixels.astype(float)
    # Inks of few levels are uncertain by half a level, divided by the alpha.
    assert np.abs(image.pixels - expected).max() <= full * (0.016 if dtype == "uint8" else 0.0002)
