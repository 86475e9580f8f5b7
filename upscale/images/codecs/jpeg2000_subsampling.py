"""JPEG 2000 whose components have different resolutions, decoded by FFmpeg.

OpenJPEG returns each component with its own size, which Pillow and imagecodecs ignore.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from upscale.images.codecs.base import MalformedError, UnsupportedError
from upscale.images.codecs.jpeg2000_codestream import Codestream, Component
from upscale.images.image import Pixels
from upscale.images.pixels.depth import full_scale, stretched

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_STEPS = (1, 2, 4)  # those that FFmpeg decodes
_UNSUPPORTED = "has subsampled components in a way that is not supported"
# ITU-R BT.601, as sYCC prescribes (IEC 61966-2-1, annex G).
_RED, _BLUE = 0.299, 0.114


def subsampled(data: bytes, stream: Codestream) -> Pixels:
    """Decode an image, and repeat the samples of smaller components.

    Args:
        data: Content of the file.
        stream: Its codestream.

    Returns:
        Samples of shape (H, W, C), scaled to the whole range of their type.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: The combination of components is not supported.
    """
    first = stream.components[0]
    if any(part.is_signed or part.bits != first.bits for part in stream.components):
        raise UnsupportedError(_UNSUPPORTED)
    if any(part.across not in _STEPS or part.down not in _STEPS for part in stream.components):
        raise UnsupportedError(_UNSUPPORTED)
    frame = _frame(data)
    count = len(stream.components)
    if len(frame.planes) not in (1, count) or frame.format.components[0].bits != first.bits:
        raise UnsupportedError(_UNSUPPORTED)
    planes = [
        _repeated(plane, part, stream)
        for plane, part in zip(_planes(frame, count, first.bits), stream.components, strict=True)
    ]
    return stretched(np.stack(planes, axis=2), first.bits)


def rgb_of(samples: Pixels) -> Pixels:
    """Convert sYCC to RGB.

    Args:
        samples: Array of shape (H, W, 3), uint8 or uint16.
    """
    full = full_scale(samples.dtype)
    luma, blue, red = np.moveaxis(samples.astype(np.float32), 2, 0)
    # The middle of an even number of levels.
    blue, red = blue - (full + 1) / 2, red - (full + 1) / 2
    green_red = 2 * _RED * (1 - _RED) / (1 - _RED - _BLUE)
    green_blue = 2 * _BLUE * (1 - _BLUE) / (1 - _RED - _BLUE)
    rgb = np.stack(
        (
            luma + 2 * (1 - _RED) * red,
            luma - green_blue * blue - green_red * red,
            luma + 2 * (1 - _BLUE) * blue,
        ),
        axis=2,
    )
    return np.rint(rgb).clip(0, full).astype(samples.dtype)


def _frame(data: bytes) -> VideoFrame:
    # Imported here, because few images need FFmpeg.
    import av
    from av.error import PatchWelcomeError

    codec = av.CodecContext.create("jpeg2000", "r")
    codec.thread_count = 1
    try:
        frames = [*codec.decode(av.Packet(data)), *codec.decode(None)]
    except PatchWelcomeError as error:
        raise UnsupportedError(_UNSUPPORTED) from error
    if not frames:
        raise MalformedError("is damaged")
    return frames[0]


def _planes(frame: VideoFrame, count: int, bits: int) -> Iterator[Pixels]:
    """Yield the components; those of one size lie side by side in one plane."""
    kind = np.dtype(np.uint8 if bits <= 8 else "<u2")
    packed = count // len(frame.planes)
    for plane in frame.planes:
        rows = np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height]
        used = np.ascontiguousarray(rows[:, : plane.width * packed * kind.itemsize]).view(kind)
        yield from np.moveaxis(used.reshape(plane.height, plane.width, packed), 2, 0)


def _repeated(plane: Pixels, part: Component, stream: Codestream) -> Pixels:
    """Return a component in the size of the image; samples lie on multiples of their distance."""
    indices: list[np.ndarray] = []
    for start, length, step, samples in (
        (stream.top, stream.height, part.down, plane.shape[0]),
        (stream.left, stream.width, part.across, plane.shape[1]),
    ):
        positions = (start + np.arange(length)) // step - -(-start // step)
        indices.append(positions.clip(0, samples - 1))
    return plane[np.ix_(*indices)]
