from __future__ import annotations

import io
import itertools
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from upscale.errors import OutputError
from upscale.images import Encoding, Metadata, encode_file, read_image, read_size

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF/></x:xmpmeta>'
DEEPEST = {"png": "uint16", "tiff": "float32", "bmp": "uint8"}
ORDER = ["uint8", "uint16", "float32"]


def exact(a, b):
    same = a.pixels.dtype == b.pixels.dtype and np.array_equal(a.pixels, b.pixels)
    if a.alpha is None or b.alpha is None:
        return same and a.alpha is b.alpha
    return same and np.array_equal(a.alpha, b.alpha)


@pytest.mark.parametrize(
    ("format", "dtype", "channels", "alpha"),
    [
        (format, dtype, channels, alpha)
        for format, dtype, channels, alpha in itertools.product(
            DEEPEST, ORDER, (1, 3), (False, True)
        )
        if ORDER.index(dtype) <= ORDER.index(DEEPEST[format]) and not (format == "bmp" and alpha)
    ],
)
@pytest.mark.parametrize("size", [(53, 37), (1, 1), (2, 300), (300, 2)])
def test_lossless_formats_keep_all_samples(noise, format, dtype, channels, alpha, size):
    image = noise(dtype, channels, alpha, size)
    back = read_image(encode_file(image, format))
    assert back.origin.format == format
    assert exact(image, back)


def test_deep_png_is_what_other_programs_read(noise):
    for channels, alpha in itertools.product((1, 3), (False, True)):
        image = noise("uint16", channels, alpha)
        data = np.frombuffer(encode_file(image, "png"), np.uint8)
        other = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        other = other.reshape(image.height, image.width, -1)
        assert np.array_equal(other[..., :3][..., ::-1][..., :channels], image.pixels)
        if alpha:
            assert np.array_equal(other[..., 3], image.alpha)


def test_deep_png_is_filtered(noise):
    ramp = np.add.outer(np.arange(90) * 300, np.arange(70) * 200).astype(np.uint16)
    image = noise("uint16", 1, False, (70, 90))
    image.pixels[:60, :, 0] = ramp[:60]
    image.pixels[20:40, :, 0] = ramp[20]
    data = encode_file(image, "png")
    assert len(data) < image.pixels.nbytes * 0.75
    assert exact(image, read_image(data))


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_lossy_formats_are_close_without_chroma_subsampling(noise, format):
    image = noise()
    image.pixels[:] = np.indices((37, 53)).sum(0)[..., None] * 2
    image.pixels[:, ::8] = (200, 40, 40)
    back = read_image(encode_file(image, format))
    error = np.abs(back.pixels.astype(int) - image.pixels)
    assert error.mean() < (3 if format == "jpeg" else 12)


def test_jpeg_is_4_4_4_at_quality_95_and_quality_matters(noise):
    image = noise()
    pil_image = Image.open(io.BytesIO(encode_file(image, "jpeg")))
    assert [layer[1:3] for layer in pil_image.layer] == [(1, 1)] * 3
    reference = io.BytesIO()
    Image.fromarray(image.pixels).save(reference, "JPEG", quality=95)
    assert pil_image.quantization == Image.open(reference).quantization
    for format in ("jpeg", "webp"):
        sizes = [len(encode_file(image, format, Encoding(q))) for q in (20, 60, 100)]
        assert sizes == sorted(sizes) and sizes[0] < sizes[2] / 2


def test_webp_keeps_alpha_exactly_and_colours_under_it(noise):
    image = noise(alpha=True, size=(64, 64))
    image.pixels[:] = (10, 200, 90)
    image.alpha[:32] = 0
    back = read_image(encode_file(image, "webp"))
    assert np.array_equal(back.alpha, image.alpha)
    assert np.abs(back.pixels.astype(int) - image.pixels).max() < 12


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_deep_samples_are_rounded_for_8_bits(noise, dtype):
    image = noise(dtype)
    back = read_image(encode_file(image, "bmp"))
    top = 65535 if dtype == "uint16" else 1
    exact_value = image.pixels.astype(np.float64) / top * 255
    assert np.abs(back.pixels - exact_value).max() <= 0.5 + 1e-4


