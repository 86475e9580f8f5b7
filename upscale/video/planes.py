"""Planes of decoded frames as arrays, in the planar format nearest to the decoder's own."""

from __future__ import annotations

import ctypes
from typing import Literal

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter

from upscale.video.info import Plane, PlaneFormat

_DEPTHS = (8, 9, 10, 12, 14, 16)
_SUBSAMPLING = {
    (0, 0): "444",
    (1, 0): "422",
    (1, 1): "420",
    (2, 0): "411",
    (2, 2): "410",
    (0, 1): "440",
}
# The order in which FFmpeg keeps the planes of red, green and blue is G, B, R.
_RGB_ORDER = (2, 0, 1, 3)
_PLAIN = Interpolation.POINT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_EITHER_RANGE = 2


def planar_format(source: VideoFormat) -> PlaneFormat:
    """The planar format that holds all that a pixel format does.

    Args:
        source: Any pixel format of FFmpeg, packed, planar or with a palette.
    """
    depth = max(8, *(component.bits for component in source.components))
    alpha = any(component.is_alpha for component in source.components)
    chroma = len(source.components) - alpha >= 3
    kind: Literal["yuv", "rgb", "grey"] = "yuv"
    if source.is_rgb or source.has_palette or source.is_bayer or source.name.startswith("xyz"):
        kind = "rgb"
        alpha = alpha and not source.has_palette
    elif not chroma and not alpha:
        kind = "grey"
    across, down = _reductions(source) if kind == "yuv" and chroma else (0, 0)
    for wanted in (deep for deep in _DEPTHS if deep >= min(depth, 16)):
        name = _name(kind, _SUBSAMPLING[across, down], alpha, wanted)
        if _exists(name):
            return PlaneFormat(name, wanted, across, down, kind, alpha)
    raise ValueError(f"no planar format for {source.name}")


def _reductions(source: VideoFormat) -> tuple[int, int]:
    across, down = source.chroma_width(256), source.chroma_height(256)
    return (256 // across).bit_length() - 1, (256 // down).bit_length() - 1


def _name(kind: str, subsampling: str, alpha: bool, depth: int) -> str:
    letter = "a" if alpha else ""
    stem = {"rgb": f"gbr{letter}p", "grey": "gray", "yuv": f"yuv{letter}{subsampling}p"}[kind]
    return stem if depth == 8 else f"{stem}{depth}le"


def _exists(name: str) -> bool:
    try:
        VideoFormat(name)
    except ValueError:
        return False
    return True


class PlaneReader:
    """Takes the planes out of frames of one video; not to be shared between threads."""

    def __init__(self, planes: PlaneFormat, width: int, height: int) -> None:
        """Prepare.

        Args:
            planes: The format that all frames come out in.
            width: In pixels; frames of other sizes are brought to it.
            height: The same.
        """
        self._planes, self._size = planes, (width, height)
        self._reformatter = VideoReformatter()

    def planar(self, frame: VideoFrame) -> VideoFrame:
        """The frame itself, or its copy in the planar format and the size of the video."""
        size = (frame.width, frame.height)
        # "yuvj" is FFmpeg's old way to say that the range is full; planes are the same.
        if size == self._size and frame.format.name.replace("yuvj", "yuv") == self._planes.name:
            return frame
        return self._reformatter.reformat(
            frame,
            *self._size,
            format=self._planes.name,
            interpolation=_PLAIN if size == self._size else Interpolation.BICUBIC,
            # Told to be the same on both sides, values stay as they are.
            src_color_range=_EITHER_RANGE,
            dst_color_range=_EITHER_RANGE,
            threads=1,
        )

    def arrays(self, frame: VideoFrame) -> tuple[Plane, ...]:
        """The planes of a frame from `planar`: (height, width) each, with memory of their own."""
        planes = tuple(_array(plane, self._planes.depth) for plane in frame.planes)
        if self._planes.kind != "rgb":
            return planes
        return tuple(planes[index] for index in _RGB_ORDER[: len(planes)])


def _array(plane: VideoPlane, depth: int) -> Plane:
    """One plane without what pads its lines."""
    kind = np.dtype(np.uint8 if depth <= 8 else np.uint16)
    step = abs(plane.line_size)
    if plane.line_size < 0:
        # The first line comes last in memory, where FFmpeg's address points.
        start = plane.buffer_ptr - step * (plane.height - 1)
        data = ctypes.string_at(start, step * plane.height)
        lines = np.frombuffer(data, kind).reshape(plane.height, -1)[::-1]
    else:
        lines = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
    return lines[:, : plane.width].copy()
