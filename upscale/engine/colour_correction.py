"""The colours of a source for the result of a network, which shifts them a little.

Networks darken the night and change skin by several levels. Both images are compared after a
low-pass filter, in each channel: the result is multiplied by the quotient of the two, so that
details stay as the network drew them. A difference that is added instead would brighten black text
together with its background, as a veil does.

The correction comes last, after the mean of several networks and after the final resize: the
resize keeps colours, so that the order makes no difference to them, and the output is often smaller
than the network's result. It depends on whole images only, never on tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from upscale.engine.canvas import DEPTHS
from upscale.engine.choices import Seamless
from upscale.engine.device import computing_on
from upscale.engine.memory import release_cached_memory
from upscale.tiling.recovery import with_less_memory
from upscale.tiling.wrapping import NO_WRAP, Wrap

SIGMA = 4.0
"""Standard deviation of the low-pass filter in pixels of the source."""

REACH = 3
"""Standard deviations at which the filter ends."""

FLOOR = 0.5 / 255
"""Added to both sides of the quotient: half a level, so that it stays near 1 at black."""

CONTRAST = 2.0
"""Pixels that are brighter than their surroundings by more than this factor change no more than at
this factor: stars stay as they are where the sky around them becomes twice as bright."""

WHITE = 4 / 255
"""Distance from white in which source pixels count as clipped, more and more."""

CHUNK_SAMPLES = 2**21
"""Samples of the result that are converted to float32 at a time."""

BLOCK = 32
"""Samples of an axis that are reduced by one matrix product."""


def keep_colour(large: NDArray[Any], source: NDArray[Any], seamless: Seamless = "") -> None:
    """Correct the colours of an upscaled array in place.

    Args:
        large: Upscaled image of any size, (H, W, C), uint8, uint16 or float32 in 0..1.
        source: Its source, (h, w, C), uint8, uint16 or float32; floats are clamped to 0..1, as for
            the network.
        seamless: Directions in which the image repeats.

    Example:
        >>> source = np.full((8, 8, 3), 100, np.uint8)
        >>> large = np.full((32, 32, 3), 90, np.uint8)
        >>> keep_colour(large, source)
        >>> np.unique(large).tolist()
        [100]
    """
    full = DEPTHS[large.dtype]

    def read(rows: slice) -> Tensor:
        return _floats(large[rows])

    def write(rows: slice, values: Tensor) -> None:
        levels = values if large.dtype == np.float32 else values.mul_(full).round_()
        large[rows] = levels.permute(1, 2, 0).numpy()

    wrap = Wrap(rows="y" in seamless, columns="x" in seamless)
    with computing_on(torch.device("cpu")):
        rows = _Rows(read, write, *large.shape[:2])
        _correct(rows, lambda: _floats(source).clamp_(0, 1), wrap)


def keep_colour_tensor(large: Tensor, source: Tensor) -> Tensor:
    """Correct the colours of an upscaled tensor in place, on its device.

    Args:
        large: Upscaled frame of shape (1, C, H, W), float32 in 0..1.
        source: Its source, (1, C, h, w), float32 in 0..1.

    Returns:
        The tensor `large`.
    """

    def write(rows: slice, values: Tensor) -> None:
        large[0, :, rows] = values

    rows = _Rows(lambda rows: large[0, :, rows], write, *large.shape[2:])
    with computing_on(large.device):
        _correct(rows, lambda: source[0], NO_WRAP)
    return large


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of an image: `read` returns (C, rows, W) float32 in 0..1, and `write` stores it."""

    read: Callable[[slice], Tensor]
    write: Callable[[slice, Tensor], None]
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class _Correction:
    """The correction of an image: planes of (C, h, w), and how they are interpolated."""

    changes: Tensor
    limits: Tensor
    down: _Interpolation
    across: _Interpolation

    def apply(self, large: _Rows, chunk: slice) -> None:
        """Correct a chunk of rows; it is unchanged if memory runs out."""
        values = large.read(chunk)
        change = self.across.between(self.down.between(self.changes, 1, chunk), 2)
        limit = self.across.between(self.down.between(self.limits, 1, chunk), 2)
        change.mul_(torch.minimum(values, limit, out=limit))
        large.write(chunk, change.add_(values).clamp_(0, 1))


