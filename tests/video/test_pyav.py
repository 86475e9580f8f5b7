"""Both supported major versions of PyAV give the same; .ci/run runs this with each of them."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import av
import pytest

from tests.video.clips import Clip, even, make
from tests.video.test_streams import upscaled
from upscale.video.container import open_video
from upscale.video.probe import probe
from upscale.video.pyav import clean_tags, fraction, side_data


def with_latin_1_title(path):
    """Make a video whose title is in Latin-1, as old programs write it."""
    clip = Clip(even(3), container="mkv", tags={"title": "M\u00fcnchen"})
    content = make(clip, path).read_bytes()
    assert content.count("München".encode()) == 1
    path.write_bytes(content.replace("München".encode(), b"M\xfc nchen"))
    return path


def test_bytes_of_tags_that_are_not_utf_8_become_the_replacement_character(tmp_path):
    path = with_latin_1_title(tmp_path / "a.mkv")
    with open_video(path) as container:
        tags = clean_tags(container.streams.video[0].metadata)
    assert tags["title"] == "M\ufffd nchen"


def test_a_title_that_is_not_utf_8_is_written_as_valid_text(tmp_path):
    output = upscaled(probe(with_latin_1_title(tmp_path / "a.mkv")), "b.mkv", tmp_path)
    assert "M\ufffd nchen".encode() in output.read_bytes()
    with av.open(str(output)) as container:
        assert container.streams.video[0].metadata["title"] == "M\ufffd nchen"


def test_side_data_is_found_by_name(tmp_path):
    path = make(Clip(even(3), container="mp4", rotation=90), tmp_path / "a.mp4")
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert len(side_data(frame, "DISPLAYMATRIX")) == 36
    assert side_data(frame, "CONTENT_LIGHT_LEVEL") == b""


def test_side_data_that_pyav_cannot_name_is_no_error():
    def get(name):
        raise ValueError("99 is not a valid Type")

    assert side_data(SimpleNamespace(side_data=SimpleNamespace(get=get)), "DISPLAYMATRIX") == b""


def test_ratios_are_fractions(tmp_path):
    path = make(Clip(even(3), container="mp4"), tmp_path / "a.mp4")
    with av.open(str(path)) as container:
        unit = fraction(container.streams.video[0].time_base)
    assert type(unit) is Fraction
    assert unit == Clip(even(3)).time_base


@pytest.mark.parametrize("unset", [None, Fraction(0)])
def test_a_ratio_that_is_not_set_is_none(unset):
    assert fraction(unset) is None


def test_probed_ratios_are_fractions(tmp_path):
    clip = Clip(even(3), container="mp4", sample_aspect=Fraction(4, 3))
    video = probe(make(clip, tmp_path / "a.mp4"))
    ratios = (video.time_base, video.rate, video.sample_aspect)
    assert [type(each) for each in ratios] == [Fraction] * 3
    assert video.sample_aspect == Fraction(4, 3)
