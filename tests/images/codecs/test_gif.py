from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageSequence

from upscale.errors import ImageError
from upscale.images import Image, Metadata, encode_file, read_image
from upscale.images.codecs import gif


def of_colours(count, alpha=None):
    """An image with an exact number of colours."""
    rng = np.random.default_rng(3)
    table = np.unique(rng.integers(0, 256, (4 * count, 3)).astype(np.uint8), axis=0)
    table = rng.permutation(table)[:count]
    return Image(table[np.arange(40 * 41).reshape(40, 41) % count], alpha)


def by_another(data):
    with PILImage.open(io.BytesIO(data)) as pil_image:
        return np.asarray(pil_image.convert("RGBA"))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 128, 255, 256])
def test_up_to_256_colours_are_kept_exactly(count):
    image = of_colours(count)
    data = encode_file(image, "gif")
    assert np.array_equal(by_another(data)[..., :3], image.pixels)
    assert np.array_equal(read_image(data).pixels, image.pixels)


def test_255_colours_and_transparency_are_kept_exactly():
    alpha = np.random.default_rng(4).choice(np.array([0, 127, 128, 255], np.uint8), (40, 41))
    image = of_colours(255, alpha)
    result = by_another(encode_file(image, "gif"))
    assert np.array_equal(result[..., 3], np.where(alpha < 128, 0, 255))
    assert np.array_equal(result[alpha >= 128, :3], image.pixels[alpha >= 128])


def test_opaque_alpha_uses_no_palette_entry():
    image = of_colours(256, np.full((40, 41), 255, np.uint8))
    assert np.array_equal(by_another(encode_file(image, "gif"))[..., :3], image.pixels)


def test_fully_transparent_image_stays_finite():
    image = of_colours(256, np.zeros((40, 41), np.uint8))
    assert not by_another(encode_file(image, "gif"))[..., 3].any()


def test_grey_keeps_its_256_levels():
    ramp = np.tile(np.arange(256, dtype=np.uint8), (8, 1))[..., None]
    assert np.array_equal(by_another(encode_file(Image(ramp), "gif"))[..., 0], ramp[..., 0])


def test_more_colours_are_dithered():
    """The mean over an area is close to the colour; single pixels need not be."""
    ramp = np.linspace(0, 255, 256).astype(np.uint8)
    pixels = np.stack(np.meshgrid(ramp, ramp), 2)
    pixels = np.dstack((pixels, 255 - pixels[..., :1]))
    result = by_another(encode_file(Image(pixels), "gif"))[..., :3]
    assert len(np.unique(result.reshape(-1, 3), axis=0)) <= 256
    means = [cv2.resize(part.astype(np.float32), (16, 16), interpolation=cv2.INTER_AREA)
             for part in (pixels, result)]  # fmt: skip
    assert np.abs(means[0] - means[1]).mean() < 1.5


def test_comment_longer_than_a_block_is_kept():
    remark = "Grüße aus der Küche. " * 40
    image = Image(of_colours(9).pixels, metadata=Metadata(comment=remark))
    data = encode_file(image, "gif")
    with PILImage.open(io.BytesIO(data)) as pil_image:
        assert pil_image.info["comment"] == remark.encode()
    assert read_image(data).metadata.comment == remark


def test_joined_blocks_are_an_animation():
    frames = [of_colours(4), of_colours(200), of_colours(30)]
    blocks = [gif.image_block(frame, 12 + n) for n, frame in enumerate(frames)]
    data = gif.file_start(41, 40, 5, None) + b"".join(blocks) + gif.TRAILER
    with PILImage.open(io.BytesIO(data)) as pil_image:
        assert pil_image.info["loop"] == 4
        result = [(np.asarray(frame.convert("RGBA")), frame.info["duration"])
                 for frame in ImageSequence.Iterator(pil_image)]  # fmt: skip
    assert [milliseconds for _, milliseconds in result] == [120, 130, 140]
    for (pixels, _), frame in zip(result, frames, strict=True):
        assert np.array_equal(pixels[..., :3], frame.pixels)


@pytest.mark.parametrize(("plays", "loop"), [(0, 0), (1, None), (2, 1), (7, 6)])
def test_number_of_plays_is_kept(plays, loop):
    data = gif.file_start(41, 40, plays, None) + gif.image_block(of_colours(3)) * 2 + gif.TRAILER
    with PILImage.open(io.BytesIO(data)) as pil_image:
        assert pil_image.info.get("loop") == loop


@pytest.mark.parametrize("name", ["interlaced", "regular"])
def test_interlaced_rows_are_reordered(data, name):
    path = data / f"images/wuffs/hippopotamus.{name}.gif"
    expected = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert np.array_equal(read_image(path).pixels, expected)


@pytest.mark.parametrize("name", ["wuffs/hippopotamus.interlaced.truncated", "generated/truncated",
                                  "pillow/zero_width", "pillow/decompression_bomb"])  # fmt: skip
def test_damaged_files_are_rejected(data, name):
    with pytest.raises(ImageError, match=r"is (damaged|cut off)"):
        read_image(data / f"images/{name}.gif")
