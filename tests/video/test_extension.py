"""A codec that is added from outside the package."""

from __future__ import annotations

from dataclasses import replace

import av
import pytest

from tests.jobs.test_video import Doubling, doubled, shown_in
from tests.video.clips import make_kind
from tests.video.videos import make_encoder, video
from upscale.errors import OutputError, UsageError
from upscale.jobs.video import VideoSettings, plan_video, run_video
from upscale.video import (
    VideoCodec,
    VideoEncoding,
    codec_names,
    probe,
    register_codec,
    unregister_codec,
)
from upscale.video.encoders import PresetOption

TOY = VideoCodec(
    "toy",
    "mpeg4",
    ("matroska",),
    presets=PresetOption("mbd", "simple", ("simple", "bits", "rd")),
    options=(("b", "2M"), ("bf", "2")),
)


@pytest.fixture
def toy():
    register_codec(TOY)
    yield TOY
    if "toy" in codec_names():
        unregister_codec("toy")


def test_added_codec_encodes_a_video(toy, tmp_path):
    source, output = make_kind("cfr", tmp_path), tmp_path / "out.mkv"
    settings = VideoSettings(VideoEncoding("toy", preset="rd"))
    job = plan_video(source, output, doubled, settings)
    assert job.encoder.options == (("b", "2M"), ("bf", "2"), ("mbd", "rd"))
    report = run_video(job, [Doubling()], {}, lambda *_: None, lambda _: None)
    assert report.frames == 30
    assert (probe(output).codec, probe(output).width) == ("mpeg4", 128)
    assert shown_in(output)[1] == shown_in(source)[1]
    with av.open(str(output)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]


def test_an_added_codec_has_its_encoder_and_aliases_as_further_names(tmp_path):
    register_codec(replace(TOY, name="other", aliases=("divx",)))
    try:
        for name in ("divx", "DivX", "mpeg4"):
            assert make_encoder(video(), "out.mkv", codec=name).codec == "other"
        for taken in ("divx", "x264", "libx264", "hevc"):
            with pytest.raises(ValueError, match=f"codec {taken} is already registered"):
                register_codec(replace(TOY, name="toy", aliases=(taken,)))
        assert "toy" not in codec_names()
    finally:
        unregister_codec("other")
    with pytest.raises(UsageError, match="--codec divx: unknown codec; choose one of x264"):
        make_encoder(video(), "out.mkv", codec="divx")


def test_names_and_errors_follow_the_registered_codecs(toy):
    assert codec_names()[-1] == "toy"
    with pytest.raises(OutputError, match=r"\.mp4 does not support toy; use \.mkv"):
        make_encoder(video(), "out.mp4", codec="toy")
    with pytest.raises(UsageError, match="--crf: not supported by toy"):
        make_encoder(video(), codec="toy", crf=20)
    unregister_codec("toy")
    assert "toy" not in codec_names()
    with pytest.raises(
        UsageError, match=r"--codec toy: unknown codec; choose one of x264, .*nvenc$"
    ):
        make_encoder(video(), codec="toy")


def test_name_can_be_registered_only_once(toy):
    with pytest.raises(ValueError, match="toy is already registered"):
        register_codec(TOY)


def test_codec_needs_an_encoder_that_ffmpeg_has_and_matroska_supports():
    with pytest.raises(ValueError, match="FFmpeg has no encoder nonsense"):
        register_codec(VideoCodec("other", "nonsense", ("matroska",)))
    with pytest.raises(ValueError, match="Matroska does not support huffyuv"):
        register_codec(VideoCodec("other", "huffyuv", ("matroska",)))
    assert "other" not in codec_names()
