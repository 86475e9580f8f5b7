"""Photoshop resources, pixel aspect ratios and comments; built by struct, read by ExifTool."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PILImage

from tests.images import exiftool
from upscale.images import encode_file, losses, read_image

CASE = Path(__file__).parents[2] / "data" / "images" / "cases" / "jpg-aspect.jpg"
IPTC = b"\x1c\x02\x00\x00\x02\x00\x04" + b"\x1c\x02\x78\x00\x07A thing"
URL = b"https://example.com/rights"


def resource(number, data, name=b""):
    label = bytes((len(name),)) + name
    label += b"\0" * (len(label) % 2)
    return (
        b"8BIM" + struct.pack(">H", number) + label + struct.pack(">I", len(data))
        + data + b"\0" * (len(data) % 2)
    )  # fmt: skip


PATH = struct.pack(">HH22x", 6, 0) + struct.pack(">HHH20x", 0, 0, 0)
RESOURCES = (
    resource(1005, struct.pack(">ihhihh", 72 << 16, 1, 1, 72 << 16, 1, 1))
    + resource(1028, IPTC)
    + resource(1034, b"\1")
    + resource(1035, URL)
    + resource(1036, bytes(28) + b"\xff\xd8 an old thumbnail")
    + resource(1061, hashlib.md5(IPTC).digest())
    + resource(2000, PATH, b"Outline 1")
)


def picture(height=12, width=16):
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


def jpeg(*segments, **options):
    target = io.BytesIO()
    PILImage.fromarray(picture()).save(target, "JPEG", **options)
    plain = target.getvalue()
    parts = b"".join(
        struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body for kind, body in segments
    )
    return plain[:20] + parts + plain[20:]


def tiff():
    target = io.BytesIO()
    tags = [(34377, 1, len(RESOURCES), RESOURCES, False), (33723, 7, len(IPTC), IPTC, False)]
    tifffile.imwrite(target, picture(), photometric="rgb", extratags=tags)
    return target.getvalue()


def photoshop():
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 12, 16, 8, 3)
    sections = struct.pack(">I", 0) + struct.pack(">I", len(RESOURCES)) + RESOURCES
    return head + sections + struct.pack(">IH", 0, 0) + picture().transpose(2, 0, 1).tobytes()


SOURCES = {
    "jpeg": lambda: jpeg((0xED, b"Photoshop 3.0\0" + RESOURCES)),
    "jpeg in two segments": lambda: jpeg(
        (0xED, b"Photoshop 3.0\0" + RESOURCES[:100]), (0xED, b"Photoshop 3.0\0" + RESOURCES[100:])
    ),
    "tiff": tiff,
    "psd": photoshop,
}


@pytest.mark.parametrize("format", ["jpeg", "tiff", "png"])
@pytest.mark.parametrize("source", SOURCES)
def test_resources_that_stay_true_are_kept(source, format, tmp_path):
    image = read_image(SOURCES[source]())
    assert losses(image, format) == ()
    written = encode_file(image, format)
    found = exiftool.tags(written, tmp_path)
    assert found["Photoshop:CopyrightFlag"] == 1
    assert found["Photoshop:URL"] == URL.decode()
    assert found["Photoshop:IPTCDigest"] == hashlib.md5(IPTC).hexdigest()
    assert found["IPTC:Caption-Abstract"] == "A thing"
    # ExifTool computes the digest of the IPTC data that are in the file.
    assert found.get("File:CurrentIPTCDigest") in (None, hashlib.md5(IPTC).hexdigest())
    if source != "psd" and format != "png":
        assert resource(2000, PATH, b"Outline 1") in written
    assert b"old thumbnail" not in written


@pytest.mark.parametrize("format", ["webp", "avif", "heic", "jxl"])
def test_resources_without_a_place_are_reported(format):
    message = " ".join(losses(read_image(SOURCES["jpeg"]()), format))
    for name in ("copyright flag", "URL", "paths"):
        assert f"Photoshop {name}" in message


def test_empty_resources_are_not_missed():
    plain = resource(1034, b"\0") + resource(1035, b"") + resource(1061, bytes(16))
    image = read_image(jpeg((0xED, b"Photoshop 3.0\0" + plain)))
    assert losses(image, "webp") == ()


def test_guides_and_paths_of_a_turned_image_are_reported():
    guides = struct.pack(">IIII", 1, 576, 576, 1) + struct.pack(">IB", 320, 0)
    block = PILImage.Exif()
    block[0x0112] = 6
    plain = resource(1032, guides) + resource(2000, PATH) + resource(1034, b"\1")
    image = read_image(jpeg((0xED, b"Photoshop 3.0\0" + plain), exif=block.tobytes()))
    assert image.origin.notes == (
        "its Photoshop guides were left out", "its Photoshop paths were left out"
    )  # fmt: skip
    assert [item.number for item in image.metadata.photoshop] == [1034]


def png(unit, across, down):
    target = io.BytesIO()
    PILImage.fromarray(picture()).save(target, "PNG")
    body = b"pHYs" + struct.pack(">IIB", across, down, unit)
    chunk = struct.pack(">I", 9) + body + struct.pack(">I", zlib.crc32(body))
    return target.getvalue()[:33] + chunk + target.getvalue()[33:]


def aspect_tiff():
    target = io.BytesIO()
    tifffile.imwrite(
        target, picture(), photometric="rgb", resolution=(2, 1), resolutionunit="none"
    )  # fmt: skip
    return target.getvalue()


ASPECTS = {
    "case": CASE.read_bytes,
    "jpeg": lambda: jpeg(dpi=(0, 0))[:13] + b"\0\0\2\0\1" + jpeg(dpi=(0, 0))[18:],
    "png": lambda: png(0, 2, 1),
    "tiff": aspect_tiff,
}


@pytest.mark.parametrize("source", ASPECTS)
def test_the_aspect_of_pixels_is_kept(source, tmp_path):
    image = read_image(ASPECTS[source]())
    for format, unit in (("jpeg", 0), ("tiff", 1)):
        assert losses(image, format) == ()
        found = exiftool.named(encode_file(image, format), tmp_path)
        assert (found["XResolution"], found["YResolution"]) == (2, 1)
        assert found["ResolutionUnit"] == unit
    found = exiftool.named(encode_file(image, "png"), tmp_path)
    assert (found["PixelsPerUnitX"], found["PixelsPerUnitY"], found["PixelUnits"]) == (2, 1, 0)


@pytest.mark.parametrize("format", ["webp", "avif", "bmp", "jxl"])
def test_an_aspect_without_a_place_is_reported(format):
    message = " ".join(losses(read_image(CASE), format))
    assert "pixel aspect ratio" in message


def test_the_aspect_of_a_turned_image_is_turned(tmp_path):
    block = PILImage.Exif()
    block[0x0112] = 8
    data = jpeg(dpi=(0, 0), exif=block.tobytes())
    at = data.index(b"JFIF\0") + 7
    image = read_image(data[:at] + b"\0\0\3\0\2" + data[at + 5 :])
    found = exiftool.named(encode_file(image, "jpeg"), tmp_path, "-JFIF:all")
    assert (found["XResolution"], found["YResolution"]) == (2, 3)


def test_xmp_and_aspect_of_a_gif_are_kept(tmp_path):
    target = io.BytesIO()
    PILImage.fromarray(picture()).save(target, "GIF")
    source = target.getvalue()[:12] + bytes((17,)) + target.getvalue()[13:]
    source = exiftool.written(source, tmp_path, "-XMP-dc:Source=a harbour")
    image = read_image(source)
    assert image.metadata.density_ratio == (64, 32)
    found = exiftool.named(encode_file(image, "png"), tmp_path)
    assert found["Source"] == "a harbour"
    assert (found["PixelsPerUnitX"], found["PixelsPerUnitY"]) == (64, 32)
    written = encode_file(image, "gif")
    found = exiftool.named(written, tmp_path)
    assert (found["Source"], found["PixelAspectRatio"]) == ("a harbour", 0.5)
    assert np.array_equal(read_image(written).pixels, image.pixels)


@pytest.mark.parametrize(("unit", "density"), [(1, 72), (1, 300), (2, 28), (2, 118), (2, 72)])
def test_the_unit_of_a_resolution_is_kept(unit, density, tmp_path):
    data = jpeg(dpi=(300, 300))
    stated = struct.pack(">BHH", unit, density, density)
    image = read_image(data[:13] + stated + data[18:])
    found = exiftool.named(encode_file(image, "jpeg"), tmp_path)
    assert (found["ResolutionUnit"], found["XResolution"]) == (unit, density)


def test_square_pixels_have_no_aspect():
    assert read_image(png(0, 3, 3)).metadata.density_ratio is None
    assert read_image(png(1, 3000, 6000)).metadata.density_ratio is None
    assert read_image(png(0, 0, 3)).metadata.density_ratio is None


@pytest.mark.parametrize("format", ["jpeg", "png", "gif"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_comments_are_read_in_utf8_or_latin1(encoding, format, tmp_path):
    image = read_image(jpeg((0xFE, "Düne, 5 °C".encode(encoding))))
    assert image.metadata.comment == "Düne, 5 °C"
    assert exiftool.named(encode_file(image, format), tmp_path)["Comment"] == "Düne, 5 °C"


def test_all_comments_of_a_jpeg_are_kept(tmp_path):
    image = read_image(jpeg((0xFE, b"first"), (0xFE, b"second\0")))
    assert image.metadata.comment == "first\nsecond"


def test_a_comment_that_is_too_long_for_a_segment_is_reported():
    image = read_image(png(1, 3000, 3000))
    long = replace(image, metadata=replace(image.metadata, comment="ü" * 40_000))
    assert losses(long, "jpeg") == ("JPEG has no place for its comment",)
    assert read_image(encode_file(long, "jpeg")).metadata.comment is None


def test_segments_that_are_not_kept_are_reported():
    image = read_image(jpeg((0xE1, b"FLIR\0\1\0\0"), (0xEB, b"JP\0\1jumb"), (0xE5, b"RMETA\0x")))
    assert image.origin.notes == (
        "its APP1 segment FLIR was left out",
        "its content credentials were left out",
        "its APP5 segment RMETA was left out",
    )
