"""Between a video's native planes and RGB tensors, in fp32, on any device.

Nothing is rounded or clipped on the way to RGB. Planes hold colours that RGB in [0, 1] does not:
whiter than white (235 to 255 of 8 bits in limited range), blacker than black, and chroma that no
display shows; codecs make a little of it at every sharp edge. `beyond` tells how much there is, and
`restore` adds it, interpolated, to what a network made of the rest. On the way back codes are
rounded to the nearest and clipped only where the depth ends (0 to 255, not 16 to 235).

Chroma is filtered with Catmull-Rom cubics at its true place, stretched when it is reduced. That is
0.8 to 1.1 dB nearer to the chroma of photographs than bilinear, and shorter than Lanczos, which
would gain 0.4 dB more (`python -m benchmarks.yuv`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

LUMA_WEIGHTS = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
"""Shares of red and blue in luma (Kr, Kb): Rec. ITU-R BT.601-7, 2.5.1; BT.709-6, item 3.2;
BT.2020-2, table 4 (non-constant luminance)."""

CENTRED_ACROSS = frozenset({2, 4, 6})
"""FFmpeg's chroma locations (centre, top, bottom) whose samples lie between two columns."""

ROWS_DOWN = {3: 0.0, 4: 0.0, 5: 1.0, 6: 1.0}
"""Where in its group of rows a chroma sample lies, from the first (0) to the last (1), by FFmpeg's
chroma location; in the middle for the others."""

NOISE = 2**-17
"""Values this near to [0, 1] are inside: half a level of 16 bits, and more than fp32 errs by."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What planes mean; fields are those of a video's `PlaneFormat` and `Colour`.

    Attributes:
        depth: bits of a sample, 8 to 16; arrays are uint8 for 8 and uint16 above, low bits used.
        chroma_across: logarithm of the chroma planes' horizontal reduction.
        chroma_down: the same of the vertical one.
        kind: planes are Y, Cb, Cr; or R, G, B; or Y alone.
        matrix: between YCbCr and RGB; nothing but `yuv` reads it.
        full_range: whether 8 bits run from 0 to 255, rather than from 16 to 235 (chroma: 240).
        chroma_location: FFmpeg's number: 0 unspecified (left), 1 left, 2 centre, 3 top left, 4 top,
            5 bottom left, 6 bottom.
    """

    depth: int
    chroma_across: int
    chroma_down: int
    kind: Literal["yuv", "rgb", "grey"]
    matrix: Literal["bt601", "bt709", "bt2020", "rgb"]
    full_range: bool
    chroma_location: int = 0

    @property
    def black(self) -> int:
        """The code of black."""
        return 0 if self.full_range else 16 << (self.depth - 8)

    @property
    def luma_span(self) -> int:
        """Codes from black to white (H.273, equations 20 to 35)."""
        return self.highest if self.full_range else 219 << (self.depth - 8)

    @property
    def chroma_span(self) -> int:
        """Codes from the least chroma to the most."""
        return self.highest if self.full_range else 224 << (self.depth - 8)

    @property
    def neutral(self) -> int:
        """The chroma code of grey."""
        return 1 << (self.depth - 1)

    @property
    def highest(self) -> int:
        """The last code."""
        return (1 << self.depth) - 1


def opacity(depth: int) -> Layout:
    """The layout of an alpha plane: grey of full range, whatever the range of the colours."""
    return Layout(depth, 0, 0, "grey", "rgb", full_range=True)


def to_rgb(
    planes: Sequence[NDArray[Any] | Tensor],
    layout: Layout,
    device: torch.device | str = "cpu",
) -> Tensor:
    """The RGB of a frame; black is 0 and white is 1, and nothing is clipped to them.

    Args:
        planes: (H, W) uint8 or uint16 each, in the order of `layout.kind`, without alpha; chroma
            planes are (ceil(H / 2**chroma_down), ceil(W / 2**chroma_across)). Tensors are as
            `plane_tensor` makes them.
        layout: what they mean.
        device: where to compute.

    Returns:
        (1, 3, H, W) float32; (1, 1, H, W) of a grey frame.
    """
    codes = [_codes(plane, device) for plane in planes]
    if layout.kind != "yuv":
        return torch.stack(codes)[None].sub_(layout.black).div_(layout.luma_span)
    luma = codes[0].sub_(layout.black).div_(layout.luma_span)
    chroma = torch.stack(codes[1:]).sub_(layout.neutral)
    chroma = _upscaled(chroma, 1, layout.chroma_down, _down(layout), luma.shape[0])
    chroma = _upscaled(chroma, 2, layout.chroma_across, _across(layout), luma.shape[1])
    return _of_luma_and_chroma(luma, chroma, layout)[None]