def test_floats_out_of_range_and_nan_are_clipped(noise):
    image = noise("float32")
    image.pixels[0, :4, 0] = (np.nan, -3, 7, np.inf)
    back = read_image(encode_file(image, "png"))
    assert back.pixels.dtype == np.uint16
    assert back.pixels[0, :4, 0].tolist() == [0, 0, 65535, 65535]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "tiff"])
def test_metadata_is_kept(noise, exif_block, format, dtype):
    metadata = Metadata(SRGB, exif_block(1), XMP, (300.0, 150.0))
    image = noise(dtype, metadata=metadata)
    data = encode_file(image, format)
    back = read_image(data).metadata
    assert back.icc == SRGB and back.xmp == XMP
    assert back.dpi == pytest.approx((300, 150), rel=1e-3) or format == "webp"
    seen = Image.open(io.BytesIO(data))
    assert seen.info["icc_profile"] == SRGB
    assert seen.getexif()[0x010F] == "Some maker"
    assert seen.getexif().get_ifd(0x8769)[0x829A] == 0.5
    again = Image.Exif()
    again.load(b"Exif\0\0" + back.exif)
    assert again[0x010F] == "Some maker" and again.get_ifd(0x8769)[0x829A] == 0.5
    if format != "tiff":
        assert back.exif == metadata.exif


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "tiff", "bmp"])
def test_no_metadata_is_invented(noise, format):
    back = read_image(encode_file(noise(), format))
    assert back.metadata == Metadata()


def test_profiles_larger_than_a_segment_are_kept(noise, pillow_bytes):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = profile[4:] + np.random.default_rng(2).bytes(150_000)
    big = struct.pack(">I", 4 + len(content)) + content
    jpeg = pillow_bytes(Image.new("RGB", (8, 8)), "JPEG", icc_profile=big)
    assert read_image(jpeg).metadata.icc == big
    for format in ("jpeg", "png", "webp", "tiff"):
        image = noise(metadata=Metadata(icc=big))
        assert read_image(encode_file(image, format)).metadata.icc == big


def test_oversized_metadata_does_not_prevent_writing_a_jpeg(noise):
    metadata = Metadata(exif=b"II*\0\x08\0\0\0\0\0" + bytes(70_000), xmp=bytes(70_000))
    assert read_image(encode_file(noise(metadata=metadata), "jpeg")).metadata == Metadata()
    back = read_image(encode_file(noise(metadata=metadata), "png")).metadata
    assert (back.exif, back.xmp) == (metadata.exif, metadata.xmp)


@pytest.mark.parametrize("dpi", [(1e9, 1e9), (0.001, 0.001), (65535.4, 1.0)])
@pytest.mark.parametrize("format", ["jpeg", "png", "tiff", "bmp"])
def test_unusual_resolutions_do_not_prevent_writing(noise, format, dpi):
    assert read_size(encode_file(noise(metadata=Metadata(dpi=dpi)), format)) == (53, 37)


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("jpeg", {"alpha": True}),
        ("bmp", {"alpha": True}),
        ("webp", {"size": (16384, 1)}),
        ("jpeg", {"size": (1, 65501)}),
        ("psd", {}),
    ],
)
def test_unsupported_content_is_rejected_on_one_line(noise, format, options):
    with pytest.raises(OutputError) as caught:
        encode_file(noise(**options), format)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("quality", [0, 101, -5])
def test_quality_out_of_range_is_rejected(noise, quality):
    with pytest.raises(OutputError, match="1 to 100"):
        encode_file(noise(), "jpeg", Encoding(quality))


def test_longest_sides_can_be_written(noise):
    for format, side in (("webp", 16383), ("jpeg", 65500)):
        assert read_size(encode_file(noise(size=(side, 1)), format)) == (side, 1)


def test_real_images_are_kept_by_a_change_of_format(data):
    for name in ("deep_alpha.png", "grey.png", "cutout.png"):
        image = read_image(data / "images" / "generated" / name)
        for format in ("png", "tiff"):
            assert exact(image, read_image(encode_file(image, format)))
