"""The table of video containers: each cell is what ffprobe finds in a file that was written."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.jobs.test_video_captions import frames_with
from tests.jobs.test_video_containers import DATA, Resizing, upscale
from tests.jobs.test_video_metadata_tracks import camera
from tests.video.clips import Clip, even, make, uneven
from tests.video.videos import HERE, ffprobe, packets, rich
from upscale.errors import OutputError
from upscale.video.encoders import CONTAINERS
from upscale.video.probe import probe

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "video-formats.md"
SUFFIXES = {"MP4": ".mp4", "MOV": ".mov", "Matroska": ".mkv", "WebM": ".webm"}
SOUNDS = {
    "AAC": "aac",
    "MP3": "libmp3lame",
    "AC-3": "ac3",
    "Opus": "libopus",
    "FLAC": "flac",
    "PCM, 16 bits": "pcm_s16le",
    "ADPCM": "adpcm_ima_wav",
}
NAMES = {"libopus": "opus", "libmp3lame": "mp3"}
SPOKEN = {
    **{"aac": "AAC", "mp3": "MP3", "ac3": "AC-3", "opus": "Opus", "flac": "FLAC"},
    **{"pcm_s16le": "PCM", "pcm_s24le": "PCM", "mov_text": "mov_text", "webvtt": "WebVTT"},
}


def table(name: str = "video formats") -> dict[str, dict[str, str]]:
    """Read a table of the page: for each row, the cell of each column."""
    block = re.search(rf"<!-- table: {name} -->\n(.*?)<!-- end -->", PAGE.read_text(), re.S)
    assert block is not None
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in block[1].splitlines()
    ]
    return {row[0].strip("`"): dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def written(source, suffix, folder, codec=None, **settings):
    """Return ffprobe's report of an output; None if it was refused."""
    output = folder / f"out{suffix}"
    codec = codec or ("vp9" if suffix == ".webm" else "x264")
    try:
        upscale(source, output, codec, Resizing(), overwrite=True, **settings)
    except OutputError:
        return None
    return ffprobe(output, "-show_streams", "-show_format", "-show_chapters")


def streams(report, kind):
    return [each for each in report["streams"] if each["codec_type"] == kind]


def cell(found: str, original: str) -> str:
    return "yes" if found == original else f"as {SPOKEN[found]}"


