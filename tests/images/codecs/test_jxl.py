from __future__ import annotations

import io
import sys

import imagecodecs
import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageCms

from upscale.errors import DependencyError, ImageError
from upscale.images import Encoding, Image, Metadata, encode_file, read_image, read_size
from upscale.images.codecs import jpeg, jxl, jxl_header
from upscale.images.codecs.iso_boxes import box, boxes

EXACT = Encoding(lossless=True)
KINDS = ["uint8", "uint16", "float32"]


def profile_of(data):
    """Name of the colour space, by another decoder."""
    pillow_jxl = pytest.importorskip("pillow_jxl")
    icc = pillow_jxl.Decoder(num_threads=1)(data)[3]
    return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc))).strip()


def packed(path):
    """A recompressed JPEG, which can be restored."""
    return bytes(imagecodecs.jpegxl_encode_jpeg(path.read_bytes(), usecontainer=True))


def without(data, kind):
    return b"".join(box(name, body) for name, body in boxes(data) if name != kind)


def smooth(dtype, channels=3):
    """A ramp from black to white, in sRGB."""
    ramp = np.linspace(0, 1, 256)[None, :, None] * np.ones((32, 1, channels))
    scale = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    ramp = ramp * scale if dtype == "float32" else np.rint(ramp * scale)
    return Image(ramp.astype(dtype)), scale


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_all_samples_are_kept(noise, dtype, channels, alpha):
    image = noise(dtype, channels, alpha)
    data = encode_file(image, "jxl", EXACT)
    back = read_image(data)
    assert back.pixels.dtype == dtype and np.array_equal(back.pixels, image.pixels)
    assert (back.alpha is None) if not alpha else np.array_equal(back.alpha, image.alpha)
    result = imagecodecs.jpegxl_decode(data)
    assert np.array_equal(result.reshape(image.samples().shape), image.samples())
    assert back.origin.lossless


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("lossless", [False, True])
def test_colours_are_named_srgb_in_every_depth(dtype, channels, lossless):
    image, _ = smooth(dtype, channels)
    data = encode_file(image, "jxl", Encoding(lossless=lossless))
    assert profile_of(data) == ("sRGB" if channels == 3 else "Gra_D65_Rel_SRG")
    assert read_image(data).metadata.cicp is None


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_lossy_files_keep_their_colours(dtype, channels):
    """Deep samples are converted to linear light and back."""
    image, scale = smooth(dtype, channels)
    back = read_image(encode_file(image, "jxl", Encoding(quality=95)))
    assert back.pixels.dtype == dtype
    assert np.abs(back.pixels / scale - image.pixels / scale).max() < 3 / 255


@pytest.mark.parametrize("dtype", KINDS)
def test_transparency_is_exact_in_lossy_files(noise, dtype):
    image = noise(dtype, alpha=True)
    assert np.array_equal(read_image(encode_file(image, "jxl")).alpha, image.alpha)


def test_metadata_is_kept_byte_for_byte(noise, exif_block):
    metadata = Metadata(exif=exif_block(1), xmp=b"<x:xmpmeta/>")
    data = encode_file(noise("uint16", metadata=metadata), "jxl")
    assert read_image(data).metadata == metadata
    result = dict(boxes(data))
    assert (result[b"Exif"], result[b"xml "]) == (bytes(4) + metadata.exif, metadata.xmp)


@pytest.mark.parametrize("name", ["hopper_orientation_6", "rgb", "hopper_gray"])
def test_recompressed_jpeg_is_read_as_the_original_jpeg(data, name):
    path = data / f"images/pillow/{name}.jpg"
    result, plain = read_image(packed(path)), read_image(path)
    assert result.metadata == plain.metadata
    assert np.array_equal(result.pixels, plain.pixels)
    assert read_size(packed(path)) == (plain.width, plain.height)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_orientation_is_applied_once(data, orientation):
    path = data / f"images/pillow/hopper_orientation_{orientation}.jpg"
    bare = without(packed(path), b"jbrd")
    result, plain = read_image(bare), read_image(path)
    assert read_size(bare) == (plain.width, plain.height) == (result.width, result.height)
    assert np.abs(result.pixels.astype(int) - plain.pixels).mean() < 2
    assert result.metadata.exif == plain.metadata.exif


