from __future__ import annotations

import io
import shutil
import struct
import subprocess

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageCms

from upscale.errors import ImageError, OutputError
from upscale.images import Encoding, Image, Metadata, Origin, encode_file, read_image, read_size
from upscale.images.codecs import avif
from upscale.images.encoding import ResolvedEncoding

EXACT = Encoding(lossless=True)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def of_bits(noise, bits, channels, alpha):
    """Noise that a file of 8, 10 or 12 bits holds exactly, in an array of 8 or 16."""
    image = noise("uint16", channels, alpha)
    if bits == 8:
        narrow = [None if part is None else (part >> 8).astype(np.uint8) for part in parts(image)]
        return Image(*narrow)
    top = 2**bits - 1
    wide = [None if part is None else part.astype(np.int64) for part in parts(image)]
    stretched = [
        None if part is None else ((part * top // 65535) * 65535 + top // 2) // top for part in wide
    ]
    stretched = [None if part is None else part.astype(np.uint16) for part in stretched]
    return Image(*stretched, Metadata(), Origin("png", bits))


def parts(image):
    return image.pixels, image.alpha


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_all_samples_of_all_depths_are_kept(noise, bits, channels, alpha):
    image = of_bits(noise, bits, channels, alpha)
    data = encode_file(image, "avif", EXACT)
    back = read_image(data)
    assert back.bits == bits and np.array_equal(back.pixels, image.pixels)
    assert (back.alpha is None) if not alpha else np.array_equal(back.alpha, image.alpha)


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_another_decoder_returns_samples_in_their_depth(noise, bits):
    image = of_bits(noise, bits, 3, True)
    result = imagecodecs.avif_decode(encode_file(image, "avif", EXACT))
    scale = 255 if bits == 8 else 65535
    expected = np.rint(image.samples() * ((2**bits - 1) / scale))
    assert np.array_equal(result, expected)


@pytest.mark.parametrize("alpha", [False, True])
def test_another_decoder_returns_metadata_byte_for_byte(noise, exif_block, alpha):
    metadata = Metadata(icc=PROFILE, exif=exif_block(1), xmp=b"<x:xmpmeta/>")
    data = encode_file(noise(alpha=alpha, metadata=metadata), "avif", EXACT)
    with PILImage.open(io.BytesIO(data)) as pil_image:
        pil_image.load()
        assert pil_image.info["icc_profile"] == PROFILE
        assert pil_image.info["exif"] == metadata.exif
        assert pil_image.info["xmp"] == metadata.xmp
    assert read_image(data).metadata == metadata


@pytest.mark.parametrize("field", ["icc", "exif", "xmp"])
def test_each_metadata_field_is_kept_alone(noise, exif_block, field):
    value = {"icc": PROFILE, "exif": exif_block(1), "xmp": b"<x:xmpmeta/>"}[field]
    metadata = Metadata(**{field: value})
    image = noise("uint8", 1, True, metadata=metadata)
    back = read_image(encode_file(image, "avif", EXACT))
    assert back.metadata == metadata and np.array_equal(back.pixels, image.pixels)


def test_colour_spaces_by_number_are_kept(noise):
    image = noise("uint16", metadata=Metadata(cicp=(9, 16)))
    assert read_image(encode_file(image, "avif")).metadata.cicp == (9, 16)


def test_real_file_of_10_bits_keeps_its_colour_space_by_number(data):
    result = read_image(data / "images/libavif/colors_hdr_rec2020.avif")
    assert (result.metadata.cicp, result.bits, result.pixels.dtype) == ((9, 16), 10, np.uint16)
    path = data / "images/libavif/colors_hdr_rec2020.avif"
    ten_bits = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert np.array_equal(np.rint(result.pixels / 65535 * 1023), ten_bits)


@pytest.mark.parametrize("name", ["rot1mir0", "rot3mir1"])
def test_orientation_of_the_container_is_applied(data, name):
    path = data / f"images/generated/{name}.avif"
    result = read_image(path)
    assert (result.width, result.height) == (128, 96) == read_size(path)
    with PILImage.open(data / "photos/scenes/waves.webp") as photo:
        expected = np.asarray(photo.convert("RGB").resize((128, 96), PILImage.Resampling.LANCZOS))
    assert np.abs(result.pixels.astype(int) - expected).mean() < 4
    assert np.abs(result.pixels[::-1].astype(int) - expected).mean() > 20
    with PILImage.open(path) as pil_image:
        assert pil_image.getexif()[274] == 5


def test_orientation_in_exif_alone_is_reset_and_not_applied(noise, exif_block):
    metadata = Metadata(exif=exif_block(6))
    target = io.BytesIO()
    avif.encode(noise(metadata=metadata), target, ResolvedEncoding(95, True))
    back = read_image(target.getvalue())
    assert (back.width, back.height) == (53, 37)
    assert back.metadata.exif == exif_block(1)


def test_lossy_files_have_no_chroma_subsampling():
    """Chroma subsampling would mix stripes of one pixel in two hues of equal brightness."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (200, 60, 60), (40, 120, 140)
    back = read_image(encode_file(Image(stripes), "avif", Encoding(quality=90)))
    assert np.abs(back.pixels.astype(int) - stripes).mean() < 3


def test_quality_decides_the_size_and_100_is_not_lossless(data):
    image = read_image(data / "images/pillow/hopper.avif")
    sizes = [len(encode_file(image, "avif", Encoding(quality=q))) for q in (30, 60, 90, 100)]
    assert sizes == sorted(sizes)
    assert sizes[-1] < len(encode_file(image, "avif", EXACT))


def test_lossless_file_is_recognised(noise):
    assert avif.read_header(io.BytesIO(encode_file(noise(), "avif", EXACT))).lossless
    assert not avif.read_header(io.BytesIO(encode_file(noise(), "avif"))).lossless


def test_files_that_a_strict_reader_rejects_are_rejected_on_one_line(data):
    with pytest.raises(ImageError, match=r"alpha_noispe\.avif: is damaged; use an undamaged"):
        read_image(data / "images/libavif/alpha_noispe.avif")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_file_cut_off_is_rejected(noise, share):
    data = encode_file(noise("uint16"), "avif", EXACT)
    with pytest.raises(ImageError, match=r"is (damaged|cut off)"):
        read_image(data[: int(len(data) * share)])


def test_unexpected_layout_of_the_encoder_is_rejected(noise, monkeypatch):
    plain = imagecodecs.avif_encode(noise().pixels)
    changed = plain.replace(b"iloc\0\0\0\0\x44\0", b"iloc\1\0\0\0\x44\0")
    monkeypatch.setattr(imagecodecs, "avif_encode", lambda *_, **__: changed)
    with pytest.raises(OutputError, match="layout"):
        encode_file(noise(), "avif")


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(("left", "top", "width", "height"), [(8, 4, 20, 16), (0, 30, 64, 18)])
def test_crop_is_applied(tmp_path, noise, depth, alpha, left, top, width, height):
    samples = noise("uint8", 3, alpha, size=(64, 48)).samples()
    PILImage.fromarray(samples).save(tmp_path / "a.png")
    crop = "--crop", f"{left},{top},{width},{height}", "--irot", "1"
    avifenc(tmp_path, "--lossless", "-d", str(depth), *crop)
    shown = np.rot90(samples[top : top + height, left : left + width]).astype(int)
    assert read_size(tmp_path / "a.avif") == (height, width)
    back = read_image(tmp_path / "a.avif").samples().astype(int)
    assert np.abs(back - shown * (1 if depth == 8 else 257)).max() <= (0 if depth == 8 else 64)


def test_crop_beyond_the_image_is_damaged(tmp_path, noise):
    PILImage.fromarray(noise(size=(64, 48)).pixels).save(tmp_path / "a.png")
    avifenc(tmp_path, "--crop", "8,4,20,16")
    data = (tmp_path / "a.avif").read_bytes()
    position = data.index(b"clap") + 4 + 16
    for right, is_damaged in ((22, False), (23, True), (-22, False), (-23, True)):
        shifted = data[:position] + struct.pack(">iI", right, 1) + data[position + 8 :]
        if is_damaged:
            with pytest.raises(ImageError, match="is damaged"):
                read_image(shifted)
        else:
            assert read_image(shifted).width == 20


def avifenc(folder, *options):
    if shutil.which("avifenc") is None:
        pytest.skip("avifenc is not installed")
    command = ["avifenc", "--speed", "10", *options, folder / "a.png", folder / "a.avif"]
    subprocess.run(command, check=True, capture_output=True)
