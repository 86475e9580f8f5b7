from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from upscale.jobs.frames import FrameEnlarger
from upscale.video.encoding import Encoder, plane_format
from upscale.video.film import Colour, Film, VideoFrame

COLOUR = Colour("bt709", full_range=False, primaries=1, transfer=1, space=1)


class Doubling:
    """Repeats pixels, and keeps what it was shown."""

    def __init__(self):
        self.seen = []

    def run(self, array, *, scale=None, size=None, progress=None):
        self.seen.append(array)
        assert array.dtype == np.float32 and array.min() >= 0 and array.max() <= 1
        return SimpleNamespace(pixels=array.repeat(2, 0).repeat(2, 1), report=None)


def film(name, colour=COLOUR, size=(16, 12)):
    return Film(
        path=Path("film.mkv"), stream=0, width=size[0], height=size[1],
        planes=plane_format(name), source_format=name, colour=colour, time_base=Fraction(1, 25),
        plan=(0, 1, 2), rate=Fraction(25), duration=None, sample_aspect=None, display_matrix=None,
        rotation=0, interlaced=False, top_first=False, hdr=None, timecode=None, codec="ffv1",
        container="matroska",
    )  # fmt: skip


def encoder(name, colour=COLOUR, size=(32, 24)):
    return Encoder(
        codec="ffv1", encoder="ffv1", container="matroska", width=size[0], height=size[1],
        planes=plane_format(name), pixel_format=name, colour=colour, options=(), tag=None,
        time_base=Fraction(1, 25), rate=Fraction(25), sample_aspect=None,
    )  # fmt: skip


def flat(name, codes, pts=0, repeats=False, size=(16, 12)):
    """A frame of one colour, given by its codes."""
    planes = plane_format(name)
    kind = np.uint8 if planes.depth == 8 else np.uint16
    made = []
    for number, code in enumerate(codes):
        chroma = planes.kind == "yuv" and number in (1, 2)
        width = -(-size[0] >> planes.chroma_across) if chroma else size[0]
        height = -(-size[1] >> planes.chroma_down) if chroma else size[1]
        made.append(np.full((height, width), code, kind))
    return VideoFrame(pts, tuple(made), repeats)


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("yuv420p", (16, 128, 128)),
        ("yuv420p", (235, 90, 240)),
        ("yuv420p", (250, 128, 128)),  # whiter than white
        ("yuv420p", (4, 128, 128)),  # blacker than black
        ("yuv422p10le", (700, 300, 600)),
        ("yuv444p12le", (3000, 1000, 2500)),
        ("gray", (77,)),
        ("gbrp", (10, 200, 90)),
        ("yuva420p", (100, 90, 140, 37)),
    ],
)
def test_flat_colours_come_back_within_a_level(name, codes):
    enlarger = FrameEnlarger(film(name), encoder(name), Doubling())
    large = enlarger.enlarge(flat(name, codes, pts=7))
    assert large.pts == 7
    for plane, code, small in zip(large.planes, codes, flat(name, codes).planes, strict=True):
        assert plane.shape == (small.shape[0] * 2, small.shape[1] * 2)
        assert plane.dtype == small.dtype
        assert np.abs(plane.astype(int) - code).max() <= 1


def test_more_bits_and_another_chroma_keep_the_colour():
    enlarger = FrameEnlarger(film("yuv420p"), encoder("yuv444p10le"), Doubling())
    large = enlarger.enlarge(flat("yuv420p", (120, 100, 150)))
    for plane, code in zip(large.planes, (480, 400, 600), strict=True):
        assert plane.shape == (24, 32)
        assert np.abs(plane.astype(int) - code).max() <= 2


def test_a_grey_film_becomes_neutral_colour_where_the_codec_has_no_grey():
    network = Doubling()
    enlarger = FrameEnlarger(film("gray", Colour("bt709", True)), encoder("yuv420p"), network)
    large = enlarger.enlarge(flat("gray", (128,)))
    assert network.seen[0].shape == (12, 16, 1)
    assert np.abs(large.planes[0].astype(int) - (16 + 219 * 128 / 255)).max() <= 1
    assert all((plane == 128).all() for plane in large.planes[1:])


def test_a_frame_that_repeats_is_computed_once_and_has_its_own_time():
    network = Doubling()
    enlarger = FrameEnlarger(film("yuv420p"), encoder("yuv420p"), network)
    first = enlarger.enlarge(flat("yuv420p", (99, 128, 128), pts=3))
    second = enlarger.enlarge(flat("yuv420p", (99, 128, 128), pts=5, repeats=True))
    third = enlarger.enlarge(flat("yuv420p", (98, 128, 128), pts=6))
    assert len(network.seen) == enlarger.computed == 2
    assert [frame.pts for frame in (first, second, third)] == [3, 5, 6]
    assert second.planes is first.planes
    assert third.planes[0][0, 0] == 98


def test_a_first_frame_that_claims_to_repeat_is_computed():
    network = Doubling()
    enlarger = FrameEnlarger(film("yuv420p"), encoder("yuv420p"), network)
    enlarger.enlarge(flat("yuv420p", (99, 128, 128), repeats=True))
    assert len(network.seen) == 1