def test_profile_is_read_where_only_it_defines_the_colours(data):
    pytest.importorskip("pillow_jxl")
    path = data / "images/pillow/rgb.jpg"
    bare = without(packed(path), b"jbrd")
    assert read_image(bare).metadata.icc == read_image(path).metadata.icc


def test_missing_package_for_profiles_is_named(data, monkeypatch):
    bare = without(packed(data / "images/pillow/rgb.jpg"), b"jbrd")
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(DependencyError, match=r"pip install 'upscale\[jxl\]'"):
        read_image(bare)
    assert read_size(bare) == (100, 100)


@pytest.mark.parametrize("bits", [1, 4, 10, 12])
def test_few_bits_are_scaled_to_the_full_range(bits):
    rng = np.random.default_rng(2)
    samples = rng.integers(0, 2**bits, (9, 12, 3)).astype(np.uint8 if bits < 8 else np.uint16)
    back = read_image(bytes(imagecodecs.jpegxl_encode(samples, bitspersample=bits)))
    full = np.iinfo(back.pixels.dtype).max
    assert np.array_equal(np.rint(back.pixels / full * (2**bits - 1)), samples)
    assert back.bits == (bits if bits > 8 else 8)
    # What imagecodecs stores in more than 8 bits it calls linear light.
    assert back.metadata.cicp == ((1, 8) if bits > 8 else None)


def test_half_floats_are_read():
    samples = np.random.default_rng(2).random((9, 12, 3)).astype(np.float16)
    back = read_image(bytes(imagecodecs.jpegxl_encode(samples, lossless=True)))
    assert back.pixels.dtype == np.float32 and np.array_equal(back.pixels, samples)


def test_first_frame_of_an_animation_is_read_with_a_note():
    frames = np.random.default_rng(2).integers(0, 256, (3, 9, 12, 3)).astype(np.uint8)
    back = read_image(bytes(imagecodecs.jpegxl_encode(frames, lossless=True)))
    assert np.array_equal(back.pixels, frames[0])
    assert back.origin.notes == ("only the first frame of its animation was read",)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (256, 256), (300, 200), (7, 2000), (3000, 1)])
def test_sizes_are_known_before_anything_is_decoded(size):
    data = bytes(imagecodecs.jpegxl_encode(np.zeros((size[1], size[0]), np.uint8)))
    result = jxl_header.parse(data)
    assert (result.width, result.height) == size
    with pytest.raises(ImageError, match="more than the limit"):
        read_image(data, max_pixels=size[0] * size[1] - 1)


def test_metadata_that_would_fill_the_memory_is_rejected(noise):
    bomb = imagecodecs.brotli_encode(bytes(100_000_000))
    data = encode_file(noise(), "jxl") + box(b"brob", b"xml " + bytes(bomb))
    with pytest.raises(ImageError, match="is damaged"):
        read_image(data)


def test_compressed_metadata_is_decompressed(noise):
    data = encode_file(noise(), "jxl")
    data += box(b"brob", b"xml " + bytes(imagecodecs.brotli_encode(b"<x:xmpmeta/>")))
    assert read_image(data).metadata.xmp == b"<x:xmpmeta/>"


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.95])
def test_file_cut_off_is_rejected(noise, share):
    data = encode_file(noise("uint16"), "jxl", EXACT)
    with pytest.raises(ImageError, match=r"is (damaged|cut off)"):
        read_image(data[: int(len(data) * share) + 2])


def test_quality_decides_the_size(data):
    image = read_image(data / "images/pillow/hopper.avif")
    sizes = [len(encode_file(image, "jxl", Encoding(quality=q))) for q in (30, 60, 90, 100)]
    assert sizes == sorted(set(sizes))


def test_recompressed_jpeg_needs_no_optional_package(data):
    path = data / "images/pillow/rgb.jpg"
    header = jxl.read_header(io.BytesIO(packed(path)))
    assert header == jpeg.read_header(io.BytesIO(path.read_bytes()))
    with PILImage.open(path) as pil_image:
        assert pil_image.size == (header.width, header.height)
