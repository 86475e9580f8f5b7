"""Real videos: frames and times compared with ffprobe."""

from __future__ import annotations

import json
import shutil
import subprocess
from fractions import Fraction

import pytest

from tests.video.clips import Clip, even, is_complete, make
from upscale.errors import VideoError
from upscale.video import probe, read_frames

# Number of frames that cannot be decoded.
LOST = {"decord_corrupted.mp4": 1}
REFUSED = {
    "androidx_invalid-bitstream.webm": "contains no frame that can be decoded",
    "androidx_sample_audio_only_15s.mp4": r"contains no video stream \(audio\)",
}
CLIPS = 34


def counted(path, stream: int) -> list[int]:
    """Return the frame times that `ffprobe` finds by decoding."""
    fields = "frame=best_effort_timestamp"
    command = ["ffprobe", "-v", "quiet", "-select_streams", str(stream), "-show_entries", fields]
    done = subprocess.run(
        [*command, "-show_frames", "-of", "json", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    frames = json.loads(done.stdout or "{}").get("frames", [])
    return [frame["best_effort_timestamp"] for frame in frames]


@pytest.fixture(scope="module")
def clips(data):
    return sorted((data / "clips").iterdir())


def test_frame_times_equal_those_of_ffprobe(clips):
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed")
    seen = 0
    for path in clips:
        if path.name in REFUSED:
            continue
        video = probe(path)
        reader = read_frames(video)
        times = [frame.pts for frame in reader]
        lost = LOST.get(path.name, 0)
        assert len(reader.report.lost) == lost, path.name
        kept = [time for time in video.frame_times if time not in reader.report.lost]
        assert times == kept, path.name
        # An older ffprobe may not know a codec.
        shift = round(sum(video.offsets) / video.time_base)
        expected = [time + shift for time in counted(path, video.stream)]
        seen += bool(expected)
        assert times == (expected or times), path.name
        assert is_complete(reader.report) == (not lost) and not video.warnings, path.name
    assert len(clips) == CLIPS and seen >= CLIPS - len(REFUSED) - 1


@pytest.mark.parametrize("name", REFUSED)
def test_clips_without_frames_are_rejected(name, data):
    with pytest.raises(VideoError, match=REFUSED[name]) as refusal:
        probe(data / "clips" / name)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    ("name", "rotation", "matrix"),
    [
        ("decord_video_90.mov", -90, (0, 65536, 0, -65536, 0, 0)),
        ("decord_video_180.mov", -180, (-65536, 0, 0, 0, -65536, 0)),
        ("decord_video_270.mov", 90, (0, -65536, 0, 65536, 0, 0)),
        ("androidx_sample_rotate_and_reflect.mp4", -90, (0, 65536, 0, 65536, 0, 0)),
    ],
)
def test_rotation_and_mirroring_of_phones_are_read(name, rotation, matrix, data):
    video = probe(data / "clips" / name)
    assert video.rotation == rotation and video.display_matrix is not None
    assert video.display_matrix[:6] == matrix


def test_colour_tags_of_cameras_are_read(data):
    clips = data / "clips"
    colour = probe(clips / "androidx_bt601.mov").colour
    assert (colour.matrix, colour.full_range, colour.guessed) == ("bt601", False, False)
    colour = probe(clips / "torchcodec_bt709_full_range.mp4").colour
    assert (colour.matrix, colour.full_range) == ("bt709", True)
    video = probe(clips / "androidx_hlg10-color-test.mp4")
    assert (video.colour.matrix, video.colour.transfer, video.planes.depth) == ("bt2020", 18, 10)
    video = probe(clips / "androidx_hdr10-av1.mp4")
    assert video.hdr is not None and video.hdr.mastering is not None
    assert video.hdr.content_light is not None


def test_interlacing_and_pixel_aspect_ratio_are_read(tmp_path):
    shape = Fraction(11, 12)
    options = {"x264-params": "tff=1"}
    clip = Clip(even(10), size=(720, 480), interlaced=True, sample_aspect=shape, options=options)
    video = probe(make(clip, tmp_path / "clip.mp4"))
    assert video.interlaced and video.sample_aspect is not None
    assert (video.sample_aspect.numerator, video.sample_aspect.denominator) == (11, 12)
