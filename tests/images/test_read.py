from __future__ import annotations

import io
import itertools
import os
import struct
import subprocess
import sys
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upscale.errors import ImageError
from upscale.images import Metadata, encode_file, read_image, read_size
from upscale.images.codecs import png, png_chunks, registry
from upscale.images.codecs.registry import codecs
from upscale.images.metadata import exif
from upscale.images.pixels.orientation import upright

NAMES = ["photo.png", "with space.png", "Grüße 图片 🐺.png", "two\nlines.png", "-dash.png"]


def error_of(source, **options):
    """The error message, which must be one line."""
    with pytest.raises(ImageError) as caught:
        read_image(source, **options)
    message = str(caught.value)
    assert message.isprintable()
    return message


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(header, rows, *extra):
    """A PNG of rows that are already filtered."""
    ihdr = struct.pack(">IIBBBBB", *header, 0, 0, 0)
    parts = [chunk(b"IHDR", ihdr), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("name", NAMES)
def test_any_file_name_works_and_any_message_is_one_line(noise, tmp_path, name):
    image, path = noise(), tmp_path / name
    path.write_bytes(encode_file(image, "png"))
    assert np.array_equal(read_image(path).pixels, image.pixels)
    assert read_size(path) == (53, 37)
    path.write_bytes(b"no image")
    assert "is not an image" in error_of(path)


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text exist on Linux")
def test_names_that_are_not_unicode_work(noise, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.png"))
    path.write_bytes(encode_file(noise(), "png"))
    assert read_size(path) == (53, 37)
    path.write_bytes(b"")
    error_of(path).encode("utf-8")


def test_format_is_detected_from_the_content(noise, tmp_path):
    for format in ("jpeg", "png", "webp", "tiff", "bmp"):
        path = tmp_path / f"{format}.txt"
        path.write_bytes(encode_file(noise(), format))
        assert read_image(path).origin.format == format


def test_folders_and_devices_are_rejected(tmp_path):
    assert "does not exist" in error_of(tmp_path / "nothing.png")
    assert "is a folder" in error_of(tmp_path)
    assert "is not a file" in error_of(Path("/dev/zero")) or sys.platform == "win32"
    (tmp_path / "empty.png").touch()
    assert "is empty" in error_of(tmp_path / "empty.png")
    assert "is empty" in error_of(b"")
    assert "cannot be read" in error_of(Path("a\0b.png"))
    assert "cannot be read" in error_of(tmp_path / ("n" * 300))


def test_missing_permission_is_named(tmp_path, monkeypatch):
    """Root may read every file, so the error is raised here."""

    def denied(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert "permission" in error_of(tmp_path / "secret.png")


@pytest.mark.parametrize(
    ("start", "what"), [(b"\0\0\0\x1cftypisom", "a video"), (b"%PDF-1.7", "PDF")]
)
def test_unsupported_kinds_of_files_are_named(start, what):
    assert what in error_of(start + bytes(100))


def test_pixel_limit_is_checked_before_decoding(noise, monkeypatch):
    for format in ("jpeg", "png", "webp", "tiff", "bmp"):
        data = encode_file(noise(), format)
        assert read_image(data, max_pixels=53 * 37).width == 53
        with monkeypatch.context() as patch:
            codec = replace(codecs()[format], decode=pytest.fail)
            patch.setattr(registry, "_codecs", {format: codec})
            assert "53x37" in error_of(data, max_pixels=53 * 37 - 1)


def test_bombs_are_rejected_and_large_images_are_not(data):
    for name in ("pillow/reallybig.bmp", "generated/65536x65536.png", "pillow/badwidth.bmp"):
        assert "more than the limit" in error_of(data / "images" / name)
    assert read_size(data / "images/generated/giant-image.jpg") == (20000, 14000)


MODES = ["1", "L", "LA", "P", "RGB", "RGBA"]


@pytest.mark.parametrize(
    ("mode", "format"),
    [
        *itertools.product(MODES, ["png", "webp", "tiff"]),
        *itertools.product(["1", "L", "P", "RGB"], ["bmp"]),
    ],
)
def test_modes_become_grey_or_rgb_with_separate_alpha(pillow_bytes, mode, format):
    ramp = np.add.outer(np.arange(60), np.arange(80)).astype(np.uint8)
    pil_image = Image.fromarray(np.dstack((ramp, ramp[::-1], 255 - ramp, ramp)))
    pil_image = pil_image.convert("RGB" if mode == "P" else mode).convert(mode)
    lossless = {"lossless": True, "exact": True} if format == "webp" else {}
    image = read_image(pillow_bytes(pil_image, format, **lossless))
    grey = mode in ("1", "L", "LA") and format != "webp"
    expected = np.asarray(pil_image.convert("L" if grey else "RGB")).reshape(60, 80, -1)
    assert np.array_equal(image.pixels, expected)
    if mode in ("LA", "RGBA"):
        assert np.array_equal(image.alpha, ramp)
    else:
        assert image.alpha is None


def test_real_grey_stays_grey_and_real_alpha_is_kept(data):
    for name in ("grey.png", "grey.jpg"):
        assert read_image(data / "images" / "generated" / name).pixels.shape[2] == 1
    deep = read_image(data / "images/generated/deep_alpha.png")
    assert deep.pixels.dtype == deep.alpha.dtype == np.uint16
    assert len(np.unique(deep.pixels % 257)) > 1, "more than 8 bits of detail"
    grey = read_image(data / "images/generated/16-bit-grey-alpha.png")
    assert grey.pixels.shape[2] == 1 and grey.pixels.dtype == np.uint16 and grey.alpha is not None


def test_palette_transparency_becomes_alpha(data):
    for name in ("pillow/p_trns_single.png", "gofuzz/basn3p08-trns.png", "pillow/pil123p.png"):
        path = data / "images" / name
        expected = np.asarray(Image.open(path).convert("RGBA"))
        image = read_image(path)
        assert np.array_equal(np.dstack((image.pixels, image.alpha)), expected)


@pytest.mark.parametrize(
    ("depth", "colour", "key", "values"),
    [
        (1, 0, (1,), [[0, 1, 1, 0]]),
        (2, 0, (2,), [[0, 1, 2, 3]]),
        (4, 0, (9,), [[9, 0, 8, 9]]),
        (8, 0, (200,), [[200, 199, 0, 200]]),
        (16, 0, (0x1234,), [[0x1234, 0x1235, 0x1134, 0]]),
        (8, 2, (1, 2, 3), [[1, 2, 3, 1, 2, 4]]),
        (16, 2, (0x0102, 3, 4), [[0x0102, 3, 4, 0x0103, 3, 4]]),
    ],
)
def test_one_transparent_colour_becomes_alpha_at_every_depth(depth, colour, key, values):
    samples = np.array(values)
    bits = (samples[..., None] >> np.arange(depth)[::-1] & 1).astype(np.uint8).reshape(1, -1)
    rows = b"\0" + np.packbits(bits, axis=1).tobytes()
    channels = 3 if colour else 1
    header = (samples.shape[1] // channels, 1, depth, colour)
    image = read_image(png_of(header, rows, chunk(b"tRNS", struct.pack(f">{channels}H", *key))))
    top = 65535 if depth == 16 else 255
    stored = samples.reshape(1, -1, channels)
    assert np.array_equal(image.pixels, stored * top // (2**depth - 1))
    assert np.array_equal(image.alpha, np.where((stored == key).all(axis=2), 0, top))


def test_deep_interlaced_png_is_read(data):
    interlaced = read_image(data / "images/image-png/basi6a16.png")
    plain = read_image(data / "images/image-png/basn6a16.png")
    assert np.array_equal(interlaced.pixels, plain.pixels)
    assert np.array_equal(interlaced.alpha, plain.alpha)
    assert interlaced.pixels.dtype == np.uint16


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied_once_and_reset(pillow_bytes, exif_block, orientation, format):
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:8, :16], stored[8:, :16], stored[:8, 16:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    alpha = {} if format == "JPEG" else {"alpha": True}
    pil_image = Image.fromarray(stored)
    if alpha:
        pil_image.putalpha(Image.fromarray(np.ascontiguousarray(stored[..., 0])))
    lossless = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    block = b"Exif\0\0" + exif_block(orientation)
    data = pillow_bytes(pil_image, format, exif=block, **lossless.get(format, {}))
    image = read_image(data)
    turned = upright(stored, orientation)
    assert read_size(data) == (image.width, image.height) == turned.shape[1::-1]
    visible = turned.max(axis=2) > (0 if format == "JPEG" else 256)
    if alpha:
        assert np.array_equal(image.alpha, turned[..., 0])
        visible = turned[..., 0] > 0
    assert np.abs(image.pixels.astype(int) - turned)[visible].max() <= 3
    assert exif.orientation_of(image.metadata.exif) == 1
    again = read_image(encode_file(image, "png"))
    assert np.array_equal(again.pixels, image.pixels)


@pytest.mark.parametrize(
    "name",
    [
        *(f"pillow/hopper_orientation_{n}.jpg" for n in (2, 5, 7)),
        "pillow/hopper_orientation_6.webp",
        "exif-orientation/Landscape_8.jpg",
        "exif-orientation/Portrait_3.jpg",
        "pillow/exif_imagemagick_orientation.png",
        "libavif/paris_exif_orientation_5.jpg",
    ],
)
def test_real_images_with_orientation_equal_pillow(data, name):
    from PIL import ImageOps

    path = data / "images" / name
    with Image.open(path) as pil_image:
        expected = np.asarray(ImageOps.exif_transpose(pil_image))
    image = read_image(path)
    assert np.array_equal(image.pixels, expected)
    assert read_size(path) == (image.width, image.height)
    assert exif.orientation_of(image.metadata.exif) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_resolution_turns_with_the_image(pillow_bytes, exif_block, orientation):
    block = b"Exif\0\0" + exif_block(orientation)
    data = pillow_bytes(Image.new("RGB", (4, 2)), "PNG", exif=block, dpi=(300, 100))
    expected = (100, 300) if orientation in (5, 6, 7, 8) else (300, 100)
    assert read_image(data).metadata.dpi == pytest.approx(expected, rel=1e-3)


def test_metadata_of_real_files_is_kept(data):
    photo = read_image(data / "images/pillow/rgb.jpg").metadata
    assert photo.icc and photo.exif and photo.xmp and photo.exif[:2] in (b"II", b"MM")
    raw = read_image(data / "images/libavif/paris_icc_exif_xmp.png").metadata
    assert raw.icc and raw.exif and b"xmpmeta" in raw.xmp
    assert read_image(data / "images/pillow/exif-dpi-zerodivision.jpg").metadata.dpi is None


@pytest.mark.parametrize("with_profile", [True, False])
def test_cmyk_becomes_srgb_without_its_profile(data, with_profile):
    suffix = "" if with_profile else "_no_profile"
    path = data / f"images/generated/cmyk{suffix}.jpg"
    image = read_image(path)
    assert image.pixels.shape == (83, 125, 3) and image.metadata.icc is None
    with Image.open(path) as pil_image:
        plain = np.asarray(pil_image.convert("RGB"))
    difference = np.abs(image.pixels.astype(int) - plain).mean()
    assert (5 < difference < 60) if with_profile else difference == 0


def test_white_paper_of_cmyk_is_white(pillow_bytes):
    paper = Image.new("CMYK", (8, 8), (0, 0, 0, 0))
    assert (read_image(pillow_bytes(paper, "JPEG")).pixels == 255).all()
    broken = pillow_bytes(paper, "JPEG", icc_profile=b"nonsense" * 40)
    assert (read_image(broken).pixels == 255).all()


def cuts(data):
    length = len(data)
    tenths = {length * n // 10 for n in range(10)}
    return sorted({length - n for n in range(1, 14)} | tenths)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "tiff", "bmp"])
def test_file_that_is_cut_off_is_rejected_or_complete(noise, format, dtype):
    data = encode_file(noise(dtype), format)
    whole = read_image(data).pixels
    refused = 0
    for length in cuts(data):
        try:
            assert np.array_equal(read_image(data[:length]).pixels, whole)
        except ImageError:
            refused += 1
    # The last bytes of a JPEG, and of a PNG and a TIFF written by us, carry no pixels.
    assert refused >= len(cuts(data)) - (12 if format == "png" else 4)


@pytest.mark.parametrize(
    "name",
    [
        "generated/truncated.jpg",
        "generated/truncated.png",
        "pillow/truncated_image.png",
        "pillow/shortfile.bmp",
        "image-png/xdtn0g01.png",
    ],
)
def test_real_cut_files_are_rejected(data, name):
    error_of(data / "images" / name)


def test_damaged_png_pixels_are_rejected_without_output(noise, capfd):
    data = encode_file(noise("uint16"), "png")
    place = data.index(b"IDAT") + 40
    broken = data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]
    assert "checksum" in error_of(broken)
    assert "damaged" in error_of(png_of((4, 1, 16, 0), b"\x07" + bytes(8)))
    assert "cut off" in error_of(png_of((4, 2, 16, 0), b"\0" + bytes(8)))
    assert "damaged" in error_of(png_of((4, 2, 8, 0), b"\x09" + bytes(4) + b"\x09" + bytes(4)))
    assert "cut off" in error_of(png_of((4, 2, 8, 0), b"\0" + bytes(4)))
    assert capfd.readouterr() == ("", "")


def test_metadata_bombs_are_left_out(monkeypatch):
    monkeypatch.setattr(png_chunks, "_MAX_METADATA_BYTES", 1000)
    bomb = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(100_000)))
    image = read_image(png_of((1, 1, 8, 0), b"\0\x07", bomb))
    assert image.metadata.icc is None and image.pixels.tolist() == [[[7]]]


def test_animations_and_pages_are_not_a_single_image(data):
    for name in ("image-rs/anim.webp", "generated/animated.png", "pillow/multipage.tiff"):
        assert "frames or pages" in error_of(data / "images" / name)


def test_images_can_be_read_in_several_threads(noise):
    expected = [noise(dtype, size=(90, 80)) for dtype in ("uint8", "uint16")] * 4
    files = [encode_file(image, "tiff") for image in expected]
    result = [None] * len(files)

    def work(index):
        for _ in range(5):
            result[index] = read_image(files[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(files))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for image, one in zip(expected, result, strict=True):
        assert one is not None and np.array_equal(image.pixels, one.pixels)


def test_reading_needs_no_torch():
    code = "import sys, upscale.images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pipe_can_be_read(noise, tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names here")
    path, data = tmp_path / "pipe", encode_file(noise(), "png")
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    assert read_image(path).width == 53
    writer.join()
    assert io.BytesIO(data).read(4) == b"\x89PNG"


class Counting(io.BufferedReader):
    """A file that counts the bytes that are read."""

    total = 0

    def read(self, size=-1):
        result = super().read(size)
        Counting.total += len(result)
        return result


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "tiff", "bmp"])
def test_read_size_reads_few_bytes_of_a_large_file(
    noise, exif_block, tmp_path, monkeypatch, format
):
    path = tmp_path / "large"
    metadata = Metadata(exif=exif_block(1))
    data = encode_file(noise("uint16", size=(900, 700), metadata=metadata), format)
    path.write_bytes(data)
    monkeypatch.setattr(Path, "open", lambda self, mode: Counting(io.FileIO(self)))
    monkeypatch.setattr(Counting, "total", 0)
    monkeypatch.setattr(png, "_TAIL_BYTES", 1000)
    assert read_size(path) == (900, 700)
    assert 0 < Counting.total < 20_000 < len(data) / 10


def test_orientation_behind_the_pixels_of_a_png_counts(noise, exif_block):
    data = encode_file(noise(), "png")
    turned = data[:-12] + chunk(b"eXIf", exif_block(6)) + data[-12:]
    assert read_size(turned) == (37, 53)
    assert read_image(turned).width == 37


def test_sides_beyond_the_limit_of_libpng_are_rejected():
    data = png_of((1_000_001, 1, 1, 0), bytes(1 + 125_001))
    assert read_size(data) == (1_000_001, 1)
    assert "side of more than 1000000" in error_of(data)


def test_messages_of_the_libraries_do_not_reach_standard_error(data):
    code = """
import sys
from upscale.images import read_image
for name in sys.argv[1:]:
    read_image(open(name, "rb").read())
"""
    names = [data / f"images/pillow/{name}" for name in ("1_trns.png", "tiff_16bit_RGBa.tiff")]
    run = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, check=False)
    assert (run.returncode, run.stderr) == (0, b"")