def _correct(large: _Rows, source: Callable[[], Tensor], wrap: Wrap) -> None:
    """Correct an image by chunks of rows; `source` returns (C, h, w)."""
    correction = with_less_memory(lambda: _correction(large, source(), wrap), release_cached_memory)
    for chunk in _row_chunks(large):
        with_less_memory(partial(correction.apply, large, chunk), release_cached_memory)


def _correction(large: _Rows, source: Tensor, wrap: Wrap) -> _Correction:
    height, width = source.shape[1:]
    # Where the result is smaller than its source, both are compared at its size.
    rows, columns = min(height, large.height), min(width, large.width)
    source = _averages(_averages(source, 1, height, rows), 2, width, columns)
    reduced = torch.empty_like(source)
    for part, covered in _grid_chunks(large, rows):
        chunk = _averages(large.read(covered), 2, large.width, columns)
        reduced[:, part] = _averages(chunk, 1, large.height, rows, part)
    sigmas = SIGMA * rows / height, SIGMA * columns / width
    gains = [
        _gain(channel, result, sigmas, wrap)
        for channel, result in zip(source, reduced, strict=True)
    ]
    changes, limits = (torch.stack(planes) for planes in zip(*gains, strict=True))
    return _Correction(
        changes,
        limits,
        _Interpolation(rows, large.height, wraps=wrap.rows, device=changes.device),
        _Interpolation(columns, large.width, wraps=wrap.columns, device=changes.device),
    )


def _gain(
    source: Tensor, result: Tensor, sigmas: tuple[float, float], wrap: Wrap
) -> tuple[Tensor, Tensor]:
    """Return the relative change of one channel (h, w), and up to which value it is relative."""
    wanted, actual = (_low_pass(plane, sigmas, wrap) for plane in (source, result))
    change = wanted.add_(FLOOR).div_(actual + FLOOR).sub_(1)
    darker = change.clamp(max=0).mul_(_unclipped(source, wrap))
    return change.clamp_(min=0).add_(darker), actual.mul_(CONTRAST)


def _unclipped(source: Tensor, wrap: Wrap) -> Tensor:
    """Return the weight of each pixel in darkening: 0 at and near clipped white, 1 elsewhere."""
    padded = _extended(_extended(source, 0, 3, wraps=wrap.rows), 1, 3, wraps=wrap.columns)
    white = padded.sub_(1 - WHITE).div_(WHITE).clamp_(0, 1)[None, None]
    return 1 - F.avg_pool2d(F.max_pool2d(white, 5, 1), 3, 1)[0, 0]


def _low_pass(plane: Tensor, sigmas: tuple[float, float], wrap: Wrap) -> Tensor:
    rows = _blurred(plane, 0, sigmas[0], wraps=wrap.rows)
    return _blurred(rows, 1, sigmas[1], wraps=wrap.columns)


def _blurred(plane: Tensor, axis: int, sigma: float, *, wraps: bool) -> Tensor:
    """Apply a Gaussian filter along one axis; at a border, its part inside the plane."""
    length, reach = plane.shape[axis], math.ceil(REACH * sigma)
    offsets = range(-reach, reach + 1)
    taps = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in offsets]
    total = torch.zeros_like(plane)
    if wraps:
        padded = _extended(plane, axis, reach, wraps=True)
        for place, tap in enumerate(taps):
            total.add_(padded.narrow(axis, place, length), alpha=tap / sum(taps))
        return total
    weights = plane.new_zeros(length)
    for offset, tap in zip(offsets, taps, strict=True):
        count = length - abs(offset)
        if count > 0:
            start = max(-offset, 0)
            inside = plane.narrow(axis, start + offset, count)
            total.narrow(axis, start, count).add_(inside, alpha=tap)
            weights.narrow(0, start, count).add_(tap)
    return total.div_(weights[:, None] if axis == 0 else weights)


