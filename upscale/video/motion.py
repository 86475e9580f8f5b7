"""Motion between consecutive frames of a video, and where it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.video.info import PlaneFormat

_Floats = NDArray[np.float32]
_Luma = NDArray[np.uint8]

_SMALLEST_SIDE = 64
"""Smaller frames are extended: the optical flow needs room for its coarsest level."""

_WINDOW = 5
"""Side of the window over which differences of brightness are averaged."""

_QUIET, _LOUD = 3.0, 12.0
"""Least and greatest difference, in levels of 8 bits, that noise may cause."""

_SMALL_MOTION = 1.5
"""Pixels that noise moves a standing picture at most."""

_BLUR = 1.0
"""Standard deviation of the filter that removes noise before frames are compared."""

_ROUND_TRIP = 0.75
"""Pixels by which the motion there and back may miss its start."""

_CUT = 0.4
"""Part of a frame that must be found in the previous one, else a new scene has begun."""


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Where the pixels of a frame were in the previous one.

    Attributes:
        flow: Array of shape (H, W, 2): columns and rows from a pixel to its previous position.
        trust: Array of shape (H, W): 1 where the pixel was found, 0 where it was hidden, outside
            the frame, or has changed.
    """

    flow: _Floats
    trust: _Floats


class MotionEstimator:
    """Estimate the motion between the frames that it gets one after another; not thread-safe.

    Args:
        planes: Format of the frames.
    """

    def __init__(self, planes: PlaneFormat) -> None:
        self._planes = planes
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._flow.setFinestScale(0)  # the full resolution
        self._before: _Luma | None = None

    def next(self, planes: Sequence[NDArray[Any]], *, is_consecutive: bool) -> Motion | None:
        """Return the motion from the previous frame to this one.

        Args:
            planes: Planes of the frame.
            is_consecutive: Whether the frame before it is the one of the previous call.

        Returns:
            The motion; None for the first frame of a scene.
        """
        before, self._before = self._before, _luma(planes, self._planes)
        if before is None or not is_consecutive:
            return None
        return self._between(before, self._before)

    def _between(self, before: _Luma, now: _Luma) -> Motion | None:
        back, there = self._of(now, before), self._of(before, now)
        now, before = _without_noise(now), _without_noise(before)
        still = _difference(now, before)
        moved = _difference(now, _moved(before, _places(back)))
        # Noise alone looks like a small motion; without it, standing pixels stay exactly there.
        is_small = np.abs(back).max(2) < _SMALL_MOTION
        stands = is_small & (still <= moved * 1.5 + 0.25)
        back[stands] = 0
        difference = np.where(stands, still, moved)
        places = _places(back)
        missed = np.sqrt(np.square(back + _moved(there, places)).sum(2))
        missed[stands] = 0
        found = 2 - missed / (_ROUND_TRIP + 0.05 * np.sqrt(np.square(back).sum(2)))
        noise = float(np.clip(2 * np.median(difference), _QUIET, _LOUD))
        trust = np.minimum(found, 2 - difference / noise).clip(0, 1) * _inside(places)
        trust = cv2.blur(cv2.erode(trust.astype(np.float32), np.ones((3, 3), np.uint8)), (3, 3))
        if float(np.mean(trust > 0.5)) < _CUT:
            return None
        return Motion(back, np.asarray(trust, np.float32))

    def _of(self, now: _Luma, before: _Luma) -> _Floats:
        height, width = now.shape
        down, across = max(_SMALLEST_SIDE - height, 0), max(_SMALLEST_SIDE - width, 0)
        if down or across:
            now, before = (
                np.pad(each, ((0, down), (0, across)), mode="edge") for each in (now, before)
            )
        flow = self._flow.calc(now, before, None)  # pyright: ignore[reportArgumentType, reportCallIssue]
        return np.ascontiguousarray(flow[:height, :width], np.float32)


def _luma(planes: Sequence[NDArray[Any]], layout: PlaneFormat) -> _Luma:
    """Return the brightness of a frame in 8 bits."""
    if layout.kind == "rgb":
        red, green, blue = (plane.astype(np.uint32) for plane in planes[:3])
        luma = (red + 2 * green + blue) >> (layout.depth - 6)
    else:
        luma = planes[0] >> (layout.depth - 8)
    return np.ascontiguousarray(luma, np.uint8)


def _without_noise(luma: _Luma) -> _Luma:
    return np.asarray(cv2.GaussianBlur(luma, (0, 0), _BLUR), np.uint8)


def _places(flow: _Floats) -> _Floats:
    """Return the previous position of each pixel, (H, W, 2)."""
    height, width = flow.shape[:2]
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    return (flow + np.dstack((columns, rows))).astype(np.float32)


def _moved(image: NDArray[Any], places: _Floats) -> NDArray[Any]:
    """Return what an image shows at other places."""
    return cv2.remap(image, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _difference(one: _Luma, other: NDArray[Any]) -> _Floats:
    """Return the local mean of the absolute difference of brightness."""
    return cv2.blur(cv2.absdiff(one, other).astype(np.float32), (_WINDOW, _WINDOW)).astype(
        np.float32
    )


def _inside(places: _Floats) -> NDArray[np.bool_]:
    """Return which places are inside the frame."""
    height, width = places.shape[:2]
    across, down = places[..., 0], places[..., 1]
    return (across >= 0) & (across <= width - 1) & (down >= 0) & (down <= height - 1)