def with_sound(folder, encoder):
    path = folder / "sound.mkv" if encoder != "adpcm_ima_wav" else folder / "sound.avi"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        sound = container.add_stream(encoder, rate=48000, layout="stereo")
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((36, 32), number, np.uint8), "yuv420p")
            frame.pts = number
            container.mux(video.encode(frame))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 19200), np.int16), "s16", "stereo")
        frame.sample_rate, frame.pts = 48000, 0
        context = sound.codec_context
        resampler = av.AudioResampler(
            context.format.name, "stereo", 48000, context.frame_size or 1024
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(sound.encode(part))
        container.mux(sound.encode(None))
        container.mux(video.encode(None))
    return path


@pytest.mark.parametrize("container", SUFFIXES)
@pytest.mark.parametrize("codec", HERE)
def test_codecs(codec, container, tmp_path):
    source = make(Clip(even(2)), tmp_path / "in.mp4")
    report = written(source, SUFFIXES[container], tmp_path, codec, frames=1)
    assert table()[codec][container] == ("yes" if report else "")


@pytest.mark.parametrize("container", SUFFIXES)
@pytest.mark.parametrize("sound", SOUNDS)
def test_sound(sound, container, tmp_path):
    source = with_sound(tmp_path, SOUNDS[sound])
    report = written(source, SUFFIXES[container], tmp_path)
    found = streams(report, "audio")[0]["codec_name"]
    original = NAMES.get(SOUNDS[sound], SOUNDS[sound])
    assert table()[sound][container] == cell(found, original)


@pytest.mark.parametrize("container", SUFFIXES)
def test_texts_chapters_attachments_and_tags(container, tmp_path):
    rows = table()
    report = written(rich(tmp_path), SUFFIXES[container], tmp_path)
    text = streams(report, "subtitle")[0]["codec_name"]
    assert rows["SubRip"][container] == cell(text, "subrip")
    assert rows["chapters"][container] == ("yes" if len(report["chapters"]) == 2 else "")
    fonts = [each for each in report["streams"] if each["codec_type"] == "attachment"]
    assert rows["fonts"][container] == ("yes" if fonts else "")
    covers = [
        each
        for each in report["streams"]
        if each["disposition"]["attached_pic"]
        or each.get("tags", {}).get("mimetype") == "image/png"
    ]
    assert rows["cover"][container] == ("yes" if covers else "")
    tags = {key.lower(): value for key, value in report["format"]["tags"].items()}
    assert rows["tags"][container] == ("yes" if tags.get("artist") == "Somebody" else "")
    languages = [each["tags"].get("language") for each in streams(report, "audio")]
    kept = [language in ("eng", "deu", "ger") for language in languages]
    assert rows["languages"][container] == ("yes" if all(kept) else "some" if any(kept) else "")
    titles = [str(each["tags"].get("title", each["tags"].get("handler_name"))) for each in
              streams(report, "audio")]  # fmt: skip
    assert rows["names of streams"][container] == ("yes" if titles[1] == "Kommentar" else "")


@pytest.mark.parametrize("container", SUFFIXES)
def test_geometry_colour_and_time(container, tmp_path):
    rows, suffix = table(), SUFFIXES[container]
    clip = Clip(
        uneven(8),
        sample_aspect=Fraction(16, 11),
        rotation=90,
        colour=(1, 1, 1, 1),
        tags={"timecode": "01:02:03:04"},
    )
    source = make(clip, tmp_path / "in.mov")
    report = written(source, suffix, tmp_path)
    stream = streams(report, "video")[0]
    turned = any("rotation" in each for each in stream.get("side_data_list", []))
    assert rows["rotation"][container] == ("yes" if turned else "")
    aspect = stream.get("sample_aspect_ratio", "1:1")
    assert rows["pixel aspect ratio"][container] == ("yes" if aspect == "16:11" else "")
    tagged = (stream.get("color_space"), stream.get("color_range"))
    assert rows["colours"][container] == ("yes" if tagged == ("bt709", "tv") else "")
    codes = [each.get("tags", {}) for each in [*report["streams"], report["format"]]]
    has_code = any("01:02:03:04" in {key.lower(): value for key, value in each.items()}.values()
                   for each in codes)  # fmt: skip
    assert rows["timecode"][container] == ("yes" if has_code else "")
    times = [time for time, _ in packets(tmp_path / f"out{suffix}")[0]]
    expected = [Fraction(time, 12800) for time in uneven(8)]
    is_kept = all(abs(own - old) <= Fraction(1, 2000) for own, old in
                  zip(times, expected, strict=True))  # fmt: skip
    assert rows["variable frame rate"][container] == ("yes" if is_kept else "")


@pytest.mark.parametrize("container", SUFFIXES)
def test_timed_metadata(container, tmp_path):
    report = written(camera(tmp_path / "in.mp4"), SUFFIXES[container], tmp_path)
    found = [each["codec_tag_string"] for each in streams(report, "data")]
    expected = {"yes": ["gpmd"], "": []}
    assert found == expected[table()["timed metadata"][container]]


@pytest.mark.parametrize("codec", HERE)
def test_what_lies_inside_the_stream(codec, tmp_path):
    row, output = table("video codecs").get(codec), tmp_path / "out.mkv"
    if row is None:
        pytest.skip("the table has no hardware encoders")

    def found(source, *kinds):
        """Return which side data the first frame has, and the pixel format."""
        written(DATA / source, ".mkv", tmp_path, codec, frames=2)
        planes = probe(output).planes
        return [bool(frames_with(output, kind)[0]) for kind in kinds], planes

    def is_yes(*columns):
        return [row[each] == "yes" for each in columns]

    kept, planes = found("hdr10plus.mp4", "MASTERING_DISPLAY_METADATA", "DYNAMIC_HDR_PLUS")
    assert (is_yes("HDR10", "HDR10+"), is_yes("10 bits")) == (kept, [planes.depth >= 10])
    kept, _ = found("cea608-in-sei.mp4", "A53_CC")
    assert is_yes("closed captions") == kept
    _, planes = found("prores4444-alpha.mov")
    assert is_yes("transparency") == [planes.alpha]


def test_the_table_has_all_containers():
    assert set(SUFFIXES.values()) | {".m4v"} == set(CONTAINERS)
