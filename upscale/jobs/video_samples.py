"""Single frames of a video as RGB arrays: for previews, and for the choice of networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from upscale.images.image import Pixels
from upscale.images.metadata.cicp import named
from upscale.images.pixels.colour import is_grey
from upscale.jobs.auto import middle, spread
from upscale.jobs.video_frames import FrameUpscaler
from upscale.video.info import UNSPECIFIED, Colour, FrameFormat, VideoFrame, VideoInfo
from upscale.video.planes import plane_format
from upscale.video.reader import read_frames

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from upscale.selection import Sample

_SRGB = 13
_SDR_TRANSFERS = (1, 2, 6, 7, 11, 12, 13, 14, 15)
"""Transfer functions (H.273) of videos that displays show like sRGB."""

_BT2020 = 9


class Unchanged:
    """An upscaler that returns frames unchanged."""

    @property
    def device(self) -> torch.device:
        """The CPU."""
        import torch

        return torch.device("cpu")

    def resolve_tile(self, width: int, height: int, tile: int | None = None) -> int:
        """Return 0, because nothing is tiled."""
        del width, height, tile
        return 0

    def resolve_kernels(self, record: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the record unchanged, because no kernel is used."""
        return record or {}

    def run_tensor(self, image: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        """Return the image, which has that size already."""
        del size
        return image


def video_samples(video: VideoInfo, *, deinterlace: bool = False) -> list[Sample]:
    """Return some frames, spread over a video, as a network gets them.

    Args:
        video: Video to read; frames that cannot be decoded are left out.
        deinterlace: Make a full frame from the two fields of each frame first.

    Raises:
        VideoError: The video cannot be read.
    """
    frames = (frame_at(video, time, deinterlace=deinterlace) for time in spread(video.frame_times))
    return samples_of_frames(video, (frame for frame in frames if frame is not None))


def samples_of_frames(video: VideoInfo, frames: Iterable[VideoFrame]) -> list[Sample]:
    """Return frames of a video as a network gets them.

    Args:
        video: Video with the format of the frames.
        frames: Some of its frames.
    """
    from upscale.selection import Sample

    size = video.width, video.height
    unchanged = FrameUpscaler(video.frame_format, rgb_format(video, size), Unchanged())
    samples: list[Sample] = []
    for frame in frames:
        new = replace(frame, repeats=False)
        pixels = rgb_pixels(unchanged, new)[middle(video.height), middle(video.width)]
        samples.append(Sample(pixels[..., :1] if is_grey(pixels) else pixels))
    return samples


def frame_at(video: VideoInfo, time: int, *, deinterlace: bool = False) -> VideoFrame | None:
    """Return the frame at a time, or the next one that can be decoded; None if there is none."""
    frames: Iterator[VideoFrame] = iter(read_frames(video, start_pts=time, deinterlace=deinterlace))
    frame = next(frames, None)
    return None if frame is None else replace(frame, repeats=False)


def rgb_format(video: VideoInfo, size: tuple[int, int]) -> FrameFormat:
    """Return the RGB format of frames of a video, with 8 or 16 bits."""
    is_deep = video.planes.depth > 8 or video.colour.is_hdr
    colour = replace(video.colour, matrix="rgb", full_range=True, chroma_location=0)
    return FrameFormat(*size, plane_format("gbrp16le" if is_deep else "gbrp"), colour)


def rgb_pixels(upscaler: FrameUpscaler, frame: VideoFrame) -> Pixels:
    """Upscale a frame to an RGB array of shape (H, W, 3), uint8 or uint16, as stored."""
    return np.dstack(upscaler.upscale(upscaler.load(frame)).frame().planes)


def oriented(pixels: Pixels, matrix: Sequence[int] | None) -> Pixels:
    """Apply a display matrix: rotation by multiples of 90 degrees, and mirroring.

    Args:
        pixels: Array of shape (H, W, C).
        matrix: Display matrix of a video; None for none.
    """
    if matrix is None:
        return pixels
    across, down = matrix[0], matrix[4]
    if abs(matrix[1]) > abs(matrix[0]):
        pixels = pixels.swapaxes(0, 1)
        across, down = matrix[3], matrix[1]
    return pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def colour_tags(colour: Colour) -> tuple[int, int] | None:
    """Return the primaries and transfer function of frames as images; None for sRGB."""
    primaries = colour.primaries
    if primaries == UNSPECIFIED and colour.matrix == "bt2020":
        primaries = _BT2020
    return named(primaries, _SRGB if colour.transfer in _SDR_TRANSFERS else colour.transfer)
