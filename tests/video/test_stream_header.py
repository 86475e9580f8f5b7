from __future__ import annotations

import av
import pytest

from tests.video.clips import Clip, even, make
from upscale.video.stream_header import (
    CROPS,
    PROJECTION,
    STEREO_MODE,
    matroska_header,
    scaled,
    shown_elements,
    shown_size,
    shown_with,
)

ELEMENTS = {STEREO_MODE: b"\x03", CROPS[0]: b"\x02", CROPS[2]: b"\x04"}


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1"])
def test_a_template_has_the_elements_and_the_parameters_of_its_stream(codec, tmp_path):
    path = make(Clip(even(2), codec=codec, container="matroska", size=(64, 64)), tmp_path / "a.mkv")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert shown_elements(matroska_header(stream)) == {}
        with shown_with(stream, ELEMENTS, next(container.demux(stream))) as shown:
            found = shown_elements(matroska_header(shown))
            assert found == ELEMENTS
            made, given = shown.codec_context, stream.codec_context
            assert (made.name, made.extradata) == (given.name, given.extradata)
            assert (made.width, made.height) == (given.width, given.height)
            assert made.pix_fmt == given.pix_fmt


def test_a_crop_is_scaled_and_nothing_else():
    found = scaled({**ELEMENTS, PROJECTION: b"projection"}, 1.5, 2)
    numbers = [int.from_bytes(found[kind]) for kind in (CROPS[0], CROPS[2])]
    assert numbers == [4, 6]
    assert (found[STEREO_MODE], found[PROJECTION]) == (b"\x03", b"projection")


def test_a_crop_of_any_number_can_be_scaled():
    assert scaled({CROPS[1]: bytes([255] * 8)}, 4, 4)[CROPS[1]] == bytes([255] * 4)


def test_a_crop_makes_the_shown_size_smaller():
    assert shown_size(40, 30, ELEMENTS) == (36, 28)
    assert shown_size(40, 30, {}) == (40, 30)


@pytest.mark.parametrize("end", [0, 5, 40, 100])
def test_a_header_that_is_cut_off_has_no_elements(end, tmp_path):
    path = make(Clip(even(2)), tmp_path / "a.mp4")
    with av.open(str(path)) as container:
        header = matroska_header(container.streams.video[0])
    assert shown_elements(header[:end]) == {}
