"""Planar pixel formats, and the planes of decoded frames as arrays."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from upscale.video.info import Plane, PlaneFormat

RGB_ORDER = (2, 0, 1, 3)
"""Indices of the planes R, G, B and alpha in FFmpeg's frames, which store G, B, R and alpha."""

_DEPTHS = (8, 9, 10, 12, 14, 16)
_SUBSAMPLING = {
    "444": (0, 0),
    "422": (1, 0),
    "420": (1, 1),
    "411": (2, 0),
    "410": (2, 2),
    "440": (0, 1),
}
_NAME = re.compile(r"(?:yuv(a?)(4\d\d)p|gbr(a?)p|gray)(9|10|12|14|16)?(?:le)?")
_LOSSLESS = Interpolation.POINT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_FULL_RANGE = 2


def is_planar(name: str) -> bool:
    """Return whether FFmpeg's name of a pixel format is one that `plane_format` understands."""
    return _NAME.fullmatch(name) is not None


def plane_format(name: str) -> PlaneFormat:
    """Parse FFmpeg's name of a planar format, such as "yuv422p10le" or "gbrp".

    Raises:
        ValueError: The format is not planar.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name} is not a planar format")
    yuv_alpha, subsampling, rgb_alpha, depth = match.groups()
    across, down = _SUBSAMPLING[subsampling] if subsampling else (0, 0)
    kind = "yuv" if subsampling else "grey" if name.startswith("gray") else "rgb"
    return PlaneFormat(name, int(depth or 8), across, down, kind, bool(yuv_alpha or rgb_alpha))


def nearest_planar_format(source: VideoFormat) -> PlaneFormat:
    """Return the smallest planar format that preserves all samples of a pixel format.

    Args:
        source: Pixel format of FFmpeg: packed, planar or with a palette.

    Raises:
        ValueError: There is no such format.
    """
    depth = max(8, *(component.bits for component in source.components))
    alpha = any(component.is_alpha for component in source.components)
    has_chroma = len(source.components) - alpha >= 3
    kind: Literal["yuv", "rgb", "grey"] = "yuv"
    if source.is_rgb or source.has_palette or source.is_bayer or source.name.startswith("xyz"):
        kind = "rgb"
        alpha = alpha and not source.has_palette
    elif not has_chroma and not alpha:
        kind = "grey"
    subsampling = _subsampling(source) if kind == "yuv" and has_chroma else "444"
    letter = "a" if alpha else ""
    stem = {"rgb": f"gbr{letter}p", "grey": "gray", "yuv": f"yuv{letter}{subsampling}p"}[kind]
    for candidate in (each for each in _DEPTHS if each >= min(depth, 16)):
        name = stem if candidate == 8 else f"{stem}{candidate}le"
        if _exists(name):
            return plane_format(name)
    raise ValueError(f"no planar format for {source.name}")


def _subsampling(source: VideoFormat) -> str:
    across, down = source.chroma_width(256), source.chroma_height(256)
    reductions = (256 // across).bit_length() - 1, (256 // down).bit_length() - 1
    return next(name for name, each in _SUBSAMPLING.items() if each == reductions)


def _exists(name: str) -> bool:
    try:
        VideoFormat(name)
    except ValueError:
        return False
    return True


class PlaneReader:
    """Convert decoded frames of one video to arrays; not thread-safe.

    Args:
        planes: Format to which all frames are converted.
        width: Width in pixels to which other frames are resized.
        height: Height in pixels to which other frames are resized.
        bars: Sample of each plane in bars around frames of another shape; None to stretch these.
    """

    def __init__(
        self, planes: PlaneFormat, width: int, height: int, bars: Sequence[int] | None = None
    ) -> None:
        self._planes, self._size = planes, (width, height)
        self._bars = bars
        self._reformatter = VideoReformatter()

    def planar(self, frame: VideoFrame) -> VideoFrame:
        """Return the frame itself, or a copy in the planar format and size of the video."""
        size = (frame.width, frame.height)
        # "yuvj" is FFmpeg's old name for full range; the planes are the same.
        if size == self._size and frame.format.name.replace("yuvj", "yuv") == self._planes.name:
            return frame
        if self._bars is None or size == self._size:
            return self._resized(frame, self._size)
        return self._padded(frame, self._bars)

    def _padded(self, frame: VideoFrame, bars: Sequence[int]) -> VideoFrame:
        """Return a frame in the middle of black bars."""
        steps = 1 << self._planes.chroma_across, 1 << self._planes.chroma_down
        ratio = min(own / other for own, other in zip(self._size, frame_size(frame), strict=True))
        inner = tuple(
            min(whole, max(1, round(side * ratio / step)) * step)
            for side, whole, step in zip(frame_size(frame), self._size, steps, strict=True)
        )
        left, top = (
            (whole - side) // 2 // step * step
            for whole, side, step in zip(self._size, inner, steps, strict=True)
        )
        small = self._resized(frame, (inner[0], inner[1]))
        large = VideoFrame(*self._size, self._planes.name)
        large.pts = frame.pts
        for plane, part, sample in zip(large.planes, small.planes, bars, strict=False):
            scale = round(self._size[0] / plane.width), round(self._size[1] / plane.height)
            rows = _rows(plane, self._planes.depth)
            rows[:] = sample
            x, y = left // scale[0], top // scale[1]
            content = _rows(part, self._planes.depth)[:, : part.width]
            rows[y : y + part.height, x : x + part.width] = content
        return large

    def _resized(self, frame: VideoFrame, size: tuple[int, int]) -> VideoFrame:
        return self._reformatter.reformat(
            frame,
            *size,
            format=self._planes.name,
            interpolation=_LOSSLESS if size == frame_size(frame) else Interpolation.BICUBIC,
            # With equal ranges on both sides, FFmpeg keeps the sample values.
            src_color_range=_FULL_RANGE,
            dst_color_range=_FULL_RANGE,
            threads=1,
        )

    def arrays(self, frame: VideoFrame) -> tuple[Plane, ...]:
        """Copy the planes of a frame from `planar`, each of shape (height, width)."""
        planes = tuple(_array(plane, self._planes.depth) for plane in frame.planes)
        if self._planes.kind != "rgb":
            return planes
        return tuple(planes[index] for index in RGB_ORDER[: len(planes)])


def frame_size(frame: VideoFrame) -> tuple[int, int]:
    """Return the width and height of a frame in pixels."""
    return frame.width, frame.height


def _rows(plane: VideoPlane, depth: int) -> NDArray[Any]:
    """Return the samples of a plane that FFmpeg allocated, with the padding of its rows."""
    dtype = np.dtype(np.uint8 if depth <= 8 else np.uint16)
    return np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1)


def _array(plane: VideoPlane, depth: int) -> Plane:
    """Copy a plane without the padding of its rows."""
    dtype = np.dtype(np.uint8 if depth <= 8 else np.uint16)
    stride = abs(plane.line_size)
    if plane.line_size < 0:
        # Rows are stored bottom-up, and the pointer addresses the top row.
        start = plane.buffer_ptr - stride * (plane.height - 1)
        data = ctypes.string_at(start, stride * plane.height)
        rows = np.frombuffer(data, dtype).reshape(plane.height, -1)[::-1]
    else:
        rows = _rows(plane, depth)
    return rows[:, : plane.width].copy()
