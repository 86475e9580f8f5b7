"""gAMA, cHRM and sRGB of PNG: all outputs look like the input.

The expected values were measured in Chromium on screenshots of the inputs.
"""

from __future__ import annotations

import io
import struct
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageCms

from tests import browser
from upscale.images import Encoding, Metadata, encode_file, losses, read_file, read_image, stripped
from upscale.images.pixels.colour import tone_curve

CASES = Path(__file__).parents[2] / "data" / "images" / "cases"
COLOURS = [(10, 10, 10), (64, 64, 64), (200, 200, 200), (200, 50, 50), (50, 200, 50), (50, 50, 200)]
ADOBE = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
SRGB_PRIMARIES = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
LINEAR = [(56,) * 3, (137,) * 3, (229,) * 3, (229, 122, 122), (122, 229, 122), (122, 122, 229)]
GAMMA_22 = [(3,) * 3, (62,) * 3, (201,) * 3, (201, 46, 46), (46, 201, 46), (46, 46, 201)]
WIDE = [(3,) * 3, (62,) * 3, (201,) * 3, (232, 46, 46), (0, 201, 12), (46, 46, 205)]


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def gamma(value):
    return chunk(b"gAMA", struct.pack(">I", value))


def chromaticities(values):
    return chunk(b"cHRM", values)


def png(*chunks, mode="RGB", **options):
    """Patches of the colours, 8 px wide, with chunks behind the IHDR."""
    image = PILImage.new("RGB", (8 * len(COLOURS), 8))
    for number, colour in enumerate(COLOURS):
        image.paste(colour, (8 * number, 0, 8 * number + 8, 8))
    target = io.BytesIO()
    image.convert(mode).save(target, "PNG", **options)
    plain = target.getvalue()
    return plain[:33] + b"".join(chunks) + plain[33:]


KINDS = {
    "linear": ([gamma(100000)], LINEAR),
    "gamma 2.2 alone is sRGB": ([gamma(45455)], COLOURS),
    "gamma 2.2 nearly": ([gamma(47000)], COLOURS),
    "gamma and primaries of sRGB": ([gamma(45455), chromaticities(SRGB_PRIMARIES)], GAMMA_22),
    "gamma and primaries of Adobe RGB": ([gamma(45455), chromaticities(ADOBE)], WIDE),
    "primaries alone": ([chromaticities(ADOBE)], COLOURS),
    "sRGB outranks": ([chunk(b"sRGB", b"\0"), gamma(100000), chromaticities(ADOBE)], COLOURS),
    "sRGB by numbers outranks": ([gamma(100000), chunk(b"cICP", b"\1\x0d\0\1")], COLOURS),
    "no gamma": ([gamma(0)], COLOURS),
    "no primaries": ([gamma(45455), chromaticities(bytes(32))], COLOURS),
}


def exact(image, format):
    """The image in a format, with as little loss as there can be."""
    lossy = format == "jpeg"
    return encode_file(image, format, Encoding(100) if lossy else Encoding(lossless=True))


def shown(data):
    """Colours of the patches after the profile in a file, by Pillow's binding of Little CMS."""
    image = PILImage.open(io.BytesIO(data))
    if "icc_profile" in image.info:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        image = ImageCms.profileToProfile(
            image, profile, ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB",
        )  # fmt: skip
    return patches(image)


def patches(image):
    pixels = np.asarray(image.convert("RGB")).astype(int)
    return pixels[4, 4::8]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["jpeg", "webp", "tiff"])
def test_other_formats_look_like_the_input_in_a_browser(kind, format):
    chunks, expected = KINDS[kind]
    image = read_image(png(*chunks))
    assert np.abs(shown(exact(image, format)) - expected).max() <= 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["bmp", "jxl"])
def test_formats_without_profiles_get_the_colours_of_the_browser(kind, format):
    chunks, expected = KINDS[kind]
    image = read_image(png(*chunks))
    back = read_image(exact(image, format)).pixels[4, 4::8].astype(int)
    assert np.abs(back - expected).max() <= 3
    assert ("sRGB" in " ".join(losses(image, format))) == (expected is not COLOURS)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "numbers" not in kind])
def test_a_png_keeps_the_chunks(kind):
    chunks, _ = KINDS[kind]
    image = read_image(png(*chunks))
    assert losses(image, "png") == ()
    written = encode_file(image, "png")
    assert all(part in written for part in chunks)
    assert b"iCCP" not in written
    assert np.array_equal(read_image(written).pixels, image.pixels)


def test_srgb_by_numbers_is_srgb_in_the_output_as_well():
    written = encode_file(read_image(png(*KINDS["sRGB by numbers outranks"][0])), "png")
    assert chunk(b"sRGB", b"\0") in written


