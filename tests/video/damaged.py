"""Read damaged videos; a separate program, because they may crash it.

    python damaged.py fuzz FOLDER KIND CASES SEED   apply random damage to a generated video
    python damaged.py look FILE...                  read existing videos

Prints `sound`, `damaged` or `refused` for each case. If frames are missing without a report, prints
`unsure` if the container does not record its end, and `silent` otherwise.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

from tests.damage import damaged
from tests.video import clips
from upscale.errors import VideoError
from upscale.video import VideoInfo, probe, read_frames

FRAMES = 24
# One frame missing at the end may be within the rounding of headers.
TOLERATED = 1
MOST_FRAMES = 400
LONGEST_CUT = 2000
LOSSY = {"g": "8", "bf": "2"}
KINDS = {
    "mp4": ("libx264", "mp4", {"x264-params": "keyint=8:open-gop=1:qp=0"}, {}),
    "fragmented": ("libx264", "mp4", {}, {"movflags": "frag_keyframe+empty_moov"}),
    "mkv": ("libx265", "mkv", {"x265-params": "keyint=8:log-level=none"}, {}),
    "ts": ("mpeg2video", "ts", LOSSY, {}),
    "avi": ("mpeg4", "avi", LOSSY, {}),
    "webm": ("libvpx-vp9", "webm", {"g": "8"}, {}),
    "av1": ("libsvtav1", "mkv", {"preset": "12"}, {}),
    "flv": ("libx264", "flv", {}, {}),
    "mov": ("prores_ks", "mov", {}, {}),
    "gif": ("gif", "gif", {}, {}),
    "raw": ("libx264", "h264", {"x264-params": "keyint=8"}, {}),
}
FORMATS = {"mov": "yuv422p10le", "gif": "gray", "av1": "yuv420p10le"}


def good(kind: str, folder: Path) -> Path:
    codec, container, options, container_options = KINDS[kind]
    clip = clips.Clip(
        tuple(range(FRAMES)),
        time_base=Fraction(1, 25),
        codec=codec,
        container=container,
        format=FORMATS.get(kind, "yuv420p"),
        size=(128, 96) if kind == "av1" else (64, 48),
        options=options,
        container_options=container_options,
    )
    return clips.make(clip, folder / f"good.{container}")


def outcome(path: Path) -> str:
    try:
        video = probe(path)
        return read_all(video)
    except VideoError as error:
        assert str(error).isprintable() and len(str(error)) < 400, str(error)
        return "refused"


def read_all(video: VideoInfo) -> str:
    assert list(video.frame_times) == sorted(set(video.frame_times))
    reader = read_frames(video, deinterlace=video.interlaced)
    times = []
    for frame in reader:
        assert all(plane.ndim == 2 for plane in frame.planes)
        assert frame.planes[0].shape == (video.height, video.width)
        times.append(frame.pts)
        if len(times) == MOST_FRAMES:
            return "damaged"
    assert times == sorted(set(times)) and set(times) <= set(video.frame_times)
    report = reader.report
    assert sorted([*times, *report.lost]) == sorted([*video.frame_times, *video.lost])
    if video.warnings or not clips.is_complete(report):
        return "damaged"
    if len(times) >= FRAMES - TOLERATED:
        return "sound"
    return "unsure" if video.end_unknown else "silent"


def fuzz(folder: Path, kind: str, cases: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = good(kind, folder)
    assert outcome(path) == "sound"
    whole = path.read_bytes()
    bad = folder / f"bad{path.suffix}"
    for number in range(cases):
        bad.write_bytes(damaged(whole, rng, LONGEST_CUT))
        print(f"{number}", end=" ", flush=True)
        print(outcome(bad), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "look":
        for name in sys.argv[2:]:
            print(outcome(Path(name)), flush=True)
    else:
        fuzz(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
