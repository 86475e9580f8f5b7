"""BMP whose channels are in unusual bits, written here by Microsoft's description."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.errors import DamagedImageError
from upscale.images import read_file, read_image, read_size

HEIGHT, WIDTH = 7, 9
MASKS = {
    "4-4-4": (16, (0xF00, 0xF0, 0xF)),
    "4-4-4-4": (16, (0xF00, 0xF0, 0xF, 0xF000)),
    "5-5-5-1": (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    "2-3-1": (16, (0x30, 0xE, 0x1)),
    "11-11-10": (32, (0xFFE00000, 0x1FFC00, 0x3FF)),
    "10-10-10-2": (32, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)),
    "8-8-8 in another order": (32, (0xFF, 0xFF00, 0xFF0000)),
    "6-17-5-4": (32, (0xFC000000, 0x3FFFE00, 0x1F0, 0xF)),
}


def bitmap(packed: np.ndarray, bits: int, masks: tuple[int, ...], *, size: int = 108,
           compression: int = 3, top_down: bool = False) -> bytes:  # fmt: skip
    rows = packed.astype("<u4").view("u1").reshape(HEIGHT, WIDTH, 4)[..., : bits // 8]
    rows = rows.reshape(HEIGHT, -1)
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    pixels = (rows if top_down else rows[::-1]).tobytes()
    info = struct.pack("<IiiHHIIiiII", size, WIDTH, -HEIGHT if top_down else HEIGHT, 1, bits,
                       compression, len(pixels), 11811, 5906, 0, 0)  # fmt: skip
    info += struct.pack(f"<{len(masks)}I", *masks)
    info = info.ljust(max(size, len(info)), b"\0")
    start = 14 + len(info)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + info + pixels


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_bits_are_where_the_masks_say(name, top_down):
    bits, masks = MASKS[name]
    packed = np.random.default_rng(4).integers(0, 1 << bits, (HEIGHT, WIDTH))
    packed[0, 0], packed[0, 1] = 0, (1 << bits) - 1
    data = bitmap(packed, bits, masks, top_down=top_down)
    result = read_image(data)
    assert read_size(data) == (WIDTH, HEIGHT)
    assert (result.alpha is not None) == (len(masks) == 4)
    assert result.metadata.dpi == pytest.approx((300, 150), abs=0.02)
    full = np.iinfo(result.pixels.dtype).max
    assert full == (65535 if max(mask.bit_count() for mask in masks) > 8 else 255)
    for channel, mask in enumerate(masks):
        top = mask // (mask & -mask)
        stored = (packed & mask) // (mask & -mask)
        error = result.samples()[..., channel] / full - stored / top
        assert np.abs(error).max() <= 0.5 / full + (1 / 65535 if top > 65535 else 0)


@pytest.mark.parametrize(("size", "compression"), [(40, 6), (56, 3), (124, 3)])
def test_masks_of_every_header_are_read(size, compression):
    bits, masks = MASKS["4-4-4-4"]
    packed = np.random.default_rng(4).integers(0, 1 << bits, (HEIGHT, WIDTH))
    result = read_image(bitmap(packed, bits, masks, size=size, compression=compression))
    assert np.array_equal(result.alpha, (packed >> 12) * 17)


def test_short_header_has_no_alpha():
    bits, masks = MASKS["4-4-4"]
    packed = np.random.default_rng(4).integers(0, 1 << bits, (HEIGHT, WIDTH))
    result = read_image(bitmap(packed, bits, masks, size=40))
    assert result.alpha is None and np.array_equal(result.pixels[..., 0], (packed >> 8 & 15) * 17)


def test_alpha_that_hides_everything_is_unused():
    bits, masks = MASKS["4-4-4-4"]
    packed = np.random.default_rng(4).integers(0, 1 << 12, (HEIGHT, WIDTH))
    assert read_image(bitmap(packed, bits, masks)).alpha is None


def test_case_with_alpha_equals_pillow(data):
    path = data / "images/cases/bmp-v4-alpha.bmp"
    with PILImage.open(path) as image:
        assert np.array_equal(read_image(path).samples(), np.asarray(image))


def test_cut_bitmap_with_masks_is_cut_off():
    bits, masks = MASKS["4-4-4"]
    packed = np.random.default_rng(4).integers(0, 1 << bits, (HEIGHT, WIDTH))
    data = bitmap(packed, bits, masks)
    whole = read_image(data)
    # Nine pixels of two bytes are filled up with two bytes.
    assert np.array_equal(read_image(data[:-2]).pixels, whole.pixels)
    for lacking, missing in ((3, 1), (22, 1), (23, 2)):
        with pytest.raises(DamagedImageError, match="is cut off"):
            read_file(data[:-lacking])
        result = read_file(data[:-lacking], keep_damaged=True)
        assert result.origin.damage == (f"{missing} of its {HEIGHT} rows are missing",)
        assert np.array_equal(result.pixels[missing:], whole.pixels[missing:])
    with pytest.raises(DamagedImageError, match="is cut off"):
        read_file(data[: len(data) - 20 * HEIGHT + 3], keep_damaged=True)


def indexed(bits: int, width: int, height: int) -> tuple[np.ndarray, bytes, bytes]:
    """Colours of shape (H, W, 3), a palette of four bytes for each, and stored rows."""
    random = np.random.default_rng(6)
    table = random.integers(0, 256, (1 << bits, 3)).astype(np.uint8)
    numbers = random.integers(0, 1 << bits, (height, width)).astype(np.uint8)
    digits = np.unpackbits(numbers[..., None], axis=2)[..., -bits:].reshape(height, -1)
    rows = np.packbits(digits, axis=1)
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    palette = np.pad(table[:, ::-1], ((0, 0), (0, 1))).tobytes()
    return table[numbers], palette, rows[::-1].tobytes()


def with_palette(info: bytes, palette: bytes, body: bytes) -> bytes:
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + info + palette + body


def info_of(bits: int, width: int, height: int, colours: int = 0, compression: int = 0) -> bytes:
    return struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 2835, 2835,
                       colours, colours)  # fmt: skip


@pytest.mark.parametrize("size", [16, 24, 36, 48])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_headers_of_os2_of_any_length_are_read(bits, size):
    pixels, palette, body = indexed(bits, 21, 6)
    info = info_of(bits, 21, 6)
    info = struct.pack("<I", size) + info[4:size].ljust(size - 4, b"\0")
    data = with_palette(info, palette, body)
    assert read_size(data) == (21, 6)
    result = read_image(data)
    assert np.array_equal(result.pixels, pixels) and result.origin.damage == ()


def test_smallest_bitmap_of_os2_is_read():
    palette = bytes((1, 2, 3, 0, 40, 50, 60, 0))
    data = with_palette(struct.pack("<IIIHH", 16, 1, 1, 1, 1), palette, b"\x80\0\0\0")
    assert len(data) < 54
    assert read_image(data).pixels.tolist() == [[[60, 50, 40]]]


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_colours_that_pixels_cannot_refer_to_are_unused(bits):
    pixels, palette, body = indexed(bits, 21, 6)
    more = palette + bytes(range(44))
    data = with_palette(info_of(bits, 21, 6, len(more) // 4), more, body)
    assert np.array_equal(read_image(data).pixels, pixels)


@pytest.mark.parametrize("bits", [1, 4, 8, 24, 32])
@pytest.mark.parametrize("top_down", [False, True])
def test_bitmap_that_lacks_pixels_is_cut_off(bits, top_down):
    if bits <= 8:
        pixels, palette, body = indexed(bits, 21, 6)
    else:
        pixels, palette = np.random.default_rng(6).integers(0, 256, (6, 21, 3), np.uint8), b""
        rows = np.pad(pixels[::-1, :, ::-1], ((0, 0), (0, 0), (0, bits // 8 - 3)))
        rows = rows.reshape(6, -1)
        body = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).tobytes()
    stride, used = len(body) // 6, (21 * bits + 7) // 8
    data = with_palette(info_of(bits, 21, -6 if top_down else 6), palette, body)
    if top_down:
        pixels = pixels[::-1]
    # Without the bytes that only fill up the last row, all pixels are there.
    for spare in range(stride - used + 1):
        assert np.array_equal(read_image(data[: len(data) - spare]).pixels, pixels)
    for lacking, missing in ((stride - used + 1, 1), (stride + 1, 1 + (used == stride)),
                             (2 * stride + stride - used + 1, 3)):  # fmt: skip
        cut = data[: len(data) - lacking]
        with pytest.raises(DamagedImageError, match="is cut off"):
            read_file(cut)
        result = read_file(cut, keep_damaged=True)
        assert result.origin.damage == (f"{missing} of its 6 rows are missing",)
        kept = slice(0, 6 - missing) if top_down else slice(missing, 6)
        assert np.array_equal(result.pixels[kept], pixels[kept])


@pytest.mark.parametrize("with_end", [False, True])
def test_packed_bitmap_that_lacks_pixels_is_cut_off(with_end):
    _, palette, _ = indexed(8, 21, 6)
    table = np.frombuffer(palette, np.uint8).reshape(-1, 4)[:, 2::-1]
    body = b"".join(
        bytes((10, row, 0, 11)) + bytes(range(11)) + b"\0" + (b"\0\0" if row < 5 else b"")
        for row in range(6)
    )
    body += b"\0\1" if with_end else b""
    data = with_palette(info_of(8, 21, 6, 256, compression=1), palette, body)
    numbers = np.array([[row] * 10 + list(range(11)) for row in range(6)])[::-1]
    assert np.array_equal(read_image(data).pixels, table[numbers])
    cut = data[: len(data) - (5 if with_end else 3)]
    with pytest.raises(DamagedImageError, match="is cut off"):
        read_file(cut)
    result = read_file(cut, keep_damaged=True)
    assert result.origin.damage == ("1 of its 6 rows are missing",)
    assert np.array_equal(result.pixels[1:], table[numbers][1:])


def test_rows_after_the_end_of_a_packed_bitmap_have_the_first_colour():
    _, palette, _ = indexed(8, 21, 600)
    table = np.frombuffer(palette, np.uint8).reshape(-1, 4)[:, 2::-1]
    body = bytes((21, 7, 0, 0, 5, 9, 0, 1))
    result = read_image(with_palette(info_of(8, 21, 600, 256, compression=1), palette, body))
    numbers = np.zeros((600, 21), int)
    numbers[-1], numbers[-2, :5] = 7, 9
    assert np.array_equal(result.pixels, table[numbers]) and result.origin.damage == ()
