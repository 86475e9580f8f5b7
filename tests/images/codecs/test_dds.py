"""DDS textures of every layout, written here by Microsoft's description of the header."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.errors import ImageError
from upscale.images import read_file, read_image

ALPHA, ALPHA_ONLY, FOURCC, PALETTE, RGB, LUMINANCE = 1, 2, 4, 0x20, 0x40, 0x20000
CUBE, VOLUME = 0xFE00, 0x200000
HEIGHT, WIDTH = 12, 8


def texture(
    pixels: bytes,
    flags: int = FOURCC,
    fourcc: bytes = b"DX10",
    bits: int = 0,
    masks: tuple[int, ...] = (),
    *,
    dxgi: int | None = None,
    caps: int = 0,
    depth: int = 0,
    extension: tuple[int, int, int, int] = (3, 0, 1, 0),
) -> bytes:
    masks = (*masks, 0, 0, 0, 0)[:4]
    head = struct.pack("<4s7I44x", b"DDS ", 124, 0x1007, HEIGHT, WIDTH, 0, depth, 1)
    head += struct.pack("<II4sI4I", 32, flags, fourcc, bits, *masks)
    head += struct.pack("<5I", 0x1000, caps, 0, 0, 0)
    assert len(head) == 128
    return head + (b"" if dxgi is None else struct.pack("<5I", dxgi, *extension)) + pixels


def noise(channels: int, dtype: str = "u1") -> np.ndarray:
    values = np.random.default_rng(6).random((HEIGHT, WIDTH, channels))
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    return (values * np.iinfo(dtype).max).astype(dtype)


MASKED = {
    "A8R8G8B8": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "X8R8G8B8": (32, (0xFF0000, 0xFF00, 0xFF)),
    "A8B8G8R8": (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    "R8G8B8": (24, (0xFF0000, 0xFF00, 0xFF)),
    "R5G6B5": (16, (0xF800, 0x7E0, 0x1F)),
    "A1R5G5B5": (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    "X1R5G5B5": (16, (0x7C00, 0x3E0, 0x1F)),
    "A4R4G4B4": (16, (0xF00, 0xF0, 0xF, 0xF000)),
    "R3G3B2": (8, (0xE0, 0x1C, 0x03)),
    "A2B10G10R10": (32, (0x3FF, 0xFFC00, 0x3FF00000, 0xC0000000)),
}


@pytest.mark.parametrize("name", MASKED)
def test_bits_of_a_pixel_are_where_the_masks_say(name):
    bits, masks = MASKED[name]
    packed = np.random.default_rng(6).integers(0, 1 << bits, (HEIGHT, WIDTH))
    packed[0, 0], packed[0, 1] = 0, (1 << bits) - 1
    content = packed.astype("<u4").view("u1").reshape(HEIGHT, WIDTH, 4)[..., : bits // 8].tobytes()
    flags = RGB | (ALPHA if len(masks) == 4 else 0)
    result = read_image(texture(content, flags, bytes(4), bits, masks))
    assert (result.alpha is not None) == (len(masks) == 4)
    full = 65535 if name == "A2B10G10R10" else 255
    for channel, mask in enumerate(masks):
        top = mask >> (mask & -mask).bit_length() - 1
        stored = (packed & mask) // (mask & -mask)
        assert np.array_equal(np.rint(result.samples()[..., channel] * (top / full)), stored)
        assert result.samples()[..., channel].max() == full


def test_alpha_without_its_flag_is_not_alpha():
    bits, masks = MASKED["A8R8G8B8"]
    samples = noise(4)
    result = read_image(texture(samples.tobytes(), RGB, bytes(4), bits, masks))
    assert result.alpha is None and np.array_equal(result.pixels, samples[..., 2::-1])


@pytest.mark.parametrize("has_flag", [False, True])
def test_palette_with_alpha(has_flag):
    palette = np.random.default_rng(6).integers(0, 256, (256, 4)).astype(np.uint8)
    indices = noise(1)
    flags = PALETTE | RGB * has_flag | ALPHA * has_flag
    data = texture(palette.tobytes() + indices.tobytes(), flags, bytes(4), 8)
    assert np.array_equal(read_image(data).samples(), palette[indices[..., 0]])


def test_palette_whose_fourth_bytes_are_unused_is_opaque():
    palette = np.random.default_rng(6).integers(0, 256, (256, 4)).astype(np.uint8)
    palette[:, 3] = 0
    result = read_image(texture(palette.tobytes() + noise(1).tobytes(), PALETTE, bytes(4), 8))
    assert result.alpha is None
    assert np.array_equal(result.pixels, palette[noise(1)[..., 0], :3])


def test_palette_with_a_byte_of_alpha():
    palette = np.random.default_rng(6).integers(0, 256, (256, 4)).astype(np.uint8)
    stored = noise(2)
    result = read_image(texture(palette.tobytes() + stored.tobytes(), PALETTE, bytes(4), 16))
    assert np.array_equal(result.pixels, palette[stored[..., 0], :3])
    assert np.array_equal(result.alpha, stored[..., 1])


def test_case_of_a_palette_equals_pillow(data):
    path = data / "images/cases/dds-pal8.dds"
    with PILImage.open(path) as image:
        assert np.array_equal(read_image(path).samples(), np.asarray(image.convert("RGBA")))


@pytest.mark.parametrize(
    ("bits", "masks", "dtype"),
    [(8, (0xFF,), "u1"), (16, (0xFFFF,), "<u2"), (16, (0xFF, 0, 0, 0xFF00), "u1")],
)
def test_luminance(bits, masks, dtype):
    samples = noise(2 if len(masks) == 4 else 1, dtype)
    flags = LUMINANCE | (ALPHA if len(masks) == 4 else 0)
    result = read_image(texture(samples.tobytes(), flags, bytes(4), bits, masks))
    assert np.array_equal(result.samples(), samples)


SAMPLES = {
    2: "<f4 4", 6: "<f4 3", 10: "<f2 4", 11: "<u2 4", 16: "<f4 2", 34: "<f2 2", 35: "<u2 2",
    41: "<f4 1", 54: "<f2 1", 56: "<u2 1", 49: "<u1 2", 61: "<u1 1", 28: "<u1 4", 29: "<u1 4",
}  # fmt: skip


@pytest.mark.parametrize("number", SAMPLES)
def test_samples_of_direct3d_10(number):
    dtype, count = SAMPLES[number].split()
    samples = noise(int(count), dtype)
    result = read_image(texture(samples.tobytes(), dxgi=number))
    expected = samples.astype(np.float32 if dtype[1] == "f" else dtype[1:])
    if count == "2":
        assert result.alpha is None and not result.pixels[..., 2].any()
        assert np.array_equal(result.pixels[..., :2], expected)
    else:
        assert np.array_equal(result.samples(), expected)


@pytest.mark.parametrize(("number", "dtype"), [(36, "<u2"), (113, "<f2"), (116, "<f4")])
def test_samples_named_by_the_number_of_a_format(number, dtype):
    samples = noise(4, dtype)
    result = read_image(texture(samples.tobytes(), fourcc=struct.pack("<I", number)))
    assert np.array_equal(result.samples(), samples.astype(np.float32 if "f" in dtype else "u2"))


def test_floats_beyond_white_are_kept():
    samples = noise(4, "<f2") * 20
    result = read_image(texture(samples.astype("<f2").tobytes(), dxgi=10))
    assert result.pixels.max() > 15 and result.pixels.dtype == np.float32


BLOCKS = {1: 71, 2: 74, 3: 77, 4: 80, 5: 83, 7: 98}


@pytest.mark.parametrize("number", BLOCKS)
def test_blocks_equal_those_of_imagecodecs(number):
    size = 8 if number in (1, 4) else 16
    content = np.random.default_rng(9).integers(0, 256, HEIGHT * WIDTH // 16 * size)
    content = content.astype(np.uint8).tobytes()
    channels = {4: 1, 5: 2}.get(number, 4)
    shape = (HEIGHT, WIDTH, channels) if channels > 1 else (HEIGHT, WIDTH)
    expected = imagecodecs.bcn_decode(content, number, shape=shape).reshape(HEIGHT, WIDTH, -1)
    result = read_image(texture(content, dxgi=BLOCKS[number]))
    samples = result.samples()[..., :channels].astype(int)
    # Decoders round interpolated colours differently.
    assert np.abs(samples - expected).max() <= (2 if number < 6 else 0)


@pytest.mark.parametrize(("dxgi", "number"), [(95, 6), (96, -6)])
def test_floats_in_blocks_are_floats(dxgi, number):
    content = np.random.default_rng(9).integers(0, 256, HEIGHT * WIDTH).astype(np.uint8).tobytes()
    expected = imagecodecs.bcn_decode(content, number, shape=(HEIGHT, WIDTH, 3))
    result = read_image(texture(content, dxgi=dxgi))
    assert np.array_equal(result.pixels, expected.astype(np.float32))


def test_first_colours_without_transparency_are_opaque():
    target = io.BytesIO()
    PILImage.fromarray(noise(3)).save(target, "DDS", pixel_format="DXT1")
    assert read_image(target.getvalue()).alpha is None


@pytest.mark.parametrize("fourcc", [b"DXT2", b"DXT4"])
def test_premultiplied_colours_are_divided_by_alpha(fourcc):
    # Colour (64, 64, 64) with an alpha of 136 in every pixel: 120.
    colour = struct.pack("<HHI", 0b01000_010000_01000, 0b01000_010000_01000, 0)
    alpha = b"\x88" * 8 if fourcc == b"DXT2" else bytes((136, 136)) + bytes(6)
    result = read_image(texture((alpha + colour) * (HEIGHT * WIDTH // 16), fourcc=fourcc))
    assert (result.alpha == 136).all() and np.abs(result.pixels.astype(int) - 123).max() <= 1


@pytest.mark.parametrize(("mode", "kind"), [(2, "premultiplied"), (3, "opaque")])
def test_meaning_of_alpha_in_direct3d_10(mode, kind):
    samples = np.full((HEIGHT, WIDTH, 4), 100, np.uint8)
    result = read_image(texture(samples.tobytes(), dxgi=28, extension=(3, 0, 1, mode)))
    assert (result.alpha is None) == (kind == "opaque")
    assert (result.pixels == (100 if kind == "opaque" else 255)).all()


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({"caps": CUBE}, "only the first of its 6 faces was read"),
        ({"caps": VOLUME, "depth": 4}, "only the first of its 4 slices was read"),
        ({"dxgi": 28, "extension": (3, 4, 1, 0)}, "only the first of its 6 faces was read"),
        ({"dxgi": 28, "extension": (3, 0, 5, 0)}, "only the first of its 5 textures was read"),
        ({"dxgi": 28, "extension": (4, 0, 1, 0), "depth": 7}, "only the first of its 7 slices"),
    ],
)
def test_what_is_not_read_is_noted(options, note):
    samples = np.stack([noise(4) // (number + 1) for number in range(7)])
    if "dxgi" in options:
        data = texture(samples.tobytes(), **options)
    else:
        bits, masks = MASKED["A8B8G8R8"]
        data = texture(samples.tobytes(), RGB | ALPHA, bytes(4), bits, masks, **options)
    result = read_image(data)
    assert result.origin.notes[0].startswith(note) and len(result.origin.notes) == 1
    assert np.array_equal(result.samples(), samples[0])


def test_other_formats_are_named():
    with pytest.raises(ImageError, match="in the format YUY2, which is not supported"):
        read_file(texture(bytes(1000), fourcc=b"YUY2"))
    with pytest.raises(ImageError, match="in DXGI format 67, which is not supported"):
        read_file(texture(bytes(1000), dxgi=67))


def test_cut_textures_are_rejected():
    data = texture(noise(4, "<f2").tobytes(), dxgi=10)
    for length in (20, 127, 140, 148, len(data) - 1):
        with pytest.raises(ImageError, match="is cut off"):
            read_file(data[:length])
