"""Tracks of sound and subtitles are chosen as in mkvmerge and HandBrake."""

from __future__ import annotations

import pytest

from tests.jobs.test_video_containers import Broken, upscale
from tests.video.clips import even
from tests.video.videos import ffprobe, rich
from upscale.errors import UsageError, VideoError
from upscale.video.track_choice import TrackChoice, parse_tracks


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return rich(tmp_path_factory.mktemp("tracks"), even(5))


def tracks(path):
    """Return the type and language of each track of sound and subtitles."""
    return [
        (each["codec_type"], each.get("tags", {}).get("language"))
        for each in ffprobe(path, "-show_streams")["streams"]
        if each["codec_type"] in ("audio", "subtitle")
    ]


@pytest.mark.parametrize(
    ("audio", "subtitles", "expected"),
    [
        ("de", None, [("audio", "ger"), ("subtitle", "fre")]),
        ("eng,2", "none", [("audio", "eng"), ("audio", "ger")]),
        ("none", "fr", [("subtitle", "fre")]),
        ("1", "fra,eng", [("audio", "eng"), ("subtitle", "fre")]),
    ],
)
def test_only_the_chosen_tracks_are_written(audio, subtitles, expected, source, tmp_path):
    chosen = {"audio_tracks": audio, "subtitle_tracks": subtitles}
    settings = {key: parse_tracks(key, value) for key, value in chosen.items() if value}
    report = upscale(source, tmp_path / "out.mkv", strict=True, **settings)
    short = {"deu": "ger", "fra": "fre"}
    assert [
        (kind, short.get(name, name)) for kind, name in tracks(tmp_path / "out.mkv")
    ] == expected
    assert not any("dropped" in note for note in report.notes)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("audio_tracks", "3", "stream 3 is no audio track; choose among 1 (eng), 2 (deu)"),
        ("audio_tracks", "jpn", "has no audio track in jpn; choose among 1 (eng), 2 (deu)"),
        ("subtitle_tracks", "ja", "has no subtitle track in jpn; choose among 3 (fra)"),
    ],
)
def test_a_track_that_does_not_exist_is_an_error_before_the_work(
    name, value, message, source, tmp_path
):
    with pytest.raises(VideoError) as error:
        upscale(
            source, tmp_path / "out.mkv", upscaler=Broken(), **{name: parse_tracks(name, value)}
        )
    assert message in str(error.value)


def test_two_and_three_letters_mean_the_same_language():
    assert parse_tracks("", "ger") == parse_tracks("", "deu") == parse_tracks("", "DE")
    assert parse_tracks("", "none") == TrackChoice()


@pytest.mark.parametrize("value", ["", "eng,", "english", "1-2", "-1", "١"])
def test_other_words_are_refused(value):
    with pytest.raises(UsageError, match="no stream number and no language"):
        parse_tracks("--audio-tracks", value)