def _extended(plane: Tensor, axis: int, reach: int, *, wraps: bool) -> Tensor:
    """Return a plane with `reach` more samples at both ends of an axis, repeated or wrapped."""
    length = plane.shape[axis]
    indices = torch.arange(-reach, length + reach, device=plane.device)
    indices = indices % length if wraps else indices.clamp_(0, length - 1)
    return plane.index_select(axis, indices)


def _averages(
    image: Tensor,
    axis: int,
    length: int,
    count: int,
    cells: slice | None = None,
) -> Tensor:
    """Return the means over equal cells of an axis, weighted by area where they cut samples.

    Args:
        image: Image of shape (C, H, W), or the part of it that the cells cover.
        axis: Axis to divide into cells.
        length: Samples of the whole axis.
        count: Cells of the whole axis, at most `length`.
        cells: Cells to return; None for all.
    """
    if length == count:
        return image
    if length % count == 0:
        return image.unflatten(axis, (-1, length // count)).mean(axis + 1)
    cells = cells or slice(0, count)
    first = cells.start * length // count
    means: list[Tensor] = []
    for start in range(cells.start, cells.stop, BLOCK):
        numbers = torch.arange(start, min(start + BLOCK, cells.stop), dtype=torch.float64)
        low = start * length // count
        high = -(-(int(numbers[-1]) + 1) * length // count)
        samples = torch.arange(low, high, dtype=torch.float64)
        ends = (numbers[:, None] + 1) * length / count, numbers[:, None] * length / count
        weights = torch.minimum(ends[0], samples + 1) - torch.maximum(ends[1], samples)
        weights = (weights.clamp_(min=0) * count / length).float().to(image.device)
        covered = image.narrow(axis, low - first, high - low)
        means.append(weights @ covered if axis == 1 else covered @ weights.T)
    return torch.cat(means, axis)


class _Interpolation:
    """Linear interpolation of an axis between the centres of `count` cells.

    Args:
        count: Cells of the axis.
        length: Samples of the axis of the result.
        wraps: Whether the last cell is followed by the first one.
        device: Device that computes.
    """

    def __init__(self, count: int, length: int, *, wraps: bool, device: torch.device) -> None:
        places = (torch.arange(length, dtype=torch.float64) + 0.5) * count / length - 0.5
        if not wraps:
            places.clamp_(0, count - 1)
        self._wraps = wraps
        before = places.floor()
        indices = before.long()
        after = (indices + 1) % count if wraps else (indices + 1).clamp_(max=count - 1)
        self._before, self._after = (indices % count).to(device), after.to(device)
        self._share = (places - before).float().to(device)

    def between(self, planes: Tensor, axis: int, part: slice = slice(None)) -> Tensor:
        """Return a part of the samples of planes (C, h, w)."""
        if axis == 2 and not self._wraps:  # three times as fast as the general way
            size = (planes.shape[1], len(self._share))
            return F.interpolate(planes[None], size, mode="bilinear", align_corners=False)[0]
        share = self._share[part]
        return torch.lerp(
            planes.index_select(axis, self._before[part]),
            planes.index_select(axis, self._after[part]),
            share[:, None] if axis == 1 else share,
        )


def _grid_chunks(large: _Rows, count: int) -> Iterator[tuple[slice, slice]]:
    """Yield parts of `count` rows of cells, and the rows of the result that they cover."""
    step = max(1, CHUNK_SAMPLES // large.width * count // large.height)
    for start in range(0, count, step):
        stop = min(start + step, count)
        end = -(-stop * large.height // count)
        yield slice(start, stop), slice(start * large.height // count, end)


def _row_chunks(large: _Rows) -> Iterator[slice]:
    step = max(1, CHUNK_SAMPLES // large.width)
    return (slice(top, min(top + step, large.height)) for top in range(0, large.height, step))


def _floats(pixels: NDArray[Any]) -> Tensor:
    """Return (H, W, C) pixels as a (C, H, W) tensor with white at 1."""
    values = np.ascontiguousarray(np.moveaxis(pixels, 2, 0), np.float32)
    return torch.from_numpy(values).div(DEPTHS[pixels.dtype])
