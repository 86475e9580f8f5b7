from __future__ import annotations

import io
import re
import sys

import cv2
import numpy as np
import pytest
from PIL import ImageCms

from upscale.errors import DependencyError, ImageError
from upscale.images import (
    Encoding,
    Image,
    Metadata,
    Origin,
    encode_file,
    read_file,
    read_image,
    read_size,
)
from upscale.images.formats import sniff
from upscale.images.pixels.depth import stretched
from upscale.images.pixels.orientation import upright

pillow_heif = pytest.importorskip("pillow_heif")

EXACT = Encoding(lossless=True)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def of_bits(bits, channels, alpha, size=(37, 53)):
    """Noise of 8, 10 or 12 bits: the samples themselves, and an image of them."""
    rng = np.random.default_rng(6)
    samples = rng.integers(0, 2**bits, (*size, channels + alpha)).astype(
        np.uint8 if bits == 8 else np.uint16
    )
    wide = samples if bits == 8 else stretched(samples, bits)
    plane = np.ascontiguousarray(wide[..., -1]) if alpha else None
    pixels = np.ascontiguousarray(wide[..., :channels])
    return samples, Image(pixels, plane, Metadata(), Origin("png", bits))


def by_another(data):
    return pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("size", [(37, 53), (1, 1), (64, 2)])
def test_all_samples_of_all_depths_are_kept(bits, channels, alpha, size):
    samples, image = of_bits(bits, channels, alpha, size)
    data = encode_file(image, "heic", EXACT)
    back = read_image(data)
    assert back.bits == bits and np.array_equal(back.pixels, image.pixels)
    assert (back.alpha is None) if not alpha else np.array_equal(back.alpha, image.alpha)
    if channels + alpha != 2:
        assert np.array_equal(np.asarray(by_another(data)).reshape(samples.shape), samples)


def test_metadata_is_kept_byte_for_byte(noise, exif_block):
    metadata = Metadata(icc=PROFILE, exif=exif_block(1), xmp=b"<x:xmpmeta/>")
    data = encode_file(noise(metadata=metadata), "heic")
    assert read_image(data).metadata == metadata
    info = by_another(data).info
    assert (info["icc_profile"], info["exif"], info["xmp"]) == (
        PROFILE,
        metadata.exif,
        metadata.xmp,
    )


def test_colour_spaces_by_number_are_kept(noise):
    image = noise("uint16", metadata=Metadata(cicp=(9, 16)))
    assert read_image(encode_file(image, "heic")).metadata.cicp == (9, 16)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(orientation, exif_block):
    """pillow-heif copies the EXIF orientation to the container, as phones do."""
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[:20, :32], pixels[:20, 32:], pixels[20:, :32] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    target = io.BytesIO()
    pillow_heif.encode(
        "RGB",
        (64, 40),
        pixels.tobytes(),
        target,
        chroma=444,
        quality=90,
        exif=exif_block(orientation),
    )
    back = read_image(target.getvalue())
    assert read_size(target.getvalue()) == (back.width, back.height)
    expected = upright(pixels, orientation).astype(int)
    assert np.abs(back.pixels - expected).max() < 12
    assert back.metadata.exif == exif_block(1)


def test_other_images_in_the_file_are_left_out_with_a_note():
    file = pillow_heif.HeifFile()
    for value in (50, 100, 150):
        file.add_frombytes("L", (32, 16), bytes([value]) * 512)
    target = io.BytesIO()
    file.save(target, primary_index=1)
    back = read_image(target.getvalue())
    assert np.abs(back.pixels.astype(int) - 100).max() <= 2
    assert back.origin.notes == ("other images in it were left out",)


def test_quality_decides_the_size(data):
    image = read_image(data / "images/pillow/hopper.avif")
    sizes = [len(encode_file(image, "heic", Encoding(quality=q))) for q in (30, 60, 90)]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] < len(encode_file(image, "heic", EXACT))


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_file_cut_off_is_rejected(noise, share):
    data = encode_file(noise(), "heic", EXACT)
    with pytest.raises(ImageError, match=r"is (damaged|cut off)"):
        read_image(data[: int(len(data) * share)])


def test_missing_package_is_named_with_its_install_command(noise, monkeypatch):
    data = encode_file(noise(), "heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for work in (lambda: read_image(data), lambda: encode_file(noise(), "heic")):
        with pytest.raises(DependencyError, match=r"pip install 'upscale\[heic\]'"):
            work()


@pytest.mark.parametrize(
    ("start", "format"),
    [
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "avif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "heic"),
        (b"\0\0\0\x1cftypmsf1\0\0\0\0msf1avisavif", "avif"),
        (b"\0\0\0\x14ftypmif1\0\0\0\0mif1avif", "heic"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mif1avif", None),
    ],
)
def test_other_brands_decide_where_the_major_brand_is_general(start, format):
    assert sniff(start) == format


@pytest.mark.parametrize("there", [0.4, 0.7, 0.95])
def test_rows_of_a_cut_file_are_kept(there):
    small = np.random.default_rng(1).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    pixels = cv2.resize(small, (256, 192), interpolation=cv2.INTER_CUBIC)
    target = io.BytesIO()
    pillow_heif.from_bytes("RGB", (256, 192), pixels.tobytes()).save(target, quality=90)
    data = target.getvalue()
    whole = np.asarray(by_another(data))
    cut = data[: int(len(data) * there)]
    with pytest.raises(ImageError, match="is cut off"):
        read_image(cut)
    part = read_file(cut, keep_damaged=True)
    (damage,) = part.origin.damage
    missing = int(re.fullmatch(r"the last (\d+) of 192 rows are missing", damage)[1])
    kept = 192 - missing
    assert 192 * (there - 0.35) < kept < 192
    # The filter between blocks reaches a few rows into those above.
    assert np.abs(part.pixels[: kept - 8].astype(int) - whole[: kept - 8]).max() == 0
    assert not part.pixels[kept:].any()


def test_cut_file_whose_main_image_is_whole(noise):
    target = io.BytesIO()
    images = pillow_heif.from_bytes("RGB", (64, 64), noise(size=(64, 64)).pixels.tobytes())
    images.add_frombytes("RGB", (64, 64), bytes(64 * 64 * 3))
    images.save(target, primary_index=0)
    data = target.getvalue()
    with pytest.raises(ImageError, match="is cut off"):
        read_image(data[:-1])
    assert read_file(data[:-1], keep_damaged=True).origin.damage == ("its end is missing",)
    samsung = data + b"\x7f\xff\xff\xffsefd" + bytes(9)
    assert np.array_equal(read_image(samsung).pixels, read_image(data).pixels)


def test_transparency_that_is_cut_off_is_left_out(noise):
    data = encode_file(noise(alpha=True, size=(64, 48)), "heic", EXACT)
    part = read_file(data[:-2000], keep_damaged=True)
    assert part.origin.damage == ("its transparency is missing",)
    assert part.alpha is None and np.array_equal(part.pixels, read_image(data).pixels)
