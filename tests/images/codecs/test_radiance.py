"""Radiance HDR, against OpenCV and imagecodecs."""

from __future__ import annotations

import cv2
import imagecodecs
import numpy as np
import pytest

from upscale.errors import ImageError, OutputError
from upscale.images import Image, Metadata, encode_file, losses, read_image

START = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n"


def light(height, width):
    """Light with a common magnitude for the three colours, as RGBE keeps it well."""
    rng = np.random.default_rng(2)
    magnitude = np.exp(rng.uniform(-5, np.log(90), (height, width, 1)))
    return (magnitude * rng.uniform(0.6, 1, (height, width, 3))).astype(np.float32)


def by_opencv(values):
    done, content = cv2.imencode(".hdr", values[..., ::-1])
    assert done
    return content.tobytes()


@pytest.mark.parametrize("size", [(6, 9), (3, 2), (40, 33)])
def test_both_directions_agree_with_opencv(size):
    values = light(*size)
    image = read_image(by_opencv(values))
    assert image.pixels.shape == (*size, 3)
    assert image.metadata.cicp == (1, 8)
    assert np.abs(image.pixels / values - 1).max() < 0.015
    content = encode_file(Image(values, metadata=Metadata(cicp=(1, 8))), "hdr")
    theirs = imagecodecs.rgbe_decode(content)
    assert np.abs(theirs / values - 1).max() < 0.015
    mine = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert np.array_equal(theirs, mine)
    assert np.array_equal(read_image(content).pixels, theirs)


def test_integers_become_linear_light():
    content = encode_file(Image(np.full((4, 4, 1), 188, np.uint8)), "hdr")
    theirs = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.abs(theirs - 0.502886).max() < 0.005


@pytest.mark.parametrize(
    "signs, turn",
    [(b"-+", lambda a: a), (b"--", lambda a: a[:, ::-1]),
     (b"++", lambda a: a[::-1]), (b"+-", lambda a: a[::-1, ::-1])],
)  # fmt: skip
def test_orientations(signs, turn):
    values = light(5, 7)
    content = by_opencv(values)
    changed = content.replace(b"-Y 5 +X 7", signs[:1] + b"Y 5 " + signs[1:] + b"X 7")
    expected = turn(read_image(content).pixels)
    assert np.array_equal(read_image(changed).pixels, expected)


def test_what_is_left_out_is_noted():
    content = by_opencv(light(4, 4))
    lines = content.replace(b"\n\n", b"\nEXPOSURE=2.0\nPRIMARIES=0 0 1 0 0 1 .3 .3\n\n", 1)
    notes = read_image(lines).origin.notes
    assert notes == ("its exposure was left out", "its primaries were left out")
    dark = Image(np.full((2, 2, 3), -1, np.float32), metadata=Metadata(cicp=(9, 8)))
    assert losses(dark, "hdr") == ("values below 0 became 0", "its primaries were left out")
    assert read_image(encode_file(dark, "hdr")).pixels.max() == 0


def test_what_it_cannot_hold_is_an_error():
    alpha = Image(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8))
    with pytest.raises(OutputError, match="transparency"):
        encode_file(alpha, "hdr")
    pq = Image(np.zeros((2, 2, 3), np.uint16), metadata=Metadata(cicp=(9, 16)))
    with pytest.raises(OutputError, match="colour space"):
        encode_file(pq, "hdr")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"#?RADIANCE\nFORMAT=32-bit_rle_xyze\n\n-Y 2 +X 2\n" + bytes(16), "XYZ"),
        (START + b"\n+X 2 -Y 2\n" + bytes(16), "columns"),
        (START + b"\n", "damaged"),
        (START + b"\n-Y 2000 +X 2000\n" + bytes(16), "damaged|cut off"),
    ],
)
def test_other_files_are_an_error(content, message):
    with pytest.raises(ImageError, match=message):
        read_image(content)