def test_grey_images_get_a_grey_profile():
    image = read_image(png(gamma(100000), mode="L"))
    assert image.pixels.shape[2] == 1
    expected = [56, 137, 229]
    for format in ("jpeg", "webp", "tiff"):
        assert np.abs(shown(exact(image, format))[:3, 0] - expected).max() <= 3
    assert b"iCCP" not in encode_file(image, "png")


def test_linear_light_is_converted_for_jpeg_which_loses_what_is_dark():
    image = read_image(CASES / "png-gama1.png")
    assert losses(image, "jpeg") == (
        "its colours were converted to sRGB, as JPEG loses what is dark in linear light",
    )
    written = encode_file(image, "jpeg")
    assert read_image(written).metadata.icc is None
    light = image.pixels / 255
    expected = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    error = np.abs(read_image(written).pixels - expected)
    assert error.mean() < 2 and error.max() < 25


def test_webp_stores_grey_as_rgb_and_so_without_a_grey_profile():
    profile = read_image(png(gamma(60000), mode="L")).metadata.icc
    image = replace(read_image(png(mode="L")), metadata=Metadata(icc=profile))
    assert losses(image, "webp") == (
        "its colours were converted to sRGB, as WebP holds no profile for greyscale",
    )
    written = exact(image, "webp")
    assert "icc_profile" not in PILImage.open(io.BytesIO(written)).info
    assert np.abs(shown(written) - shown(exact(image, "tiff"))).max() <= 1


def test_a_profile_outranks_gamma_and_both_are_kept():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = read_image(png(gamma(100000), icc_profile=profile))
    assert image.metadata.icc == profile
    written = encode_file(image, "png")
    assert gamma(100000) in written and b"iCCP" in written
    assert np.abs(shown(exact(image, "jpeg")) - COLOURS).max() <= 3


def test_hdr_data_are_kept_in_png_and_reported_elsewhere():
    chunks = [chunk(b"mDCV", bytes(range(24))), chunk(b"cLLI", bytes(8))]
    image = read_image(png(chunk(b"cICP", bytes((9, 16, 0, 1))), *chunks))
    written = encode_file(image, "png")
    assert all(part in written for part in chunks)
    assert losses(image, "avif") == ("AVIF has no place for its HDR mastering data",)


def test_linear_gamma_gets_the_tone_curve_of_linear_light():
    for name, linear in (("png-gama1.png", True), ("png-gama-chrm-adobe.png", False)):
        image = read_image(CASES / name)
        curve = tone_curve(image.pixels, image.metadata)
        assert (curve is not None and curve.is_linear) == linear


def test_colours_stay_when_metadata_are_stripped():
    image = read_image(png(gamma(100000)))
    assert stripped(image.metadata) == image.metadata
    assert image.metadata != Metadata()


def test_frames_of_an_animation_keep_gamma():
    frames = [PILImage.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 90)]
    target = io.BytesIO()
    frames[0].save(target, "PNG", save_all=True, append_images=frames[1:])
    plain = target.getvalue()
    sequence = read_file(plain[:33] + gamma(100000) + plain[33:])
    assert gamma(100000) in encode_file(sequence, "png")
    profiles = [frame.image.metadata.icc for frame in sequence.frames()]
    assert profiles[0] is not None and profiles[1] == profiles[0]


def test_a_browser_shows_input_and_outputs_alike(tmp_path):
    """Screenshots by Chromium of each input with its outputs."""
    if not browser.BROWSER:
        pytest.skip("chromium is not installed")
    names: list[str] = []
    for number, (chunks, _) in enumerate(KINDS.values()):
        data = png(*chunks)
        image = read_image(data)
        (tmp_path / f"{number}.input.png").write_bytes(data)
        names.append(f"{number}.input.png")
        for format in ("png", "jpeg", "webp", "avif"):
            names.append(f"{number}.{format}")
            (tmp_path / names[-1]).write_bytes(exact(image, format))
    page = "".join(f"<img style='display:block' src='{name}'>" for name in names)
    (tmp_path / "page.html").write_text(f"<body style='margin:0'>{page}")
    shot = tmp_path / "shot.png"
    subprocess.run(
        browser.command(
            tmp_path / "profile", f"--window-size={8 * len(COLOURS)},{8 * len(names)}",
            f"--screenshot={shot}", f"file://{tmp_path}/page.html",
        ),
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    pixels = np.asarray(PILImage.open(shot).convert("RGB")).astype(int)
    rows = pixels[4 : 8 * len(names) : 8, 4 : 8 * len(COLOURS) : 8]
    inputs, outputs = rows[::5, None], rows.reshape(len(KINDS), 5, -1, 3)
    assert np.abs(inputs - [[expected] for _, expected in KINDS.values()]).max() <= 1
    assert np.abs(outputs - inputs).max() <= 4
