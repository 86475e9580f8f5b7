"""How videos are encoded: formats, colours and options, each tried with the real encoder."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from tests.video.videos import HDR10, HERE, HOLDER, settle, video
from upscale.errors import OutputError, UsageError
from upscale.video.encoders import CODECS, container_of
from upscale.video.info import Colour


@pytest.mark.parametrize(
    ("name", "container"),
    [
        ("a.mp4", "mp4"),
        ("a.M4V", "mp4"),
        ("a.mov", "mov"),
        ("a.mkv", "matroska"),
        ("a.webm", "webm"),
    ],
)
def test_the_suffix_names_the_container(name, container):
    assert container_of(Path(name)) == container


@pytest.mark.parametrize("name", ["video.avi", "video", "video.png"])
def test_other_suffixes_are_refused_in_one_line(name):
    with pytest.raises(OutputError, match=r"^video.*choose one of \.mp4, .*\.webm$"):
        container_of(Path(name))


@pytest.mark.parametrize(
    ("output", "codec"),
    [("out.webm", "x264"), ("out.mp4", "prores"), ("out.mp4", "ffv1"), ("out.mov", "svt-av1")],
)
def test_a_container_that_cannot_hold_the_codec_is_refused(output, codec):
    with pytest.raises(OutputError, match=f"cannot hold {codec}, which goes into"):
        settle(video(), output, codec=codec)


def test_x264_is_the_default_except_in_webm():
    assert settle(video(), "out.mp4").codec == "x264"
    assert settle(video(), "out.webm").codec == "vp9"


@pytest.mark.parametrize(
    ("codec", "source", "expected"),
    [
        ("x264", "yuv420p", "yuv420p"),
        ("x264", "yuv420p10le", "yuv420p10le"),
        ("x264", "yuv422p12le", "yuv422p10le"),
        ("x264", "gbrp", "yuv444p"),
        ("x264", "gray", "yuv420p"),
        ("x264", "yuv411p", "yuv422p"),
        ("x264", "yuv440p", "yuv444p"),
        ("x264", "yuva420p", "yuv420p"),
        ("x265", "yuv420p12le", "yuv420p12le"),
        ("x265", "yuv444p16le", "yuv444p12le"),
        ("svt-av1", "yuv444p10le", "yuv420p10le"),
        ("vp9", "yuv422p", "yuv422p"),
        ("prores", "yuv420p", "yuv422p10le"),
        ("prores", "yuva444p10le", "yuva444p10le"),
        ("ffv1", "gbrp", "gbrp"),
        ("ffv1", "gbrp10le", "gbrp10le"),
        ("ffv1", "gray", "gray"),
        ("ffv1", "yuva420p10le", "yuva420p10le"),
        ("ffv1", "yuv420p9le", "yuv420p9le"),
    ],
)
def test_depth_and_chroma_are_kept_where_the_codec_has_them(codec, source, expected):
    settled = settle(video(source), HOLDER.get(codec, "out.mkv"), codec=codec)
    assert settled.planes.name == expected
    assert av.VideoFormat(expected).components[0].bits == settled.planes.depth


@pytest.mark.parametrize(
    ("codec", "source", "note"),
    [
        ("x264", "yuv420p12le", "10 of the video's 12 bits"),
        ("svt-av1", "yuv444p", "less detail of colours"),
        ("x264", "yuva420p", "no transparency"),
    ],
)
def test_what_the_codec_cannot_keep_is_said(codec, source, note):
    (said,) = settle(video(source), codec=codec).notes
    assert note in said


@pytest.mark.parametrize("codec", HERE)
def test_a_common_video_loses_nothing(codec):
    assert settle(video(), HOLDER.get(codec, "out.mkv"), codec=codec).notes == ()


@pytest.mark.parametrize("codec", HERE)
def test_unknown_options_are_an_error_before_any_work(codec):
    with pytest.raises(UsageError, match=r"takes no bogus$"):
        settle(video(), HOLDER.get(codec, "out.mkv"), codec=codec, options=(("bogus", "1"),))


@pytest.mark.parametrize(
    ("codec", "option"),
    [("x264", "x264-params"), ("x265", "x265-params"), ("svt-av1", "svtav1-params")],
)
def test_options_for_the_encoders_own_parser_are_checked_too(codec, option):
    with pytest.raises(UsageError, match="takes no bogus"):
        settle(video(), codec=codec, options=((option, "bogus=1"),))


def test_an_unknown_option_is_an_error_the_second_time_too():
    for _ in range(2):
        with pytest.raises(UsageError, match="takes no bogus"):
            settle(video(), options=(("x264-params", "bogus=1"),))


def test_wrong_values_are_usage_errors():
    with pytest.raises(UsageError, match="Error setting option aq-mode"):
        settle(video(), options=(("aq-mode", "sometimes"),))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"codec": "theora"}, "--codec theora: unknown; choose one of x264"),
        ({"codec": "x264", "crf": 70}, "--crf 70: x264 takes 0 to 51"),
        ({"codec": "ffv1", "crf": 10}, "--crf: ffv1 has no such setting"),
        ({"codec": "x264", "preset": "hasty"}, "--preset hasty: x264 takes ultrafast"),
        ({"codec": "ffv1", "preset": "slow"}, "--preset: ffv1 has none"),
        ({"codec": "x264", "pixel_format": "nv12"}, "--pix-fmt nv12: x264 has"),
        ({"codec": "vp9", "pixel_format": "yuva420p"}, "--pix-fmt yuva420p: vp9 has"),
    ],
)
def test_wrong_wishes_are_refused_in_one_line(asked, said):
    with pytest.raises(UsageError) as refusal:
        settle(video(), **asked)
    assert str(refusal.value).startswith(said)
    assert "\n" not in str(refusal.value)


def test_wishes_reach_the_encoder():
    settled = settle(
        video(),
        crf=23.5,
        preset="fast",
        pixel_format="yuv444p10le",
        options=(("tune", "film"), ("x264-params", "bframes=2")),
    )
    assert settled.planes.name == "yuv444p10le"
    assert dict(settled.options) | {
        "crf": "23.5",
        "preset": "fast",
        "tune": "film",
        "x264-params": "bframes=2",
    } == dict(settled.options)


@pytest.mark.parametrize("codec", ["x264", "x265"])
def test_odd_sizes_are_refused_with_a_way_out(codec):
    with pytest.raises(OutputError, match=r"65x48 as yuv420p.*even.*--pix-fmt yuv444p"):
        settle(video(), size=(65, 48), codec=codec)
    assert settle(video(), size=(65, 49), codec=codec, pixel_format="yuv444p").width == 65


@pytest.mark.parametrize("codec", ["svt-av1", "vp9", "prores", "ffv1"])
def test_other_codecs_take_odd_sizes(codec):
    assert settle(video(), HOLDER.get(codec, "out.mkv"), (65, 49), codec=codec).height == 49


def test_a_size_that_no_encoder_takes_is_refused():
    with pytest.raises(OutputError, match="x264 cannot encode 20000x20000"):
        settle(video(), size=(20000, 20000))


@pytest.mark.parametrize("codec", [name for name in CODECS if "nvenc" in name])
def test_hardware_encoders_are_used_only_where_they_open(codec):
    try:
        settled = settle(video(), size=(320, 240), codec=codec)
    except OutputError as refusal:
        assert str(refusal).startswith(f"{codec} cannot encode 320x240")
    else:
        assert dict(settled.options)["cq"] == "19"


def test_tags_are_those_of_the_source():
    hdr = Colour("bt2020", False, primaries=9, transfer=16, space=9, chroma_location=3)
    settled = settle(video("yuv420p10le", colour=hdr), codec="x265")
    assert settled.colour == hdr


@pytest.mark.parametrize(
    ("matrix", "height", "space"),
    [("bt709", 720, 1), ("bt601", 480, 6), ("bt601", 576, 5), ("bt2020", 2160, 9)],
)
def test_a_guessed_matrix_is_tagged_since_the_output_has_another_size(matrix, height, space):
    guessed = Colour(matrix, full_range=False, guessed=True)
    settled = settle(video(colour=guessed, height=height))
    assert (settled.colour.space, settled.colour.primaries) == (space, 2)
    assert settled.colour.chroma_location == 1


def test_full_range_stays_where_it_can_be_said():
    full = Colour("bt601", full_range=True, space=5)
    assert settle(video(colour=full)).colour.full_range
    assert settle(video(colour=full)).colour.space == 5
    assert not settle(video(colour=full), "out.mov", codec="prores").colour.full_range


def test_rgb_videos_become_bt709_except_where_rgb_is_kept():
    rgb = Colour("rgb", full_range=True, primaries=1, transfer=13, space=0)
    converted = settle(video("gbrp", colour=rgb)).colour
    assert (converted.matrix, converted.full_range, converted.space) == ("bt709", False, 1)
    assert (converted.primaries, converted.transfer) == (1, 13)
    kept = settle(video("gbrp", colour=rgb), codec="ffv1")
    assert (kept.colour.matrix, kept.pixel_format) == ("rgb", "bgr0")


def test_hdr10_metadata_goes_to_the_encoders_that_carry_it():
    source = video("yuv420p10le", hdr=HDR10)
    x265 = dict(settle(source, codec="x265").options)["x265-params"]
    assert x265.endswith(
        "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
        ":max-cll=1000,400"
    )
    av1 = dict(settle(source, codec="svt-av1").options)["svtav1-params"]
    assert "mastering-display=G(0.265,0.69)B(0.15,0.06)" in av1
    assert "L(1000,0.0001):content-light=1000,400" in av1
    assert settle(source, codec="x264").notes == ()
    assert settle(source, codec="vp9").notes[-1] == "vp9 carries no HDR10 metadata"


def test_hevc_in_mp4_is_tagged_for_apple_players():
    assert settle(video(), "out.mp4", codec="x265").tag == "hvc1"
    assert settle(video(), "out.mkv", codec="x265").tag is None


def test_444_prores_gets_a_profile_that_holds_it():
    settled = settle(video("yuv444p10le"), "out.mov", codec="prores")
    assert dict(settled.options)["profile"] == "4444"
