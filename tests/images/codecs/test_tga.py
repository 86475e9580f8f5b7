"""Targa images of every kind, written here by the specification of Truevision."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess

import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.errors import ImageError
from upscale.images import read_image

HEIGHT, WIDTH = 11, 13
PALETTE, COLOUR, GREY, PACKED = 1, 2, 3, 8
TOP, RIGHT = 0x20, 0x10


def targa(
    stored: np.ndarray,
    kind: int,
    bits: int,
    attributes: int = 0,
    *,
    origin: int = TOP,
    colours: bytes = b"",
    palette: tuple[int, int, int] = (0, 0, 0),
    name: bytes = b"",
    alpha_type: int | None = None,
) -> bytes:
    """A file of pixels whose bytes are the last axis of an array."""
    head = struct.pack("<BBBHHBHHHHBB", len(name), bool(colours), kind, *palette, 0, 0,
                       WIDTH, HEIGHT, bits, attributes | origin)  # fmt: skip
    body = packed(stored) if kind & PACKED else stored.tobytes()
    data = head + name + colours + body
    if alpha_type is not None:
        extension = struct.pack("<H", 495) + bytes(492) + bytes((alpha_type,))
        data += extension + struct.pack("<II", len(data), 0) + b"TRUEVISION-XFILE.\0"
    return data


def packed(stored: np.ndarray) -> bytes:
    """Packets of 37 pixels, alternately single and repeated, that go over the ends of rows."""
    pixels = stored.reshape(-1, stored.shape[-1])
    parts = []
    for number, at in enumerate(range(0, len(pixels), 37)):
        run = pixels[at : at + 37]
        if number % 2:
            run[:] = run[0]
            parts.append(bytes((0x80 | (len(run) - 1),)) + run[0].tobytes())
        else:
            parts.append(bytes((len(run) - 1,)) + run.tobytes())
    return b"".join(parts)


@pytest.fixture
def read(tmp_path):
    def function(data: bytes):
        (tmp_path / "a.tga").write_bytes(data)
        return read_image(tmp_path / "a.tga")

    return function


def noise(count: int) -> np.ndarray:
    values = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, count))
    return values.astype(np.uint8)


@pytest.mark.parametrize("origin", [0, TOP, RIGHT, TOP | RIGHT])
@pytest.mark.parametrize("compression", [0, PACKED])
@pytest.mark.parametrize("attributes", [0, 8])
def test_origin_packets_and_attributes_of_32_bits(read, origin, compression, attributes):
    stored = noise(4)
    result = read(targa(stored, COLOUR | compression, 32, attributes, origin=origin, name=b"abc"))
    expected = stored[..., [2, 1, 0, 3]]
    expected = expected if origin & TOP else expected[::-1]
    expected = expected[:, ::-1] if origin & RIGHT else expected
    assert np.array_equal(result.pixels, expected[..., :3])
    assert np.array_equal(result.alpha, expected[..., 3])


@pytest.mark.parametrize("compression", [0, PACKED])
def test_unstated_alpha_of_32_bits_equals_pillow(read, compression):
    target = io.BytesIO()
    image = PILImage.fromarray(noise(4), "RGBA")
    image.save(target, "TGA", compression="tga_rle" if compression else None)
    data = bytearray(target.getvalue())
    assert data[17] & 15 == 8
    data[17] &= 0xF0
    assert np.array_equal(read(bytes(data)).samples(), np.asarray(image))
    with PILImage.open(io.BytesIO(data)) as other:
        assert np.array_equal(np.asarray(other), np.asarray(image))


@pytest.mark.parametrize("attributes", [0, 8])
def test_fourth_byte_that_is_0_everywhere_is_unused(read, attributes):
    stored = noise(4)
    stored[..., 3] = 0
    result = read(targa(stored, COLOUR, 32, attributes))
    assert result.alpha is None
    assert np.array_equal(result.pixels, stored[..., [2, 1, 0]])


@pytest.mark.parametrize("attributes", [0, 1])
@pytest.mark.parametrize("bits", [15, 16])
def test_attribute_bit_of_16_bits(read, bits, attributes):
    numbers = np.random.default_rng(3).integers(0, 65536, (HEIGHT, WIDTH)).astype("<u2")
    stored = numbers.view(np.uint8).reshape(HEIGHT, WIDTH, 2)
    result = read(targa(stored, COLOUR, bits, attributes))
    for channel, shift in enumerate((10, 5, 0)):
        assert np.array_equal(
            np.rint(result.pixels[..., channel] * (31 / 255)), numbers >> shift & 31
        )
    if bits == 16 and attributes:
        assert np.array_equal(result.alpha, (numbers >> 15) * 255)
    else:
        assert result.alpha is None


def test_case_without_attribute_bits_equals_imagemagick(data, tmp_path):
    if shutil.which("convert") is None:
        pytest.skip("ImageMagick is not installed")
    path = data / "images/cases/tga-16-attr0.tga"
    subprocess.run(["convert", path, tmp_path / "a.png"], check=True)
    result = read_image(path)
    with PILImage.open(tmp_path / "a.png") as image:
        assert "A" not in image.mode and "transparency" not in image.info
        assert np.abs(result.pixels.astype(int) - np.asarray(image.convert("RGB"))).max() <= 1


def test_case_of_packets_over_row_ends(data):
    result = read_image(data / "images/cases/tga-rle-cross.tga")
    assert result.pixels.shape == (20, 100, 3) and result.alpha is None
    colours = np.unique(result.pixels.reshape(-1, 3), axis=0)
    assert len(colours) == 2


@pytest.mark.parametrize(
    ("alpha_type", "kind"),
    [(0, "none"), (1, "none"), (2, "straight"), (3, "straight"), (4, "premultiplied")],
)
def test_footer_says_what_alpha_means(read, alpha_type, kind):
    stored = np.full((HEIGHT, WIDTH, 4), 60, np.uint8)
    stored[..., 3] = 120
    result = read(targa(stored, COLOUR, 32, 8, alpha_type=alpha_type))
    assert (result.alpha is None) == (kind == "none")
    assert (result.pixels == (128 if kind == "premultiplied" else 60)).all()


@pytest.mark.parametrize("compression", [0, PACKED])
@pytest.mark.parametrize("attributes", [0, 8])
def test_grey_with_attributes(read, compression, attributes):
    stored = noise(2)
    result = read(targa(stored, GREY | compression, 16, attributes))
    assert np.array_equal(result.pixels[..., 0], stored[..., 0])
    if attributes:
        assert np.array_equal(result.alpha, stored[..., 1])
    else:
        assert result.alpha is None


@pytest.mark.parametrize("attributes", [0, 8])
@pytest.mark.parametrize("first", [0, 5])
@pytest.mark.parametrize("compression", [0, PACKED])
def test_palette_with_alpha(read, compression, first, attributes):
    colours = np.random.default_rng(3).integers(0, 256, (40, 4)).astype(np.uint8)
    stored = noise(1) % 40 + first
    data = targa(stored, PALETTE | compression, 8, attributes, colours=colours.tobytes(),
                 palette=(first, 40, 32))  # fmt: skip
    expected = colours[stored[..., 0] - first][..., [2, 1, 0, 3]]
    result = read(data)
    assert np.array_equal(result.pixels, expected[..., :3])
    assert np.array_equal(result.alpha, expected[..., 3])


def test_palettes_equal_pillow(read):
    image = PILImage.fromarray(noise(3)).quantize(30)
    target = io.BytesIO()
    image.save(target, "TGA")
    assert np.array_equal(read(target.getvalue()).pixels, np.asarray(image.convert("RGB")))


def test_index_beyond_the_palette_is_damaged(read):
    stored = np.full((HEIGHT, WIDTH, 1), 9, np.uint8)
    with pytest.raises(ImageError, match="is damaged"):
        read(targa(stored, PALETTE, 8, colours=bytes(24), palette=(0, 8, 24)))


@pytest.mark.parametrize("compression", [0, PACKED])
def test_cut_files_are_cut_off(read, compression):
    data = targa(noise(4), COLOUR | compression, 32, 8)
    for length in (17, 18, 100, len(data) - 1):
        with pytest.raises(ImageError, match="is cut off"):
            read(data[:length])


def test_interleaved_rows_are_not_supported(read):
    with pytest.raises(ImageError, match="has interleaved rows, which is not supported"):
        read(targa(noise(4), COLOUR, 32, 8, origin=0x40))
