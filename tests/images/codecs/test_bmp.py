"""BMP whose channels are in unusual bits, written here by Microsoft's description."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.errors import ImageError
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


def test_cut_bitmap_is_cut_off():
    bits, masks = MASKS["4-4-4"]
    data = bitmap(np.zeros((HEIGHT, WIDTH), int), bits, masks)
    with pytest.raises(ImageError, match="is cut off"):
        read_file(data[:-1])