def from_rgb(rgb: Tensor, layout: Layout) -> list[NDArray[Any]]:
    """The planes of a frame as arrays; see `to_planes`."""
    return [plane_array(plane.cpu()) for plane in to_planes(rgb, layout)]


def to_planes(rgb: Tensor, layout: Layout) -> list[Tensor]:
    """The planes of a frame, rounded to the nearest code, clipped where codes end.

    Args:
        rgb: (1, 3, H, W) float32, or (1, 1, H, W) for grey, in any memory format; kept as it is.
        layout: of the planes.

    Returns:
        (H, W) each, contiguous, where `rgb` is, as `to_rgb` and `plane_array` take them.
    """
    if layout.kind != "yuv":
        return [_plane(values * layout.luma_span, layout.black, layout) for values in rgb[0]]
    luma, chroma = _to_luma_and_chroma(rgb[0], layout)
    chroma = _reduced(chroma, 1, layout.chroma_down, _down(layout))
    chroma = _reduced(chroma, 2, layout.chroma_across, _across(layout))
    return [
        _plane(luma, layout.black, layout),
        *(_plane(values, layout.neutral, layout) for values in chroma),
    ]


def beyond(rgb: Tensor) -> Tensor | None:
    """What a network, which takes [0, 1], would not see of a frame.

    Returns:
        In the shape of `rgb`, how far each value lies below 0 (negative) or above 1 (positive), and
        0 elsewhere; None if no value lies outside.
    """
    least, most = torch.aminmax(rgb)
    if least >= -NOISE and most <= 1 + NOISE:
        return None
    return rgb - rgb.clamp(0, 1)


def restore(upscaled: Tensor, rest: Tensor | None) -> Tensor:
    """Add to an upscaled frame what `beyond` found in the small one, interpolated bilinearly.

    Args:
        upscaled: (1, C, H', W') float32; changed in place.
        rest: (1, C, H, W) float32, or None for nothing.

    Returns:
        `upscaled`.
    """
    if rest is None:
        return upscaled
    height, width = upscaled.shape[2:]
    down, across = height // rest.shape[2], width // rest.shape[3]
    whole = (down * rest.shape[2], across * rest.shape[3]) == (height, width)
    if not whole or upscaled.device.type != "cpu":
        return upscaled.add_(
            F.interpolate(rest, (height, width), mode="bilinear", align_corners=False)
        )
    # A CPU does the same by whole rows and columns in a quarter of the time.
    wide = rest.new_empty((*rest.shape[1:3], width))
    for part, taps in _phases(wide, 2, across):
        part.copy_(_filtered(rest[0], 2, taps, 1, part.shape[2]))
    for part, taps in _phases(upscaled[0], 1, down):
        part.add_(_filtered(wide, 1, taps, 1, part.shape[1]))
    return upscaled


def _phases(large: Tensor, axis: int, group: int) -> Iterator[tuple[Tensor, dict[int, float]]]:
    """Every `group`th sample of an axis, from each start, and its weights for the bilinear one."""
    for phase in range(group):
        position = (phase + 0.5) / group - 0.5
        before = math.floor(position)
        yield (
            _cut(large, axis, phase, None, group),
            {before: before + 1 - position, before + 1: position - before},
        )


def plane_tensor(plane: NDArray[Any]) -> Tensor:
    """A plane as a tensor with the same memory: uint8; or int16 with the bits of uint16.

    Not every device knows uint16.
    """
    return torch.from_numpy(plane if plane.dtype == np.uint8 else plane.view(np.int16))


def plane_array(plane: Tensor) -> NDArray[Any]:
    """The reverse of `plane_tensor`, of a tensor in the host's memory."""
    array = plane.numpy()
    return array if array.dtype == np.uint8 else array.view(np.uint16)


def _codes(plane: NDArray[Any] | Tensor, device: torch.device | str) -> Tensor:
    """A plane as float32 on the device, uploaded in its own depth."""
    codes = (plane if isinstance(plane, Tensor) else plane_tensor(plane)).to(device)
    if codes.dtype == torch.uint8:
        return codes.float()
    return codes.int().bitwise_and_(0xFFFF).float()  # undoes the sign


def _plane(values: Tensor, offset: int, layout: Layout) -> Tensor:
    """Codes that lie `offset` above (H, W) values, which are changed."""
    codes = values.add_(offset).round_().clamp_(0, layout.highest)
    if layout.depth == 8:
        return codes.to(torch.uint8).contiguous()
    return codes.int().short().contiguous()


