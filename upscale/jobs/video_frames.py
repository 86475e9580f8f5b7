"""Upscale video frames, from the planes of a source to the planes of an encoder.

Only planes are transferred between the host and a GPU; colours are converted on the device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from upscale.video.info import FrameFormat, VideoFrame

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from upscale.engine.transfer import Downloaded, Uploaded
    from upscale.engine.yuv import Layout
    from upscale.faces.enhancer import FaceEnhancer
    from upscale.jobs.video_faces import VideoFaces
    from upscale.video.motion import Motion, MotionEstimator


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

    def resolve_kernels(self, record: dict[str, Any] | None = None) -> dict[str, Any]:
        """Choose the kernels for all frames; see `Upscaler.resolve_kernels`."""
        ...


@dataclass(frozen=True, slots=True)
class FrameOptions:
    """What is done with the results of the network.

    Attributes:
        keep_colour: Whether frames get the colours of their sources.
        steady: Strength of the blend with the previous frame, 0..1.
        faces: How faces are restored; None if they are not.
    """

    keep_colour: bool = False
    steady: float = 0.0
    faces: VideoFaces | None = None


PLAIN = FrameOptions()


@dataclass(frozen=True, slots=True, eq=False)
class LoadedFrame:
    """A frame on its way to the device.

    Attributes:
        pts: Presentation time in units of the video's time base.
        planes: Planes of the frame; None if it repeats the previous frame.
        motion: Motion since the previous frame; None if they are not blended.
    """

    pts: int
    planes: Uploaded | None
    motion: Motion | None = None


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

    For steady frames, the result of the network is blended with that for the frame before, moved
    along. Blended frames are not blended again, so that each frame depends on one other frame only.

    Args:
        source: Format of the source frames.
        target: Format of the upscaled frames.
        upscaler: Network.
        options: Options for the frames.

    Attributes:
        computed: Number of frames that the network has computed.
    """

    def __init__(
        self,
        source: FrameFormat,
        target: FrameFormat,
        upscaler: TensorUpscaler,
        options: FrameOptions = PLAIN,
    ) -> None:
        from upscale.engine.transfer import Transfer
        from upscale.video.motion import MotionEstimator

        self._source, self._target = source.planes, target.planes
        self._layout_in, self._layout_out = _layout(source), _layout(target)
        self._size = target.width, target.height
        self._upscaler = upscaler
        self._colour_device = _colour_device(upscaler.device)
        self._transfer = Transfer(self._colour_device)
        self._options = options
        self._estimator: MotionEstimator | None = None
        if options.steady:
            self._estimator = MotionEstimator(source.planes)
        self._enhancer: FaceEnhancer | None = None
        if options.faces is not None:
            self._enhancer = options.faces.make(str(upscaler.device))
        self._loaded: int | None = None
        self._last: UpscaledFrame | None = None
        self._before: list[Tensor] = []
        self.computed = 0

    def load(self, frame: VideoFrame, after: int | None = None) -> LoadedFrame:
        """Start the transfer of a frame to the device.

        Args:
            frame: Frame to load.
            after: Time of the frame that it may be blended with, if that has just been loaded.
        """
        before, self._loaded = self._loaded, frame.pts
        if frame.repeats and before is not None:
            return LoadedFrame(frame.pts, None)
        motion = None
        if self._estimator is not None:
            is_consecutive = before is not None and before == after
            motion = self._estimator.next(frame.planes, is_consecutive=is_consecutive)
        return LoadedFrame(frame.pts, self._transfer.upload(frame.planes), motion)

    def upscale(self, frame: LoadedFrame) -> UpscaledFrame:
        """Compute a frame, and start its transfer to the host.

        Raises:
            MemoryExhaustedError: The device has not enough memory even for the smallest tiles.
        """
        from upscale.engine.device import computing_on
        from upscale.engine.memory import release_cached_memory
        from upscale.tiling.recovery import with_less_memory

        if frame.planes is None:
            assert self._last is not None
            self._last = replace(self._last, pts=frame.pts, repeats=True)
            return self._last
        with computing_on(self._upscaler.device):
            large = self._compute(frame)
            planes = with_less_memory(lambda: self._transfer.download(large), release_cached_memory)
        self.computed += 1
        self._last = UpscaledFrame(frame.pts, False, planes)
        return self._last

    def _compute(self, frame: LoadedFrame) -> list[Tensor]:
        """Upscale planes; if memory runs out, convert colours on the host."""
        from upscale.tiling.recovery import with_less_memory

        assert frame.planes is not None
        planes = frame.planes.planes()
        large, results = with_less_memory(
            lambda: self._upscale_planes(planes, frame.motion, frame.pts), self._convert_on_the_host
        )
        self._before = results
        return large

    def _convert_on_the_host(self) -> None:
        """Free the memory of the device for the network."""
        import torch

        from upscale.engine.memory import release_cached_memory

        self._colour_device = torch.device("cpu")
        self._before = [large.cpu() for large in self._before]
        release_cached_memory()

    def _upscale_planes(
        self, planes: list[Tensor], motion: Motion | None, pts: int
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return upscaled planes, and the results of the network to blend the next frame with."""
        from upscale.engine.yuv import (
            alpha_layout,
            clipped_part,
            restore_clipped,
            to_planes,
            to_rgb,
        )

        colours = planes[:-1] if self._source.alpha else planes
        sources = [to_rgb(colours, self._layout_in, self._colour_device)]
        layouts = [self._layout_out]
        if self._target.alpha:
            sources.append(
                to_rgb(planes[-1:], alpha_layout(self._source.depth), self._colour_device)
            )
            layouts.append(alpha_layout(self._target.depth))
        larges = [self._upscaled(sources[0], keep_colour=self._options.keep_colour)]
        larges[0] = self._with_faces(larges[0], sources[0], pts)
        larges += [self._upscaled(alpha) for alpha in sources[1:]]
        result: list[Tensor] = []
        steadied = self._steadied(larges, motion)
        for source, steady, layout in zip(sources, steadied, layouts, strict=True):
            large = restore_clipped(steady, clipped_part(source))
            is_spread = layout.kind != "grey" and large.shape[1] == 1
            result += to_planes(
                large.expand(1, 3, *large.shape[2:]) if is_spread else large, layout
            )
        return result, larges if self._options.steady else []

    def _upscaled(self, source: Tensor, *, keep_colour: bool = False) -> Tensor:
        """Upscale (1, C, H, W) with the network, which gets values in 0..1."""
        from upscale.engine.colour_correction import keep_colour_tensor

        source = source.clamp(0, 1)
        large = self._upscaler.run_tensor(source, size=self._size)
        return keep_colour_tensor(large, source) if keep_colour else large

    def _with_faces(self, large: Tensor, source: Tensor, pts: int) -> Tensor:
        """Restore the faces of an upscaled frame, (1, C, H, W)."""
        if self._enhancer is None or self._options.faces is None:
            return large
        import torch

        small, image = (
            each[0].permute(1, 2, 0).clamp(0, 1).cpu().numpy().copy() for each in (source, large)
        )
        tracked = self._options.faces.tracked
        faces = None if tracked is None else tracked.get(pts, ())
        self._enhancer.apply(image, small, faces)
        return torch.from_numpy(image).permute(2, 0, 1)[None].to(large.device)

    def _steadied(self, larges: list[Tensor], motion: Motion | None) -> list[Tensor]:
        """Blend results of the network with the previous ones."""
        import torch

        from upscale.engine.steady import blend

        if not self._options.steady:
            return larges
        if motion is None:
            return [large.clone() for large in larges]  # the results must not change any more
        flow, trust = (
            torch.from_numpy(each).to(self._colour_device)
            for each in (motion.flow.transpose(2, 0, 1)[None].copy(), motion.trust[None, None])
        )
        return [
            blend(large, earlier.to(large.device), flow, trust, self._options.steady)
            for large, earlier in zip(larges, self._before, strict=True)
        ]


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
