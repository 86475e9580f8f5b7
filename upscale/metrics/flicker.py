"""Flicker of videos: how much fine detail changes between frames, along the motion."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise, repeat
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.metrics.samples import MetricError

Plane = NDArray[Any]
"""Brightness of a frame of shape (H, W): uint8, or floats of 0..255."""

_SIGMA = 2.0
_MOST_DISAGREEMENT = 0.5
_FEWEST_FOLLOWED = 0.25
_LEAST_CONTRAST = 0.01


def flicker(frames: Iterable[Plane], guides: Iterable[Plane] | None = None) -> float:
    """Return the flicker of a video; lower is better, 0 is a video without any.

    Each frame is warped onto the one before along the optical flow (DIS). The result is the high
    frequencies of the difference relative to the high frequencies of the frames, both as root mean
    square: 1 if the fine detail of each frame has nothing to do with that of the frame before.
    Pixels that are covered or uncovered are left out, and so are scene cuts. The high frequencies
    are what a Gaussian of 2 pixels removes.

    Args:
        frames: Brightness of consecutive frames, all of one size.
        guides: Brightness of the frames, of any size, from which the motion is taken. For networks
            these are the frames of the source, so that all networks get the same motion. None takes
            it from the frames themselves.

    Returns:
        The flicker, about 0 to 1.

    Raises:
        MetricError: There are fewer than two frames, their sizes differ, no motion can be followed,
            or there is no detail.

    Example:
        >>> import numpy as np
        >>> from upscale.metrics import flicker
        >>> texture = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
        >>> flicker([texture, texture, texture])
        0.0
    """
    flow = _Flow()
    change, contrast, pairs = 0.0, 0.0, 0
    guided = zip(frames, repeat(None) if guides is None else guides, strict=guides is not None)
    try:
        for (before, guide), (after, next_guide) in pairwise(guided):
            if before.shape != after.shape:
                raise MetricError("the frames have different sizes")
            pairs += 1
            motion = flow.between(
                before if guide is None else guide, after if next_guide is None else next_guide
            )
            changed, detail = _mean_squares(before, after, *motion)
            change, contrast = change + changed, contrast + detail
    except ValueError as error:  # of zip
        raise MetricError("the videos have different numbers of frames") from error
    if pairs == 0:
        raise MetricError("flicker needs two frames or more")
    if contrast < _LEAST_CONTRAST:
        raise MetricError("the frames have no detail whose motion can be followed")
    # Independent noise in both frames adds up, so half of the square is that of one frame.
    return math.sqrt(change / 2 / contrast)


class _Flow:
    """Optical flow in both directions."""

    def __init__(self) -> None:
        self._method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        # Spatial propagation would make the result depend on the number of threads.
        self._method.setUseSpatialPropagation(False)

    def between(self, before: Plane, after: Plane) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the motion from one frame to the next, (H, W, 2), and where it is certain."""
        one, other = (np.clip(np.rint(plane), 0, 255).astype(np.uint8) for plane in (before, after))
        forward, backward = self._of(one, other), self._of(other, one)
        returned = forward + _sampled(backward, forward, cv2.INTER_LINEAR)
        height, width = one.shape
        x, y = np.moveaxis(_grid(height, width) + forward, -1, 0)
        inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        return forward, inside & (np.linalg.norm(returned, axis=-1) < _MOST_DISAGREEMENT)

    def _of(self, one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
        flow = self._method.calc(one, other, None)  # pyright: ignore[reportArgumentType, reportCallIssue]
        return np.asarray(flow, np.float32)


def _mean_squares(
    before: Plane, after: Plane, motion: NDArray[np.float32], certain: NDArray[np.bool_]
) -> tuple[float, float]:
    """Return the mean squares of what changes and of the detail; 0 for a scene cut."""
    if certain.mean() < _FEWEST_FOLLOWED:
        return 0.0, 0.0
    height, width = before.shape
    scale = np.array((width / motion.shape[1], height / motion.shape[0]), np.float32)
    large = np.asarray(cv2.resize(motion, (width, height)), np.float32) * scale
    mask = cv2.resize(certain.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    mask = np.asarray(mask, np.bool_)
    one, other = before.astype(np.float32), after.astype(np.float32)
    warped = _sampled(other, large, cv2.INTER_LANCZOS4)
    change, detail = _high_frequencies(warped - one), _high_frequencies(one)
    return float(np.square(change[mask]).mean()), float(np.square(detail[mask]).mean())


def _sampled(
    values: NDArray[np.float32], motion: NDArray[np.float32], interpolation: int
) -> NDArray[np.float32]:
    """Return the values at the places where the motion leads."""
    x, y = (
        np.ascontiguousarray(axis) for axis in np.moveaxis(_grid(*motion.shape[:2]) + motion, -1, 0)
    )
    border = cv2.BORDER_REPLICATE
    return np.asarray(cv2.remap(values, x, y, interpolation, borderMode=border), np.float32)


def _grid(height: int, width: int) -> NDArray[np.float32]:
    """Return the coordinates x, y of all pixels, (H, W, 2)."""
    y, x = np.mgrid[:height, :width]
    return np.stack((x, y), -1).astype(np.float32)


def _high_frequencies(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values - np.asarray(cv2.GaussianBlur(values, (0, 0), _SIGMA), np.float32)
