"""Timed metadata of phones and cameras stays in MP4 and MOV, as ffprobe reads it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.jobs.test_video_containers import Broken, Resizing, upscale
from tests.video.clips import image
from tests.video.videos import ffprobe
from upscale.errors import OutputError
from upscale.video.mp4_tracks import MetadataTrack, describe_tracks, metadata_tracks

APPLE = Path(__file__).parents[1] / "data" / "clips" / "androidx_dolbyVision-hdr.MOV"
PLACE = "-" * 300


def box(kind, content):
    return (8 + len(content)).to_bytes(4) + kind + content


ANDROID = MetadataTrack(
    {
        b"hdlr": box(b"hdlr", bytes(8) + b"meta" + bytes(12) + b"MetaHandle\0"),
        b"nmhd": box(b"nmhd", bytes(4)),
        b"stsd": box(
            b"stsd",
            b"\0\0\0\0\0\0\0\1" + box(b"mett", bytes(6) + b"\0\1" + b"application/meta\0" * 2),
        ),
    },
    {},
)


def camera(path, name="GoPro MET", chapters=False):
    """Write a video with a track of GoPro's metadata."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height = 32, 24
        data = container.add_data_stream("bin_data")
        data.time_base, data.metadata["handler_name"] = Fraction(1, 1000), name
        if chapters:
            unit = Fraction(1, 1000)
            chapter = {"id": 1, "start": 0, "end": 80, "time_base": unit, "metadata": {}}
            container.set_chapters([chapter])
        for number in range(5):
            frame = image(number, (32, 24), "yuv420p")
            frame.pts = number
            container.mux(video.encode(frame))
            packet = av.Packet(b"metadata %d" % number)
            packet.pts = packet.dts = number * 40
            packet.duration, packet.time_base, packet.stream = 40, Fraction(1, 1000), data
            container.mux(packet)
        container.mux(video.encode(None))
    return path


def android(path):
    camera(path, PLACE)
    describe_tracks(path, {2: ANDROID}, {})
    return path


def tracks(path):
    """Return the format and name of each track of data, and the times and sums of its packets."""
    found = ffprobe(path, "-show_streams", "-show_packets", "-show_data_hash", "md5")
    named = {
        each["index"]: (each["codec_tag_string"], each["tags"]["handler_name"])
        for each in found["streams"]
        if each["codec_type"] == "data"
    }
    return [
        (
            *name,
            [
                (float(each["pts_time"]), each["data_hash"])
                for each in found["packets"]
                if each["stream_index"] == index
            ],
        )
        for index, name in named.items()
    ]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize(("make", "kind"), [(camera, "gpmd"), (android, "mett")])
def test_tracks_of_metadata_are_copied_with_their_description(make, kind, suffix, tmp_path):
    source, output = make(tmp_path / "in.mp4"), tmp_path / f"out{suffix}"
    upscale(source, output)
    expected = tracks(source)
    assert [(each[0], len(each[2])) for each in expected] == [(kind, 5)]
    assert tracks(output) == expected
    assert len(ffprobe(output, "-show_frames", "-select_streams", "v")["frames"]) == 5


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_tracks_of_apple_keep_their_keys_and_references(suffix, tmp_path):
    output = tmp_path / f"out{suffix}"
    upscale(APPLE, output, "x264", Resizing(), lambda _: (64, 48), frames=4)
    assert [each[0] for each in tracks(output)] == ["mebx"] * 3
    assert tracks(output) == tracks(APPLE)
    old, new = (list(metadata_tracks(each).values()) for each in (APPLE, output))
    for kind in (b"stsd", b"gmhd"):
        assert [each.boxes[kind] for each in new] == [each.boxes[kind] for each in old]
    # Here as there, the video is the first track, which the metadata describes.
    assert [each.references for each in new] == [each.references for each in old]
    assert new[0].references[b"cdsc"] == (1,)


def test_tracks_of_a_part_are_those_of_its_times(tmp_path):
    source, output = camera(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    upscale(source, output, start=Fraction(8, 100), upscaler=Resizing())
    ((*_, old),), ((*_, new),) = tracks(source), tracks(output)
    assert [(time + 0.08, digest) for time, digest in new] == old[2:]


def test_metadata_beside_chapters_is_no_track_of_chapters(tmp_path):
    source, output = camera(tmp_path / "in.mp4", chapters=True), tmp_path / "out.mp4"
    upscale(source, output, upscaler=Resizing())
    assert "gpmd" in [kind for kind, *_ in tracks(output)]
    assert len(ffprobe(output, "-show_chapters")["chapters"]) == 1


@pytest.mark.parametrize("make", [camera, android])
def test_containers_without_such_tracks_are_refused_with_strict(make, tmp_path):
    source = make(tmp_path / "in.mp4")
    with pytest.raises(OutputError, match="data"):
        upscale(source, tmp_path / "out.mkv", upscaler=Broken(), strict=True)


def test_other_files_have_no_such_tracks(tmp_path):
    path = tmp_path / "in.mp4"
    for content in (b"", b"\0\0\0\x10moov\0\0\0\x08trak", bytes(99), APPLE.read_bytes()[:58000]):
        path.write_bytes(content)
        assert metadata_tracks(path) == {}


def test_a_description_without_room_is_refused(tmp_path):
    path = camera(tmp_path / "in.mp4")
    long = MetadataTrack({**ANDROID.boxes, b"stsd": box(b"stsd", bytes(400))}, {})
    with pytest.raises(ValueError, match="no room"):
        describe_tracks(path, {2: long}, {})
