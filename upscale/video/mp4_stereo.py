"""Remove what FFmpeg adds to MP4 files with stereo or 360-degree video.

Beside the boxes `st3d` and `sv3d`, its muxer writes Apple's `vexu`, which can neither say that two
images lie in one frame nor how a projection is turned. Its reader prefers that box all the same.
"""

from __future__ import annotations

from pathlib import Path

from upscale.video.mp4_index import boxes

_DESCRIPTIONS, _APPLE, _FREE = b"stsd", b"vexu", b"free"


def remove_apple_boxes(path: Path) -> None:
    """Turn the boxes `vexu` of a complete file into free space.

    Args:
        path: An MP4 file.

    Raises:
        OSError: The file cannot be read or written.
    """
    with path.open("r+b") as file:
        ranges = [(start, end) for kind, start, end in boxes(file) if kind == _DESCRIPTIONS]
        for start, end in ranges:
            file.seek(start)
            place = file.read(end - start).find(_APPLE)
            if place >= 0:
                file.seek(start + place)
                file.write(_FREE)