def _of_luma_and_chroma(luma: Tensor, chroma: Tensor, layout: Layout) -> Tensor:
    """(3, H, W) RGB of (H, W) luma in [0, 1] and (2, H, W) chroma in codes around 0 (H.273, 38)."""
    red, blue = LUMA_WEIGHTS[layout.matrix]
    green = 1 - red - blue
    of_red, of_blue = (2 * (1 - share) / layout.chroma_span for share in (red, blue))
    rgb = luma.new_empty((3, *luma.shape))
    torch.add(luma, chroma[1], alpha=of_red, out=rgb[0])
    torch.add(luma, chroma[1], alpha=-of_red * red / green, out=rgb[1])
    rgb[1].add_(chroma[0], alpha=-of_blue * blue / green)
    torch.add(luma, chroma[0], alpha=of_blue, out=rgb[2])
    return rgb


def _to_luma_and_chroma(rgb: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """The reverse of `_of_luma_and_chroma`, but for luma, which is in codes above black."""
    red, blue = LUMA_WEIGHTS[layout.matrix]
    span = layout.luma_span
    luma = rgb.new_empty(rgb.shape[1:])
    torch.mul(rgb[0], red * span, out=luma)
    luma.add_(rgb[1], alpha=(1 - red - blue) * span).add_(rgb[2], alpha=blue * span)
    chroma = rgb.new_empty((2, *luma.shape))
    for values, colour, share in ((chroma[0], rgb[2], blue), (chroma[1], rgb[0], red)):
        scale = layout.chroma_span / (2 * (1 - share))
        torch.mul(colour, scale, out=values)
        values.add_(luma, alpha=-scale / span)
    return luma, chroma


def _across(layout: Layout) -> float:
    """Columns from the first of a group to its chroma sample."""
    group = 1 << layout.chroma_across
    return (group - 1) / 2 if layout.chroma_location in CENTRED_ACROSS else 0.0


def _down(layout: Layout) -> float:
    """Rows from the first of a group to its chroma sample."""
    group = 1 << layout.chroma_down
    return (group - 1) * ROWS_DOWN.get(layout.chroma_location, 0.5)


def _upscaled(small: Tensor, axis: int, halvings: int, place: float, length: int) -> Tensor:
    """Undo `_reduced` along an axis, to `length` samples."""
    if not halvings:
        return small
    group = 1 << halvings
    large = small.new_empty([*small.shape[:axis], length, *small.shape[axis + 1 :]])
    for phase in range(min(group, length)):
        part = _cut(large, axis, phase, None, group)
        part.copy_(_filtered(small, axis, _taps((phase - place) / group, 1), 1, part.shape[axis]))
    return large


def _reduced(large: Tensor, axis: int, halvings: int, place: float) -> Tensor:
    """One sample for every group along an axis, at `place` in it, antialiased."""
    if not halvings:
        return large
    group = 1 << halvings
    return _filtered(large, axis, _taps(place, group), group, -(-large.shape[axis] // group))


def _taps(position: float, stretch: int) -> dict[int, float]:
    """Weights, by index, of the samples that make up the value at a position."""
    reach = 2 * stretch
    indices = range(math.ceil(position - reach), math.floor(position + reach) + 1)
    weights = {index: _catmull_rom((index - position) / stretch) for index in indices}
    total = sum(weights.values())
    return {index: weight / total for index, weight in weights.items() if weight}


def _catmull_rom(distance: float) -> float:
    """The cubic of Catmull and Rom ("A class of local interpolating splines", 1974)."""
    x = abs(distance)
    if x < 1:
        return (1.5 * x - 2.5) * x**2 + 1
    return ((2.5 - 0.5 * x) * x - 4) * x + 2 if x < 2 else 0.0


def _filtered(source: Tensor, axis: int, taps: dict[int, float], stride: int, count: int) -> Tensor:
    """Weighted sums around every `stride`th sample of an axis, whose edges are repeated."""
    span = stride * (count - 1)
    before = max(-min(taps), 0)
    after = max(max(taps) + span + 1 - source.shape[axis], 0)
    padding = (0, 0, before, after) if axis == 1 else (before, after, 0, 0)
    source = F.pad(source, padding, mode="replicate")
    views = [
        (_cut(source, axis, before + index, before + index + span + 1, stride), weight)
        for index, weight in taps.items()
    ]
    total = views[0][0] * views[0][1]
    for view, weight in views[1:]:
        total.add_(view, alpha=weight)
    return total


def _cut(tensor: Tensor, axis: int, start: int, stop: int | None, step: int) -> Tensor:
    """A view of a part of one axis."""
    return tensor[(slice(None),) * axis + (slice(start, stop, step),)]
