"""Hostile videos: no other file is opened, and no memory is allocated for what is not there."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.video.clips import make_kind
from upscale.errors import VideoError
from upscale.video.mp4_index import too_many_samples
from upscale.video.probe import probe

_PROBE = """
import resource, sys
import av
from pathlib import Path
from upscale.video.probe import probe
from upscale.errors import VideoError

used = resource.getrusage(resource.RUSAGE_SELF)
spent = int(used.ru_utime + used.ru_stime) + 1
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_CPU, (spent + 5,) * 2)
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (500 << 20),) * 2)
try:
    print("read:", len(probe(Path(sys.argv[1])).frame_times))
except VideoError as error:
    print("refused:", error)
"""

CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")


def probe_under_limits(path: Path) -> str:
    """Probe a video in a process with 5 s of CPU time and 500 MB, and return what it printed."""
    ended = subprocess.run(
        [sys.executable, "-c", _PROBE, str(path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-500:]
    return ended.stdout


def rebuilt(data: bytes, change: Callable[[bytes, bytes], bytes]) -> bytes:
    """Return an MP4 file with the content of each box replaced by `change(kind, content)`."""
    result, position = b"", 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + length]
        body = change(kind, rebuilt(body, change) if kind in CONTAINERS else body)
        result += struct.pack(">I4s", 8 + len(body), kind) + body
        position += length
    return result


def many_samples(count: int) -> Callable[[bytes, bytes], bytes]:
    tables = {
        b"stsz": struct.pack(">III", 0, 1, count),
        b"stts": struct.pack(">IIII", 0, 1, count, 512),
        b"stsc": struct.pack(">IIIII", 0, 1, 1, count, 1),
        b"stss": struct.pack(">III", 0, 1, 1),
    }
    return tables.get


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return make_kind("cfr", tmp_path_factory.mktemp("small"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits")
@pytest.mark.parametrize("count", [10**6, 5 * 10**7, 2**31 - 1])
def test_index_with_more_samples_than_bytes_is_refused(count, small, tmp_path):
    path = tmp_path / "bomb.mp4"
    path.write_bytes(rebuilt(small.read_bytes(), many_samples(count)))
    assert probe_under_limits(path) == (
        f"refused: {path}: its index says {count} samples, more than it can contain; "
        "check the file\n"
    )


def test_fragment_with_more_samples_than_bytes_is_refused(tmp_path):
    def box(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(body), kind) + body

    runs = b"".join(box(b"trun", struct.pack(">II", 0, 10**8)) for _ in range(3))
    path = tmp_path / "bomb.mp4"
    path.write_bytes(box(b"ftyp", b"isom" + bytes(4)) + box(b"moof", box(b"traf", runs)))
    with pytest.raises(VideoError, match="its index says 100000000 samples"):
        probe(path)


@pytest.mark.parametrize("kind", [b"moov", b"trak"])
def test_deeply_nested_boxes_end(kind, small, tmp_path):
    nested = b""
    for _ in range(5000):
        nested = struct.pack(">I4s", 8 + len(nested), kind) + nested
    path = tmp_path / "deep.mp4"
    path.write_bytes(small.read_bytes()[:32] + nested)
    with pytest.raises(VideoError):
        probe(path)


def test_file_with_many_streams_is_refused(small, tmp_path):
    repeated = []

    def repeat(kind: bytes, body: bytes) -> bytes:
        if kind == b"trak":
            repeated.append(struct.pack(">I4s", 8 + len(body), kind) + body)
        return body + repeated[0] * 900 if kind == b"moov" else body

    path = tmp_path / "streams.mp4"
    path.write_bytes(rebuilt(small.read_bytes(), repeat))
    with pytest.raises(VideoError, match=r"streams\.mp4: has more than 100 streams; remove some"):
        probe(path)


def test_good_videos_have_no_suspicious_index(data):
    videos = [path for path in (data / "clips").iterdir() if path.suffix in (".mp4", ".mov")]
    assert len(videos) > 3
    for path in videos:
        with path.open("rb") as file:
            assert too_many_samples(file) is None, path.name


PLAYLISTS = {
    "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{0}\n#EXT-X-ENDLIST\n",
    "a.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
    'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" type="static">'
    '<Period><AdaptationSet><Representation id="1"><BaseURL>{0}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>",
    "a.ffconcat": "ffconcat version 1.0\nfile '{0}'\n",
    "a.concat": "ffconcat version 1.0\nfile '{0}'\n",
    "a.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "a.idx": "# VobSub index file, v7\n",
    "a.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{0}\n#EXT-X-ENDLIST\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_playlist_is_refused_before_its_files_are_opened(name, small, tmp_path):
    trap, path = tmp_path / "trap.mp4", tmp_path / name
    trap.write_bytes(small.read_bytes())
    (tmp_path / "a.sub").write_bytes(b"")
    path.write_text(PLAYLISTS[name].format(trap.name))
    os.utime(trap, ns=(0, 0))
    with pytest.raises(VideoError, match="is not a video") as raised:
        probe(path)
    assert "\n" not in str(raised.value)
    if not name.endswith((".mpd", ".mp4")):  # whose content FFmpeg does not take for a playlist
        assert "is not a video but " in str(raised.value)
    assert trap.stat().st_atime_ns == 0, "the file was read"


@pytest.mark.parametrize("count", [3])
def test_pattern_of_an_image_sequence_is_refused(count, tmp_path):
    from PIL import Image

    for number in range(count):
        Image.new("RGB", (16, 16)).save(tmp_path / f"a{number}.png")
    (tmp_path / "a%d.png").write_bytes((tmp_path / "a0.png").read_bytes())
    with pytest.raises(VideoError, match="is an image, not a video"):
        probe(tmp_path / "a%d.png")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no FIFOs among files")
def test_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match="not a regular file"):
        probe(tmp_path / "a.mp4")
