"""The size in the AV1 data of AVIF files counts for `max_pixels`, beside that in the container."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.errors import ImageError
from upscale.images import Image, encode_file, read_file
from upscale.images.codecs.av1_header import coded_pixels


def avif(width: int, height: int, bits: int = 8) -> bytes:
    dtype = np.uint16 if bits > 8 else np.uint8
    return encode_file(Image(np.zeros((height, width, 3), dtype)), "avif")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("size", [(1, 1), (64, 48), (300, 7), (1000, 513)])
def test_size_is_that_of_the_encoder(size, bits):
    assert coded_pixels(avif(*size, bits)) == size[0] * size[1]


@pytest.mark.parametrize(
    "name",
    [
        *("colors-animated-8bpc.avif", "colors_hdr_rec2020.avif", "hopper.avif"),
        *("icc_profile.avif", "transparency.avif", "rot1mir0.avif"),
    ],
)
def test_size_of_foreign_files_is_that_of_their_container(data, name):
    (path,) = (data / "images").rglob(name)
    with PILImage.open(path) as image:
        assert coded_pixels(path.read_bytes()) == image.width * image.height


def test_container_that_says_a_smaller_size_does_not_pass_the_limit():
    data = avif(1000, 500)
    size = struct.pack(">II", 1000, 500)
    assert data.count(size) == 1
    forged = data.replace(size, struct.pack(">II", 10, 5))
    with pytest.raises(ImageError, match="500000 is more than the limit of 10000 pixels"):
        read_file(forged, max_pixels=10_000)


def test_crop_to_a_part_does_not_pass_the_limit(monkeypatch):
    from upscale.images.codecs import avif as codec

    monkeypatch.setattr(codec, "crop_of", lambda *_: (slice(0, 5), slice(0, 10)))
    with pytest.raises(ImageError, match="500000 is more than the limit of 10000 pixels"):
        read_file(avif(1000, 500), max_pixels=10_000)


@pytest.mark.parametrize("seed", range(200))
def test_damaged_files_end_in_an_expected_error(seed):
    generator = np.random.default_rng(seed)
    data = bytearray(avif(64, 48))
    for _ in range(int(generator.integers(1, 12))):
        data[generator.integers(len(data))] = generator.integers(256)
    try:
        read_file(bytes(data))
    except ImageError as error:
        assert "\n" not in str(error)
