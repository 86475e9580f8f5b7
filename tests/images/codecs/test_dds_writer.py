"""DDS outputs, against Pillow's reader and the numbers in Microsoft's documentation."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess

import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.errors import DependencyError
from upscale.images import (
    Encoding,
    Image,
    Origin,
    TextureEncoding,
    encode_file,
    losses,
)
from upscale.images.codecs import base
from upscale.images.codecs.dds_layouts import Texture
from upscale.images.pixels.mipmaps import Content, mipmaps

FOURCC = {"bc1": b"DXT1", "bc3": b"DXT5", "bc4": b"ATI1", "bc5": b"ATI2", "bc7": b"DX10"}
SRGB_NUMBERS = {"bc1": 72, "bc3": 78, "bc7": 99, "rgba8": 29}
NUMBERS = {"bc1": 71, "bc3": 77, "bc4": 80, "bc5": 83, "bc7": 98, "rgba8": 28}
BLOCK_BYTES = {"bc1": 8, "bc3": 16, "bc4": 8, "bc5": 16, "bc7": 16}


def photo(examples, side=128):
    with PILImage.open(examples / "kitten.jpg") as image:
        scene = np.asarray(image.convert("RGB").resize((512, 512)))
    return np.ascontiguousarray(scene[200 : 200 + side, 150 : 150 + side])


@pytest.fixture
def examples(request):
    return request.config.rootpath / "examples"


def encode(image, layout=None, mipmaps=None, normal_map=False):
    encoding = Encoding(texture=TextureEncoding(layout, mipmaps, normal_map))
    return encode_file(image, "dds", encoding)


def psnr(one, other):
    return 10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2))


def header(content):
    """Return (flags, height, width, pitch, depth, mipmaps) of a header, and its FourCC."""
    assert content[:4] == b"DDS "
    size, *fields = struct.unpack_from("<7I", content, 4)
    assert size == 124
    return tuple(fields), content[84:88]


@pytest.mark.parametrize(
    "layout, channels, quality",
    [("bc1", "RGB", 34), ("bc3", "RGBA", 33), ("bc4", "R", 42), ("bc5", "RG", 42),
     ("bc7", "RGBA", 43), ("rgba8", "RGBA", 99)],
)  # fmt: skip
def test_layouts_are_read_by_pillow(examples, layout, channels, quality):
    pixels = photo(examples)
    alpha = np.tile(np.linspace(0, 255, 128).astype(np.uint8), (128, 1))
    content = encode(Image(pixels, alpha), layout, mipmaps=False)
    fields, fourcc = header(content)
    assert fields[1:3] == (128, 128) and fields[5] == 1
    if layout == "rgba8":
        assert fields[3] == 4 * 128
        assert len(content) == 128 + 4 * 128 * 128
    else:
        assert fourcc == FOURCC[layout]
        assert fields[3] == 32 * 32 * BLOCK_BYTES[layout]
        assert len(content) == fields[3] + (148 if layout == "bc7" else 128)
    with PILImage.open(io.BytesIO(content)) as opened:
        opened.load()
        bands = [np.asarray(band) for band in opened.split()]
    expected = [*np.moveaxis(pixels, 2, 0), alpha]
    with np.errstate(divide="ignore"):
        for band, name in zip(bands, channels, strict=False):
            if layout != "bc1":
                assert psnr(band, expected["RGBA".index(name)]) > quality


@pytest.mark.parametrize("layout", ["bc4", "bc5"])
def test_single_channels_are_better_than_those_of_etcpak(examples, layout):
    etcpak = pytest.importorskip("etcpak")
    pixels = photo(examples)
    samples = np.dstack((pixels, np.full((128, 128), 255, np.uint8)))
    theirs = getattr(etcpak, f"compress_{layout}")(samples.tobytes(), 128, 128)
    mine = encode(Image(pixels), layout, mipmaps=False)
    quality = []
    for content in (mine, mine[:128] + theirs):
        with PILImage.open(io.BytesIO(content)) as opened:
            quality.append(psnr(np.asarray(opened.split()[0]), pixels[..., 0]))
    assert quality[0] > quality[1] + 1


def test_flat_and_two_valued_blocks_are_exact():
    levels = np.zeros((4, 16, 3), np.uint8)
    levels[:, 4:8], levels[:, 8:12], levels[1:3, 12:] = 255, 77, 200
    with PILImage.open(io.BytesIO(encode(Image(levels), "bc4", mipmaps=False))) as opened:
        assert np.array_equal(np.asarray(opened), levels[..., 0])


def test_bc1_is_opaque_or_transparent(examples):
    pixels = photo(examples)
    rows, columns = np.mgrid[:128, :128]
    alpha = np.where(np.hypot(rows - 60, columns - 50) < 43, 255, 0).astype(np.uint8)
    with PILImage.open(io.BytesIO(encode(Image(pixels, alpha), "bc1"))) as opened:
        result = np.asarray(opened.convert("RGBA"))
    assert np.array_equal(result[..., 3], alpha)
    assert psnr(result[..., :3][alpha > 0], pixels[alpha > 0]) > 33
    with PILImage.open(io.BytesIO(encode(Image(pixels), "bc1"))) as opened:
        result = np.asarray(opened.convert("RGBA"))
    assert (result[..., 3] == 255).all()
    assert psnr(result[..., :3], pixels) > 34


def legacy(layout, mipmaps, is_srgb=False, is_direct3d_10=False):
    return Origin("dds", storage=Texture(layout, mipmaps, is_srgb, is_direct3d_10))


@pytest.mark.parametrize("layout", NUMBERS)
@pytest.mark.parametrize("has_mipmaps", [False, True])
@pytest.mark.parametrize("is_direct3d_10", [False, True])
@pytest.mark.parametrize("is_srgb", [False, True])
def test_a_dds_file_keeps_its_layout(layout, has_mipmaps, is_direct3d_10, is_srgb):
    origin = legacy(layout, has_mipmaps, is_srgb, is_direct3d_10)
    image = Image(np.full((8, 12, 3), 90, np.uint8), origin=origin)
    content = encode(image)
    fields, fourcc = header(content)
    assert fields[5] == (4 if has_mipmaps else 1)
    if is_direct3d_10 or layout == "bc7" or (is_srgb and layout in SRGB_NUMBERS):
        assert fourcc == b"DX10"
        number, dimension, misc, count, _ = struct.unpack_from("<5I", content, 128)
        numbers = SRGB_NUMBERS if is_srgb and layout in SRGB_NUMBERS else NUMBERS
        assert (number, dimension, misc, count) == (numbers[layout], 3, 0, 1)
    else:
        assert fourcc == FOURCC.get(layout, bytes(4))
    reread = Origin("dds", storage=read_texture(content))
    assert reread.storage.layout == layout
    assert reread.storage.mipmaps == has_mipmaps


def read_texture(content):
    from upscale.images.codecs.dds_layouts import texture_of

    return texture_of(io.BytesIO(content))


def test_other_images_become_bc7_with_mipmaps_and_normal_maps_bc5():
    image = Image(np.full((4, 8, 3), 90, np.uint8))
    assert read_texture(encode(image)) == Texture("bc7", True, False, True)
    assert read_texture(encode(image, normal_map=True)) == Texture("bc5", True)
    glossy = Image(image.pixels, image.pixels[..., 0])
    assert read_texture(encode(glossy, normal_map=True)).layout == "bc7"
    assert read_texture(encode(image, "bc1", mipmaps=False)) == Texture("bc1", False)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (7, 10), (2, 17)])
@pytest.mark.parametrize("layout", NUMBERS)
def test_sizes_that_are_no_multiple_of_four(size, layout):
    """Blocks cover the whole image; each level takes at least one block."""
    pixels = np.full((size[1], size[0], 3), (200, 60, 20), np.uint8)
    content = encode(Image(pixels), layout, mipmaps=True)
    fields, fourcc = header(content)
    assert fields[1:3] == size[::-1]
    sizes = [size]
    while sizes[-1] != (1, 1):
        sizes.append(tuple(max(side // 2, 1) for side in sizes[-1]))
    assert fields[5] == len(sizes)
    if layout == "rgba8":
        stored = sum(4 * width * height for width, height in sizes)
    else:
        blocks = sum(-(-width // 4) * -(-height // 4) for width, height in sizes)
        stored = blocks * BLOCK_BYTES[layout]
    assert len(content) == stored + (148 if fourcc == b"DX10" else 128)
    with PILImage.open(io.BytesIO(content)) as opened:
        assert opened.size == size
        assert abs(int(np.asarray(opened.split()[0])[-1, -1]) - 200) < 7


def test_uncompressed_pixels_are_exact_in_both_headers():
    rng = np.random.default_rng(0)
    pixels, alpha = (
        rng.integers(0, 256, (5, 7, 3), np.uint8),
        rng.integers(0, 256, (5, 7), np.uint8),
    )
    for is_direct3d_10 in (False, True):
        origin = legacy("rgba8", False, False, is_direct3d_10)
        content = encode(Image(pixels, alpha, origin=origin))
        with PILImage.open(io.BytesIO(content)) as opened:
            assert np.array_equal(np.asarray(opened), np.dstack((pixels, alpha)))


def test_mipmaps_of_colour_are_averaged_in_linear_light_and_by_alpha():
    texture = np.zeros((2, 2, 4), np.uint8)
    texture[0, 0] = 255, 255, 255, 255
    texture[1, 1] = 0, 0, 0, 255
    texture[0, 1] = 255, 0, 255, 0
    (level,) = mipmaps(texture, Content.COLOUR)
    assert level.tolist() == [[[188, 188, 188, 128]]]
    (level,) = mipmaps(texture, Content.DATA)
    assert level.tolist() == [[[128, 64, 128, 128]]]


def test_mipmaps_of_normal_maps_have_length_one():
    angle = np.deg2rad(60)
    left = np.array([-np.sin(angle), 0, np.cos(angle)])
    vectors = np.array([[left, -left * (1, 1, -1)]] * 2)
    texture = np.dstack((np.rint((vectors + 1) * 127.5), [[10, 20], [30, 40]])).astype(np.uint8)
    (level,) = mipmaps(texture, Content.NORMALS)
    assert np.abs(level[0, 0].astype(int) - (128, 128, 255, 25)).max() <= 1


def test_levels_are_stored_after_one_another(examples):
    pixels = photo(examples, 64)
    content = encode(Image(pixels), "rgba8", mipmaps=True)
    level = np.frombuffer(content, np.uint8, 32 * 32 * 4, 128 + 64 * 64 * 4).reshape(32, 32, 4)
    light = ((pixels / 255 + 0.055) / 1.055) ** 2.4
    mean = light.reshape(32, 2, 32, 2, 3).mean((1, 3))
    expected = (mean ** (1 / 2.4) * 1.055 - 0.055) * 255
    assert np.abs(level[..., 2::-1] - expected).max() < 3
    assert (level[..., 3] == 255).all()


@pytest.mark.parametrize(
    "layout, alpha, source, clause",
    [
        ("bc4", None, None, "BC4 has one channel, so only its red was stored"),
        ("bc5", None, None, "BC5 has two channels, so its blue was not stored"),
        ("bc5", 200, None, "BC5 has no place for its transparency"),
        (
            "bc1",
            200,
            None,
            "BC1 has two levels of transparency, to which its alpha was rounded",
        ),
        (None, None, "bc2", "BC2 was stored as BC3, which holds more levels of transparency"),
        ("bc7", None, None, "its size is no multiple of 4, which Direct3D requires of BC7"),
    ],
)
def test_what_a_layout_loses_is_noted(layout, alpha, source, clause):
    side = 6 if layout == "bc7" else 8
    plane = None if alpha is None else np.full((side, side), alpha, np.uint8)
    origin = legacy(source, False) if source else Origin("png")
    image = Image(np.full((side, side, 3), 9, np.uint8), plane, origin=origin)
    assert clause in losses(image, "dds", Encoding(texture=TextureEncoding(layout)))


def test_a_missing_package_is_named_before_the_computation(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(base.importlib, "import_module", missing)
    image = Image(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DependencyError, match=r"upscale\[textures\]"):
        losses(image, "dds")
    for layout in ("rgba8", "bc4", "bc5"):
        assert losses(image, "dds", Encoding(texture=TextureEncoding(layout))) == (
            ("BC4 has one channel, so only its red was stored",) if layout == "bc4" else ()
        )


@pytest.mark.skipif(shutil.which("convert") is None, reason="ImageMagick is not installed")
@pytest.mark.parametrize("layout, quality", [("bc1", 33), ("bc3", 33), ("rgba8", 99)])
def test_imagemagick_reads_the_same(examples, tmp_path, layout, quality):
    pixels = photo(examples, 64)
    (tmp_path / "a.dds").write_bytes(encode(Image(pixels), layout, mipmaps=True))
    command = ["convert", "a.dds[0]", "-depth", "8", "rgb:-"]
    raw = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    result = np.frombuffer(raw, np.uint8).reshape(64, 64, 3)
    with np.errstate(divide="ignore"):
        assert psnr(result, pixels) > quality
