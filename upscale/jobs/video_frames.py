"""Frames of a video: from native planes through the network to the planes that an encoder takes.

Only planes travel between the host and a GPU; colours are converted where the network computes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from upscale.errors import MemoryExhaustedError
from upscale.video.encoders import Encoder
from upscale.video.info import Colour, PlaneFormat, VideoFrame, VideoInfo

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from upscale.engine.transfer import Downloaded, Uploaded
    from upscale.engine.yuv import Layout


class TensorUpscaler(Protocol):
    """What frames need of `upscale.Upscaler`."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def run_tensor(self, image: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        """UpscaleFunction (1, C, H, W) to `size` = (width, height); see `Upscaler.run_tensor`."""
        ...

    def resolve_tile(self, width: int, height: int, tile: int | None = None) -> int:
        """Compute all frames with one tile; see `Upscaler.resolve_tile`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LoadedFrame:
    """A frame on its way to the device; one that repeats the frame before has no planes."""

    pts: int
    planes: Uploaded | None


@dataclass(frozen=True, slots=True, eq=False)
class UpscaledFrame:
    """A frame on its way from the device."""

    pts: int
    repeats: bool
    planes: Downloaded

    def frame(self) -> VideoFrame:
        """Wait for the frame, which is of the encoder's size and planes."""
        return VideoFrame(self.pts, tuple(self.planes.arrays()), self.repeats)


class FrameUpscaler:
    """Upscales frames one after another; one that repeats the frame before costs nothing.

    Each frame goes through `load`, `upscale` and `UpscaledFrame.frame`, each of which may have a
    thread of its own.

    A video keeps its own transfer function, so that PQ and HLG reach the network as they are coded.
    What the network cannot see, values beyond black and white, is interpolated and added again.

    Args:
        video: Where the frames come from.
        encoder: What takes them.
        upscaler: The network.

    Attributes:
        computed: How many frames were sent through the network.
    """

    def __init__(self, video: VideoInfo, encoder: Encoder, upscaler: TensorUpscaler) -> None:
        from upscale.engine.transfer import Transfer

        self._source, self._target = video.planes, encoder.planes
        self._layout_in = _layout(video.planes, video.colour)
        self._layout_out = _layout(encoder.planes, encoder.colour)
        self._size = encoder.width, encoder.height
        self._upscaler = upscaler
        self._place = _place_of_colours(upscaler.device)
        self._transfer = Transfer(self._place)
        self._any_loaded = False
        self._last: UpscaledFrame | None = None
        self.computed = 0

    def load(self, frame: VideoFrame) -> LoadedFrame:
        """Start a frame on its way to the device."""
        if frame.repeats and self._any_loaded:
            return LoadedFrame(frame.pts, None)
        self._any_loaded = True
        return LoadedFrame(frame.pts, self._transfer.upload(frame.planes))

    def upscale(self, frame: LoadedFrame) -> UpscaledFrame:
        """Compute a frame, of the same time, and start it on its way back.

        Raises:
            MemoryExhaustedError, CheckpointError: See `Upscaler.run_tensor`.
        """
        from upscale.engine.device import computing_on

        if frame.planes is None:
            assert self._last is not None
            self._last = replace(self._last, pts=frame.pts, repeats=True)
            return self._last
        with computing_on(self._upscaler.device):
            planes = self._transfer.download(self._computed(frame.planes.planes()))
        self.computed += 1
        self._last = UpscaledFrame(frame.pts, False, planes)
        return self._last

    def _computed(self, planes: list[Tensor]) -> list[Tensor]:
        """The planes of an upscaled frame, whose colours go to the host if memory runs out."""
        import torch

        from upscale.tiling.interfaces import is_out_of_memory

        try:
            return self._planes(planes)
        except (RuntimeError, MemoryError, MemoryExhaustedError) as error:
            full = isinstance(error, MemoryExhaustedError) or is_out_of_memory(error)
            if not full or self._place.type == "cpu":
                raise
        # Outside the handler, which keeps the failed tensors alive.
        self._place = torch.device("cpu")
        torch.cuda.empty_cache()
        return self._planes(planes)

    def _planes(self, planes: list[Tensor]) -> list[Tensor]:
        from upscale.engine.yuv import alpha_layout, to_planes, to_rgb

        colours = planes[:-1] if self._source.alpha else planes
        large = self._upscaled(to_rgb(colours, self._layout_in, self._place))
        if self._target.kind != "grey" and large.shape[1] == 1:
            large = large.expand(1, 3, *large.shape[2:])
        result = to_planes(large, self._layout_out)
        if self._target.alpha:
            alpha = to_rgb(planes[-1:], alpha_layout(self._source.depth), self._place)
            result += to_planes(self._upscaled(alpha), alpha_layout(self._target.depth))
        return result

    def _upscaled(self, rgb: Tensor) -> Tensor:
        """Send (1, C, H, W) through the network, and what lies beyond [0, 1] around it."""
        from upscale.engine.yuv import clipped_part, restore_clipped

        rest = clipped_part(rgb)
        return restore_clipped(self._upscaler.run_tensor(rgb.clamp(0, 1), size=self._size), rest)


def _place_of_colours(device: torch.device) -> torch.device:
    """Where colours are converted: on the device itself where that was tried."""
    import torch

    return device if device.type == "cuda" else torch.device("cpu")


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
