"""Encoders: formats, colours and options, each tested with the real encoder."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from tests.video.videos import HDR10, HERE, HOLDER, make_encoder, video
from upscale.errors import OutputError, UsageError
from upscale.video.encoders import codec_names, configure, container_of
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
def test_suffix_selects_the_container(name, container):
    assert container_of(Path(name)) == container


@pytest.mark.parametrize("name", ["video.avi", "video", "video.png"])
def test_other_suffixes_are_rejected_with_the_supported_ones(name):
    with pytest.raises(OutputError, match=r"^video.*choose one of \.mp4, .*\.webm$"):
        container_of(Path(name))


@pytest.mark.parametrize(
    ("output", "codec"),
    [("out.webm", "x264"), ("out.mp4", "prores"), ("out.mp4", "ffv1"), ("out.mov", "svt-av1")],
)
def test_codec_that_the_container_does_not_support_is_rejected(output, codec):
    with pytest.raises(OutputError, match=f"does not support {codec}; use "):
        make_encoder(video(), output, codec=codec)


def test_default_codec_is_x264_except_in_webm():
    assert make_encoder(video(), "out.mp4").codec == "x264"
    assert make_encoder(video(), "out.webm").codec == "vp9"


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("libx264", "x264"),
        ("h264", "x264"),
        ("H.264", "x264"),
        ("avc", "x264"),
        ("libx265", "x265"),
        ("h265", "x265"),
        ("h.265", "x265"),
        ("hevc", "x265"),
        ("HEVC", "x265"),
        ("av1", "svt-av1"),
        ("svtav1", "svt-av1"),
        ("libsvtav1", "svt-av1"),
        ("libvpx-vp9", "vp9"),
        ("prores_ks", "prores"),
        ("X264", "x264"),
    ],
)
def test_names_of_ffmpeg_and_common_names_select_the_codec(name, codec):
    assert make_encoder(video(), "out.mkv", codec=name) == make_encoder(
        video(), "out.mkv", codec=codec
    )
    assert name not in codec_names()


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
def test_depth_and_chroma_subsampling_are_preserved_if_supported(codec, source, expected):
    encoder = make_encoder(video(source), HOLDER.get(codec, "out.mkv"), codec=codec)
    assert encoder.frame_format.planes.name == expected
    assert av.VideoFormat(expected).components[0].bits == encoder.frame_format.planes.depth


@pytest.mark.parametrize(
    ("codec", "source", "note"),
    [
        ("x264", "yuv420p12le", "from 12 to 10 bits"),
        ("svt-av1", "yuv444p", "reduces the chroma resolution"),
        ("x264", "yuva420p", "does not preserve transparency"),
    ],
)
def test_losses_of_the_codec_are_noted(codec, source, note):
    (line,) = make_encoder(video(source), codec=codec).notes
    assert note in line


@pytest.mark.parametrize("codec", HERE)
def test_common_video_has_no_losses(codec):
    assert make_encoder(video(), HOLDER.get(codec, "out.mkv"), codec=codec).notes == ()


@pytest.mark.parametrize("codec", HERE)
def test_unknown_encoder_option_is_an_error(codec):
    with pytest.raises(UsageError, match=r"^--encoder-option bogus: .* has no such option$"):
        make_encoder(video(), HOLDER.get(codec, "out.mkv"), codec=codec, options=(("bogus", "1"),))


@pytest.mark.parametrize(
    ("codec", "option"),
    [("x264", "x264-params"), ("x265", "x265-params"), ("svt-av1", "svtav1-params")],
)
def test_unknown_parameter_in_a_parameter_list_is_an_error(codec, option):
    with pytest.raises(UsageError, match=r"bogus: .* has no such option"):
        make_encoder(video(), codec=codec, options=((option, "bogus=1"),))


def test_unknown_option_is_an_error_again_on_a_second_call():
    for _ in range(2):
        with pytest.raises(UsageError, match=r"bogus: .* has no such option"):
            make_encoder(video(), options=(("x264-params", "bogus=1"),))


def test_invalid_option_value_is_a_usage_error():
    with pytest.raises(UsageError, match="Error setting option aq-mode"):
        make_encoder(video(), options=(("aq-mode", "sometimes"),))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec": "theora"}, "--codec theora: unknown codec; choose one of x264"),
        ({"codec": "x264", "crf": 70}, "--crf 70: x264 accepts 0 to 51"),
        ({"codec": "ffv1", "crf": 10}, "--crf: not supported by ffv1"),
        ({"codec": "x264", "preset": "hasty"}, "--preset hasty: x264 accepts ultrafast"),
        ({"codec": "ffv1", "preset": "slow"}, "--preset: not supported by ffv1"),
        ({"codec": "x264", "pixel_format": "nv12"}, "--pix-fmt nv12: not supported by x264"),
        ({"codec": "vp9", "pixel_format": "yuva444p"}, "--pix-fmt yuva444p: not supported by vp9"),
    ],
)
def test_invalid_encoding_options_are_one_line_errors(options, message):
    with pytest.raises(UsageError) as refusal:
        make_encoder(video(), **options)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_encoding_options_reach_the_encoder():
    encoder = make_encoder(
        video(),
        crf=23.5,
        preset="fast",
        pixel_format="yuv444p10le",
        options=(("tune", "film"), ("x264-params", "bframes=2")),
    )
    assert encoder.frame_format.planes.name == "yuv444p10le"
    assert dict(encoder.options) | {
        "crf": "23.5",
        "preset": "fast",
        "tune": "film",
        "x264-params": "bframes=2",
    } == dict(encoder.options)


def test_options_of_the_user_override_all_defaults():
    own = (("crf", "31"), ("preset", "fast"), ("threads", "2"))
    options = dict(make_encoder(video(), crf=23, preset="slow", options=own).options)
    assert options == {"crf": "31", "preset": "fast", "threads": "2"}


def test_parameters_of_the_user_come_last_so_that_they_take_precedence():
    own = "frame-threads=1:max-cll=1,1"
    source = video("yuv420p10le", hdr=HDR10)
    options = dict(make_encoder(source, codec="x265", options=(("x265-params", own),)).options)
    parameters = options["x265-params"].split(":")
    assert parameters[:2] == ["log-level=none", "frame-threads=4"]
    assert parameters[-3:] == ["max-cll=1000,400", "frame-threads=1", "max-cll=1,1"]


@pytest.mark.parametrize("has_avx512", [False, True])
def test_parameters_of_the_user_come_after_those_for_the_machine(has_avx512, monkeypatch):
    monkeypatch.setattr("cv2.checkHardwareSupport", lambda _: has_avx512)
    encoder = make_encoder(video(), options=(("x264-params", "asm=sse2"),))
    context = av.CodecContext.create(encoder.ffmpeg_name, "w")
    configure(context, encoder)
    expected = "asm=avx2:asm=sse2" if has_avx512 else "asm=sse2"
    assert context.options["x264-params"] == expected
    assert dict(encoder.options)["x264-params"] == "asm=sse2"


@pytest.mark.parametrize("codec", ["x264", "x265"])
def test_odd_size_is_rejected_with_alternatives(codec):
    with pytest.raises(OutputError, match=r"65x48 as yuv420p.*even.*--pix-fmt yuv444p"):
        make_encoder(video(), size=(65, 48), codec=codec)
    encoder = make_encoder(video(), size=(65, 49), codec=codec, pixel_format="yuv444p")
    assert encoder.frame_format.width == 65


@pytest.mark.parametrize("codec", ["svt-av1", "vp9", "prores", "ffv1"])
def test_other_codecs_accept_odd_sizes(codec):
    encoder = make_encoder(video(), HOLDER.get(codec, "out.mkv"), (65, 49), codec=codec)
    assert encoder.frame_format.height == 49


def test_size_beyond_the_encoders_limit_is_rejected():
    with pytest.raises(OutputError, match="x264 cannot encode 20000x20000"):
        make_encoder(video(), size=(20000, 20000))


@pytest.mark.parametrize("codec", [name for name in codec_names() if "nvenc" in name])
def test_hardware_encoder_opens_or_is_rejected_in_one_line(codec):
    try:
        encoder = make_encoder(video(), size=(320, 240), codec=codec)
    except OutputError as refusal:
        assert str(refusal).startswith(f"{codec} cannot encode 320x240")
    else:
        assert dict(encoder.options)["cq"] == "19"


def test_colour_tags_equal_those_of_the_source():
    hdr = Colour("bt2020", False, primaries=9, transfer=16, space=9, chroma_location=3)
    encoder = make_encoder(video("yuv420p10le", colour=hdr), codec="x265")
    assert encoder.frame_format.colour == hdr


@pytest.mark.parametrize(
    ("matrix", "height", "space"),
    [("bt709", 720, 1), ("bt601", 480, 6), ("bt601", 576, 5), ("bt2020", 2160, 9)],
)
def test_guessed_matrix_is_tagged(matrix, height, space):
    guessed = Colour(matrix, full_range=False, guessed=True)
    encoder = make_encoder(video(colour=guessed, height=height))
    assert (encoder.frame_format.colour.space, encoder.frame_format.colour.primaries) == (space, 2)
    assert encoder.frame_format.colour.chroma_location == 1


def test_full_range_is_preserved_if_it_can_be_tagged():
    full = Colour("bt601", full_range=True, space=5)
    assert make_encoder(video(colour=full)).frame_format.colour.full_range
    assert make_encoder(video(colour=full)).frame_format.colour.space == 5
    prores = make_encoder(video(colour=full), "out.mov", codec="prores")
    assert not prores.frame_format.colour.full_range


def test_rgb_becomes_bt709_unless_the_codec_keeps_rgb():
    rgb = Colour("rgb", full_range=True, primaries=1, transfer=13, space=0)
    converted = make_encoder(video("gbrp", colour=rgb)).frame_format.colour
    assert (converted.matrix, converted.full_range, converted.space) == ("bt709", False, 1)
    assert (converted.primaries, converted.transfer) == (1, 13)
    kept = make_encoder(video("gbrp", colour=rgb), codec="ffv1")
    assert (kept.frame_format.colour.matrix, kept.pixel_format) == ("rgb", "bgr0")


def test_hdr10_metadata_is_passed_to_encoders_that_support_it():
    source = video("yuv420p10le", hdr=HDR10)
    x265 = dict(make_encoder(source, codec="x265").options)["x265-params"]
    assert x265.endswith(
        "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
        ":max-cll=1000,400"
    )
    av1 = dict(make_encoder(source, codec="svt-av1").options)["svtav1-params"]
    assert "mastering-display=G(0.265,0.69)B(0.15,0.06)" in av1
    assert "L(1000,0.0001):content-light=1000,400" in av1
    assert make_encoder(source, codec="x264").notes == ()
    assert make_encoder(source, codec="vp9").notes[-1] == "vp9 does not preserve HDR10 metadata"


def test_hevc_in_mp4_is_tagged_hvc1():
    assert make_encoder(video(), "out.mp4", codec="x265").tag == "hvc1"
    assert make_encoder(video(), "out.mkv", codec="x265").tag is None


def test_prores_444_uses_the_4444_profile():
    encoder = make_encoder(video("yuv444p10le"), "out.mov", codec="prores")
    assert dict(encoder.options)["profile"] == "4444"
