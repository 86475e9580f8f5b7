"""Targa outputs, against the fields of the specification and OpenCV's and Pillow's readers."""

from __future__ import annotations

import io
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.images import Image, Origin, encode_file, read_image
from upscale.images.codecs.tga_writer import Targa


def picture(channels, alpha):
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (9, 14, channels), np.uint8)
    pixels[2:6] = 70  # runs
    return Image(pixels, rng.integers(1, 256, (9, 14), np.uint8) if alpha else None)


@pytest.mark.parametrize("is_run_length_encoded", [False, True])
@pytest.mark.parametrize("is_top_down", [False, True])
@pytest.mark.parametrize(
    "channels, alpha, kind, bits, attributes", [(1, False, 3, 8, 0), (3, False, 2, 24, 0),
                                                (3, True, 2, 32, 8), (1, True, 2, 32, 8)],
)  # fmt: skip
def test_files_keep_compression_and_order_of_rows(
    tmp_path, channels, alpha, kind, bits, attributes, is_top_down, is_run_length_encoded
):
    layout = Targa(is_run_length_encoded, is_top_down)
    made = picture(channels, alpha)
    content = encode_file(
        Image(made.pixels, made.alpha, origin=Origin("tga", storage=layout)), "tga"
    )
    assert content[2] == kind + (8 if is_run_length_encoded else 0)
    assert content[16] == bits
    assert content[17] == attributes + (0x20 if is_top_down else 0)
    expected = np.broadcast_to(made.pixels, (9, 14, 3))
    with PILImage.open(io.BytesIO(content)) as opened:
        assert np.array_equal(np.asarray(opened.convert("RGB")), expected)
    path = tmp_path / "a.tga"
    path.write_bytes(content)
    result = read_image(path)
    assert np.array_equal(np.broadcast_to(result.pixels, (9, 14, 3)), expected)
    assert (result.alpha is None) == (not alpha)
    if alpha:
        assert np.array_equal(result.alpha, made.alpha)
    assert result.origin.storage == layout
    if shutil.which("convert"):
        command = ["convert", "a.tga", "-auto-orient", "-depth", "8", "rgba:-"]
        raw = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
        theirs = np.frombuffer(raw, np.uint8).reshape(9, 14, 4)
        assert np.array_equal(theirs[..., :3], expected)
        assert np.array_equal(theirs[..., 3], made.alpha if alpha else np.full((9, 14), 255))


def test_other_images_are_stored_plainly_from_the_bottom_row():
    image = picture(3, False)
    content = encode_file(image, "tga")
    assert content[2] == 2 and content[17] == 0
    assert content[18:21] == bytes(image.pixels[-1, 0, ::-1])
