"""Frames of a film: from native planes through the network to the planes that an encoder takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from upscale.jobs.image import PictureUpscaler
from upscale.video.encoding import Encoder
from upscale.video.film import Colour, Film, PlaneFormat, VideoFrame

if TYPE_CHECKING:
    import torch

    from upscale.engine.yuv import Layout


class FrameEnlarger:
    """Enlarges frames one after another; one that repeats the frame before costs nothing.

    A film keeps its own transfer function, so that PQ and HLG reach the network as they are coded.
    What the network cannot see, values beyond black and white, is interpolated and added again.

    Args:
        film: Where the frames come from.
        encoder: What takes them.
        upscaler: The network.
    """

    def __init__(self, film: Film, encoder: Encoder, upscaler: PictureUpscaler) -> None:
        self._source, self._target = film.planes, encoder.planes
        self._layout_in = _layout(film.planes, film.colour)
        self._layout_out = _layout(encoder.planes, encoder.colour)
        self._size = encoder.width, encoder.height
        self._upscaler = upscaler
        self._last: VideoFrame | None = None
        self.computed = 0

    def enlarge(self, frame: VideoFrame) -> VideoFrame:
        """Return a frame of the encoder's size and planes, of the same time."""
        if frame.repeats and self._last is not None:
            self._last = replace(self._last, pts=frame.pts, repeats=True)
            return self._last
        import torch

        with torch.inference_mode():
            planes = self._planes(frame)
        self.computed += 1
        self._last = VideoFrame(frame.pts, tuple(planes))
        return self._last

    def _planes(self, frame: VideoFrame) -> list[np.ndarray]:
        from upscale.engine.yuv import from_rgb, opacity, to_rgb

        colours = frame.planes[:-1] if self._source.alpha else frame.planes
        large = self._enlarged(to_rgb(colours, self._layout_in))
        if self._target.kind != "grey" and large.shape[1] == 1:
            large = large.expand(1, 3, *large.shape[2:])
        planes = from_rgb(large, self._layout_out)
        if self._target.alpha:
            alpha = to_rgb(frame.planes[-1:], opacity(self._source.depth))
            planes += from_rgb(self._enlarged(alpha), opacity(self._target.depth))
        return planes

    def _enlarged(self, rgb: torch.Tensor) -> torch.Tensor:
        """Send (1, C, H, W) through the network, and what lies beyond [0, 1] around it."""
        import torch

        from upscale.engine.yuv import beyond, restore

        rest = beyond(rgb)
        seen = rgb[0].clamp(0, 1).permute(1, 2, 0).contiguous().numpy()
        # A last resize overshoots at edges, which is no part of the film's headroom.
        large = torch.from_numpy(self._upscaler.run(seen, size=self._size).pixels).clamp(0, 1)
        return restore(large.permute(2, 0, 1)[None].contiguous(), rest)


def _layout(planes: PlaneFormat, colour: Colour) -> Layout:
    from upscale.engine.yuv import Layout

    return Layout(
        depth=planes.depth,
        chroma_across=planes.chroma_across,
        chroma_down=planes.chroma_down,
        kind=planes.kind,
        matrix=colour.matrix,
        full_range=colour.full_range,
        chroma_location=colour.chroma_location,
    )
