"""Upscale damaged videos; a separate program, because they may crash it.

    python fuzz.py FOLDER KIND[,KIND...] CASES SEED

Prints `refused` for each case; or `done` and whether anything was reported; or FAULT and what is
wrong. The output is compared with an independent reading of the same damaged video.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from av.stream import Discard

from tests.damage import damaged
from tests.jobs.test_video import Doubling, doubled
from tests.video import clips, videos
from upscale.errors import UpscaleError
from upscale.jobs.video import VideoReport, VideoSettings, plan_video, run_video
from upscale.video import VideoInfo, segments
from upscale.video.encoders import VideoEncoding
from upscale.video.pyav import open_input
from upscale.video.segments import folder_for

FRAMES = 40
SEGMENT = 8
LONGEST_CUT = 2000
# One frame missing at the end may be within the rounding of headers.
TOLERATED = 1
ALWAYS_REPORTED = ("the colours are not tagged", "the container does not record")
RICH = "mkv-rich"
IN_STEP = Fraction(1, 10)
SAME_IMAGE = 8
"""Mean difference of luma; consecutive frames differ by more than 10."""
OPTIONS = {"fflags": "+genpts"}
X264 = {"x264-params": "keyint=10:bframes=2:qp=0"}
KINDS = {
    "mp4-x264": ("libx264", "mp4", X264),
    "mkv-x264": ("libx264", "mkv", X264),
    "mkv-ffv1": ("ffv1", "mkv", {}),
    "webm-vp9": ("libvpx-vp9", "webm", {"g": "10"}),
    "ts-x264": ("libx264", "ts", X264),
    "avi-mpeg4": ("mpeg4", "avi", {"g": "10", "q": "2"}),
    "mp4-mpeg4": ("mpeg4", "mp4", {"g": "10", "bf": "2"}),
    "ts-mpeg2": ("mpeg2video", "ts", {"g": "10", "bf": "2"}),
}


def good(kind: str, folder: Path) -> Path:
    if kind == RICH:
        # With subtitles, which are converted for MP4, two audio streams, chapters and a font.
        return videos.rich(folder, clips.even(FRAMES))
    codec, container, options = KINDS[kind]
    clip = clips.Clip(
        tuple(range(FRAMES)), Fraction(1, 25), codec, container=container, options=options,
        sound=True,
    )  # fmt: skip
    return clips.make(clip, folder / f"good.{container}")


def outcome(source: Path, output: Path) -> str:
    """Return the result of a video, or a fault."""
    warnings: list[str] = []
    try:
        is_mkv = output.suffix == ".mkv"
        encoding = VideoEncoding("ffv1") if is_mkv else VideoEncoding("x264", crf=0)
        job = plan_video(source, output, doubled, VideoSettings(encoding))
        report = run_video(job, [Doubling()], {"model": "none"}, lambda *_: None, warnings.append)
    except UpscaleError as error:
        assert str(error).isprintable() and len(str(error)) < 600, str(error)
        assert not output.exists()
        return "refused"
    assert not folder_for(output).exists()
    notes = [note for note in report.notes if not note.startswith(ALWAYS_REPORTED)]
    is_reported = bool(notes or report.lost or report.damaged or job.video.end_unknown)
    faults = [*image_faults(job.video, output, report), *audio_faults(job.video, output, report)]
    if report.frames < FRAMES - TOLERATED and not is_reported:
        faults.append(f"only {report.frames} frames, and nothing reported")
    return (
        "FAULT " + "; ".join(faults)
        if faults
        else f"done {'reported' if is_reported else 'quietly'}"
    )


def image_faults(video: VideoInfo, output: Path, report: VideoReport):
    """Yield frames of the output that no decoder returns, or at another time."""
    given = images(video.path)
    made = images(output)
    if len(made) != report.frames:
        yield f"{len(made)} frames, {report.frames} reported"
    # Times of frames that are not expected are approximate.
    unplanned = Counter(float(time * video.time_base) for time in video.lost)
    lost = Counter(report.lost) - unplanned
    times = [time for time in video.frame_times if float(time * video.time_base) not in lost]
    if len(times) != len(made):
        yield f"{len(made)} frames of {len(times)} that are not lost"
    start = min(0, video.frame_times[0])
    by_time = dict(reversed(given))  # of two with one time, the first
    place = 0
    for number, ((time, large), due) in enumerate(zip(made, times, strict=False)):
        if abs(time - (due - start) * video.time_base) > Fraction(1, 2000):
            yield f"frame {number} at {float(time):.4f}, not {float(due * video.time_base):.4f}"
        luma = large[::2, ::2]
        if not video.sequential:
            expected = [by_time.get(time) for time in own_times(video, due)]
            if not any(each is not None and same(luma, each) for each in expected):
                yield f"frame {number} is another image"
            continue
        # In decoder order.
        while place < len(given) and not same(luma, given[place][1]):
            place += 1
        if place == len(given):
            yield f"frame {number} is no image of the video"
        place += 1


def own_times(video: VideoInfo, due: int) -> list[Fraction]:
    """Return the times of a frame in the clock of the file, which may jump."""
    unit = video.time_base
    return [(due - round(offset / unit)) * unit for offset in video.offsets or (Fraction(0),)]


def same(one: np.ndarray, other: np.ndarray) -> bool:
    if one.shape != other.shape:
        return True  # resized
    return float(np.abs(one.astype(int) - other).mean()) < SAME_IMAGE


def images(path: Path) -> list[tuple[Fraction | None, np.ndarray]]:
    """Return the times and luma of all frames that can be decoded, in decoder order."""
    found = []
    with open_input(str(path), OPTIONS) as container:
        stream = container.streams.video[0]
        # The result of decoding damaged frames depends on the threads.
        stream.thread_type = "SLICE"
        for packet in [*packets(container, stream), None]:
            with suppress(FFmpegError, ValueError):
                for frame in stream.decode(packet):
                    plane = frame.planes[0]
                    luma = np.frombuffer(memoryview(plane), np.uint8)
                    luma = luma.reshape(plane.height, -1)[:, : plane.width].copy()
                    unit = frame.time_base or stream.time_base
                    found.append((None if frame.pts is None else frame.pts * unit, luma))
    return found


def packets(container, *streams):
    for other in container.streams:
        if other not in streams:
            other.discard = Discard.all
    failures = 0
    while failures < 100:
        try:
            for packet in container.demux(*streams):
                if packet.size:
                    failures = 0
                    yield packet
        except IndexError:
            return
        except FFmpegError:
            pass
        # A packet beyond the end of the file looks like its end.
        failures += 1 if container.format.name.startswith("mov,") else 100


def audio_faults(video: VideoInfo, output: Path, report: VideoReport):
    """Yield audio packets that the source lacks, that are at another time, or that are missing."""
    source, made = audio_packets(video.path), audio_packets(output)
    start = min(0, video.frame_times[0]) * video.time_base
    known = defaultdict(list)
    for time, content in source:
        offsets = video.offsets or (Fraction(0),)
        known[content] += [None if time is None else time + each - start for each in offsets]
    for time, content in made:
        # Matroska readers may not return the time of audio before zero.
        near = [None in (at, time) or abs(at - time) <= IN_STEP for at in known[content]]
        if not near:
            yield "an audio packet that the source does not have"
        elif not any(near):
            yield f"audio at {float(time):.3f} s, not {float(known[content][0] or -1):.3f}"
    if len(made) < len(source) and not report.notes:
        yield f"{len(made)} of {len(source)} audio packets"


def audio_packets(path: Path) -> list[tuple[Fraction | None, bytes]]:
    with open_input(str(path), OPTIONS) as container:
        streams = container.streams.audio
        return [
            (None if packet.pts is None else packet.pts * packet.time_base, bytes(packet))
            for packet in (packets(container, *streams) if streams else ())
        ]


def fuzz(folder: Path, kind: str, cases: int, seed: int) -> None:
    folder = folder / kind
    folder.mkdir()
    rng = np.random.default_rng(seed)
    path = good(kind, folder)
    assert outcome(path, folder / "out.mkv").startswith("done"), kind
    whole = path.read_bytes()
    bad = folder / f"bad{path.suffix}"
    for number in range(cases):
        bad.write_bytes(damaged(whole, rng, LONGEST_CUT))
        output = folder / f"{number}{'.mkv' if number % 2 else '.mp4'}"
        print(f"{kind}-{number}", end=" ", flush=True)
        print(outcome(bad, output), flush=True)
        output.unlink(missing_ok=True)


if __name__ == "__main__":
    segments.SEGMENT_FRAMES = SEGMENT
    for each in sys.argv[2].split(","):
        fuzz(Path(sys.argv[1]), each, int(sys.argv[3]), int(sys.argv[4]))
