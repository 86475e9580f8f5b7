"""Upscale video frames, from the planes of a source to the planes of an encoder.

Only planes are transferred between the host and a GPU; colours are converted on the device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from upscale.errors import MemoryExhaustedError
from upscale.video.info import FrameFormat, VideoFrame

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from upscale.engine.transfer import Downloaded, Uploaded
    from upscale.engine.yuv import Layout


class TensorUpscaler(Protocol):
    """The part of `upscale.Upscaler` that videos use."""

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        ...

    def run_tensor(self, image: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        """Upscale a (1, C, H, W) tensor to `size` = (width, height); see `Upscaler.run_tensor`."""
        ...

    def resolve_tile(self, width: int, height: int, tile: int | None = None) -> int:
        """Choose one tile size for all frames; see `Upscaler.resolve_tile`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LoadedFrame:
    """A frame on its way to the device.

    Attributes:
        pts: Presentation time in units of the video's time base.
        planes: Planes of the frame; None if it repeats the previous frame.
    """

    pts: int
    planes: Uploaded | None


@dataclass(frozen=True, slots=True, eq=False)
class UpscaledFrame:
    """An upscaled frame on its way from the device.

    Attributes:
        pts: Presentation time in units of the video's time base.
        repeats: True if it equals the previous frame.
        planes: Planes of the frame.
    """

    pts: int
    repeats: bool
    planes: Downloaded

    def frame(self) -> VideoFrame:
        """Wait for the transfer, and return the frame in the target format."""
        return VideoFrame(self.pts, tuple(self.planes.arrays()), self.repeats)


class FrameUpscaler:
    """Upscale the frames of a video in order; repeated frames are not computed again.

    Each frame passes through `load`, `upscale` and `UpscaledFrame.frame`, each of which may run in
    a thread of its own.

    The transfer function is kept, so the network gets PQ and HLG videos as they are encoded. Values
    below black and above white, which the network does not support, are interpolated and added to
    its output.

    Args:
        source: Format of the source frames.
        target: Format of the upscaled frames.
        upscaler: Network.

    Attributes:
        computed: Number of frames that the network has computed.
    """

    def __init__(self, source: FrameFormat, target: FrameFormat, upscaler: TensorUpscaler) -> None:
        from upscale.engine.transfer import Transfer

        self._source, self._target = source.planes, target.planes
        self._layout_in, self._layout_out = _layout(source), _layout(target)
        self._size = target.width, target.height
        self._upscaler = upscaler
        self._colour_device = _colour_device(upscaler.device)
        self._transfer = Transfer(self._colour_device)
        self._has_loaded = False
        self._last: UpscaledFrame | None = None
        self.computed = 0

    def load(self, frame: VideoFrame) -> LoadedFrame:
        """Start the transfer of a frame to the device."""
        if frame.repeats and self._has_loaded:
            return LoadedFrame(frame.pts, None)
        self._has_loaded = True
        return LoadedFrame(frame.pts, self._transfer.upload(frame.planes))

    def upscale(self, frame: LoadedFrame) -> UpscaledFrame:
        """Compute a frame, and start its transfer to the host.

        Raises:
            MemoryExhaustedError: The device has not enough memory even for the smallest tiles.
        """
        from upscale.engine.device import computing_on

        if frame.planes is None:
            assert self._last is not None
            self._last = replace(self._last, pts=frame.pts, repeats=True)
            return self._last
        with computing_on(self._upscaler.device):
            planes = self._transfer.download(self._compute(frame.planes.planes()))
        self.computed += 1
        self._last = UpscaledFrame(frame.pts, False, planes)
        return self._last

    def _compute(self, planes: list[Tensor]) -> list[Tensor]:
        """Upscale planes; if the device runs out of memory, convert colours on the host."""
        import torch

        from upscale.tiling.interfaces import is_out_of_memory

        try:
            return self._upscale_planes(planes)
        except (RuntimeError, MemoryError, MemoryExhaustedError) as error:
            is_full = isinstance(error, MemoryExhaustedError) or is_out_of_memory(error)
            if not is_full or self._colour_device.type == "cpu":
                raise
        # Not in the handler, because the exception keeps the failed tensors alive.
        self._colour_device = torch.device("cpu")
        torch.cuda.empty_cache()
        return self._upscale_planes(planes)

    def _upscale_planes(self, planes: list[Tensor]) -> list[Tensor]:
        from upscale.engine.yuv import alpha_layout, to_planes, to_rgb

        colours = planes[:-1] if self._source.alpha else planes
        large = self._upscale_rgb(to_rgb(colours, self._layout_in, self._colour_device))
        if self._target.kind != "grey" and large.shape[1] == 1:
            large = large.expand(1, 3, *large.shape[2:])
        result = to_planes(large, self._layout_out)
        if self._target.alpha:
            alpha = to_rgb(planes[-1:], alpha_layout(self._source.depth), self._colour_device)
            result += to_planes(self._upscale_rgb(alpha), alpha_layout(self._target.depth))
        return result

    def _upscale_rgb(self, rgb: Tensor) -> Tensor:
        """Upscale (1, C, H, W) with the network, and interpolate what is outside [0, 1]."""
        from upscale.engine.yuv import clipped_part, restore_clipped

        rest = clipped_part(rgb)
        return restore_clipped(self._upscaler.run_tensor(rgb.clamp(0, 1), size=self._size), rest)


def _colour_device(device: torch.device) -> torch.device:
    """Return the device for colour conversion; only CUDA is tested."""
    import torch

    return device if device.type == "cuda" else torch.device("cpu")


def _layout(frames: FrameFormat) -> Layout:
    from upscale.engine.yuv import Layout

    return Layout(
        depth=frames.planes.depth,
        chroma_across=frames.planes.chroma_across,
        chroma_down=frames.planes.chroma_down,
        kind=frames.planes.kind,
        matrix=frames.colour.matrix,
        full_range=frames.colour.full_range,
        chroma_location=frames.colour.chroma_location,
    )
