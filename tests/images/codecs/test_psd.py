"""Photoshop documents, written here by their specification and read by psd-tools as well."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.errors import ImageError
from upscale.images import read_file, read_image

GREY, INDEXED, RGB, CMYK, MULTICHANNEL, DUOTONE, LAB = 1, 2, 3, 4, 7, 8, 9
SIZE = (9, 14)


def packbits(row: bytes) -> bytes:
    """Literal runs of at most 128 bytes."""
    parts = (row[at : at + 128] for at in range(0, len(row), 128))
    return b"".join(bytes((len(part) - 1,)) + part for part in parts)


def resource(number: int, body: bytes) -> bytes:
    padding = b"\0" * (len(body) % 2)
    return b"8BIM" + struct.pack(">HHI", number, 0, len(body)) + body + padding


def document(
    channels: np.ndarray,
    mode: int = RGB,
    *,
    layers: int | None = None,
    big: bool = False,
    packed: bool = False,
    palette: bytes = b"",
    resources: bytes = b"",
    merged: bool = True,
    blocks: bytes = b"",
) -> bytes:
    """A document of (C, H, W) channels in their own depth; layers are only counted."""
    kind = {1: ">u1", 2: ">u2", 4: ">f4"}[channels.itemsize]
    count, height, width = channels.shape
    head = b"8BPS" + struct.pack(">H6xHIIHH", 2 if big else 1, count, height, width,
                                 channels.itemsize * 8, mode)  # fmt: skip
    resources += resource(1057, struct.pack(">IBIII", 1, merged, 0, 0, 1))
    size = ">Q" if big else ">I"
    section = b""
    if layers is not None:
        info = struct.pack(">h", layers) + bytes(2)
        if channels.itemsize == 1:
            section = struct.pack(size, len(info)) + info
        else:
            key = b"Lr16" if channels.itemsize == 2 else b"Lr32"
            block = b"8BIM" + key + struct.pack(size, len(info)) + info
            section = struct.pack(size, 0) + struct.pack(">I", 0) + blocks + block
    rows = [row.astype(kind).tobytes() for channel in channels for row in channel]
    pixels = b"\0\0" + b"".join(rows)
    if packed:
        rows = [packbits(row) for row in rows]
        lengths = struct.pack(f">{len(rows)}{'I' if big else 'H'}", *map(len, rows))
        pixels = b"\0\1" + lengths + b"".join(rows)
    return (
        head
        + struct.pack(">I", len(palette)) + palette
        + struct.pack(">I", len(resources)) + resources
        + struct.pack(size, len(section)) + section
        + pixels
    )  # fmt: skip


def noise(channels: int, dtype: str = "uint8") -> np.ndarray:
    rng = np.random.default_rng(5)
    values = rng.random((channels, *SIZE))
    return values.astype(dtype) if dtype == "float32" else (
        values * np.iinfo(dtype).max
    ).astype(dtype)  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(("mode", "count"), [(GREY, 1), (DUOTONE, 1), (RGB, 3)])
def test_every_depth_is_read_exactly(mode, count, dtype, big, packed):
    stored = noise(count, dtype)
    result = read_image(document(stored, mode, big=big, packed=packed))
    assert result.alpha is None and result.pixels.dtype == dtype
    assert np.array_equal(result.pixels, np.moveaxis(stored, 0, 2))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("layers", [None, 0, 1, 3])
def test_saved_selection_is_not_transparency(layers, dtype):
    stored = noise(4, dtype)
    result = read_image(document(stored, layers=layers))
    assert result.alpha is None and np.array_equal(result.pixels, np.moveaxis(stored[:3], 0, 2))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("big", [False, True])
def test_white_behind_transparent_pixels_is_removed(big, dtype):
    """The stored colour is colour * alpha + white * (1 - alpha)."""
    full = 1 if dtype == "float32" else np.iinfo(dtype).max
    alpha = np.linspace(0, 1, SIZE[0] * SIZE[1]).reshape(SIZE)
    alpha = (alpha if full == 1 else np.rint(alpha * full)).astype(dtype)
    share = alpha / full
    stored = np.stack([level * full * share + full * (1 - share) for level in (0.8, 0.1, 0.3)])
    stored = (stored if full == 1 else np.rint(stored)).astype(dtype)
    data = document(np.concatenate((stored, alpha[None])), layers=-1, big=big)
    result = read_image(data)
    assert np.array_equal(result.alpha, alpha)
    visible = share > 0.2
    error = np.abs(result.pixels[visible] / full - (0.8, 0.1, 0.3))
    assert error.max() < (1e-5 if full == 1 else 3 / full)


@pytest.mark.parametrize(("mode", "count"), [(GREY, 1), (RGB, 3)])
def test_transparent_colours_equal_those_of_psd_tools(mode, count):
    psd_tools = pytest.importorskip("psd_tools", reason="psd-tools is not installed")
    rng = np.random.default_rng(2)
    colour, alpha = rng.integers(0, 256, (count, *SIZE)), rng.integers(0, 256, SIZE)
    stored = np.rint(colour * (alpha / 255) + 255 - alpha).astype(np.uint8)
    data = document(np.concatenate((stored, alpha[None].astype(np.uint8))), mode, layers=-1)
    result = read_image(data)
    other = np.asarray(psd_tools.PSDImage.open(io.BytesIO(document(
        np.concatenate((stored, alpha[None].astype(np.uint8))), mode
    ))).topil())  # fmt: skip
    visible = alpha > 0
    assert np.array_equal(result.alpha, other[..., -1])
    # psd-tools rounds down.
    assert np.abs(result.samples()[visible].astype(int) - other[visible]).max() <= 1


@pytest.mark.parametrize(("dtype", "key"), [("uint16", b"Mt16"), ("float32", b"Mt32")])
@pytest.mark.parametrize("big", [False, True])
def test_block_says_that_a_deep_document_is_transparent(dtype, key, big):
    stored = noise(4, dtype)
    block = b"8BIM" + key + struct.pack(">Q" if big else ">I", 0)
    result = read_image(document(stored, layers=1, big=big, blocks=block))
    assert np.array_equal(result.alpha, stored[3])


def test_case_with_soft_alpha(data):
    folder = data / "images/cases"
    result = read_image(folder / "psd-soft-alpha.psd")
    expected = np.asarray(PILImage.open(folder / "psd-soft-alpha-expected.png"))
    assert np.array_equal(result.alpha, expected[..., 3])
    error = np.abs(result.pixels.astype(int) - expected[..., :3])[result.alpha >= 16]
    assert error.max() <= 16 and error.mean() < 1


@pytest.mark.parametrize("big", [False, True])
def test_document_without_merged_image_is_rejected(big):
    data = document(noise(3), layers=1, merged=False, big=big)
    with pytest.raises(ImageError, match=r"has no merged image; save it .* or export it as PNG"):
        read_file(data)


def test_indexed_colours():
    palette = np.random.default_rng(4).integers(0, 256, (256, 3)).astype(np.uint8)
    stored = noise(1)
    result = read_image(document(stored, INDEXED, palette=palette.T.tobytes()))
    assert np.array_equal(result.pixels, palette[stored[0]])


def test_bitmap_is_black_where_bits_are_set():
    black = np.random.default_rng(4).integers(0, 2, (5, 11)).astype(np.uint8)
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 1, 5, 11, 1, 0)
    data = head + bytes(4 * 3) + b"\0\0" + np.packbits(black, axis=1).tobytes()
    assert np.array_equal(read_image(data).pixels[..., 0], (1 - black) * 255)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_cmyk_is_stored_as_paper(dtype):
    full = np.iinfo(dtype).max
    stored = np.full((4, *SIZE), full, dtype)
    stored[0, 0] = 0
    result = read_image(document(stored, CMYK))
    assert (result.pixels[1:] == full).all() and (result.pixels[0] == (0, full, full)).all()
    assert result.origin.notes == ("its colours were converted to sRGB",)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_lab_becomes_srgb(dtype):
    factor = 1 if dtype == "uint8" else 257
    stored = np.array([255, 128, 128] * 4 + [137, 128, 128] * 4).reshape(2, 4, 3)
    stored[0, 0] = 138, 209, 198  # sRGB red is L* 54.3, a* 80.8, b* 69.9
    result = read_image(document(np.moveaxis(stored * factor, 2, 0).astype(dtype), LAB))
    levels = result.pixels / 257
    assert np.abs(levels[0, 1] - 255).max() < 1 and np.ptp(levels[1, 0]) < 2
    assert np.abs(levels[0, 0] - (255, 0, 0)).max() < 6


def test_separate_inks_are_rejected():
    with pytest.raises(ImageError, match=r"separate inks \(multichannel\)"):
        read_file(document(noise(3), MULTICHANNEL))


def test_resolution_and_profile_are_kept():
    resolution = struct.pack(">IHHIHH", 300 << 16, 1, 1, 150 << 16, 1, 1)
    data = document(noise(3), resources=resource(1005, resolution) + resource(1039, b"profile!"))
    metadata = read_image(data).metadata
    assert metadata.dpi == (300, 150) and metadata.icc == b"profile!"


@pytest.mark.parametrize("packed", [False, True])
def test_every_cut_is_rejected(packed):
    data = document(noise(4), layers=-1, packed=packed)
    for length in range(8, len(data), 29):
        with pytest.raises(ImageError, match=r"is cut off|is damaged"):
            read_file(data[:length])
