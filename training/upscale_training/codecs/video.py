"""Compression of a video: the image is a frame that H.264 predicts from the one before it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import field, replace
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

import av
import numpy as np
from pydantic import Field, NonNegativeInt
from torch import Tensor

from upscale.errors import TrainingError
from upscale_training.codecs.levels import Levels, each_coded
from upscale_training.degradation.operations import Operation
from upscale_training.degradation.randomness import Randomness
from upscale_training.degradation.steps import Step
from upscale_training.schema import Probability, Range, rising, settings

CODEC = "libx264"
OPTIONS = {"preset": "veryfast", "bf": "0", "threads": "1", "g": "250", "sc_threshold": "0"}
"""Options of x264: no frames that are predicted from later ones; one thread, so that the result
does not depend on the machine; no key frame for a change of scene."""

MAX_SHIFT = 64

Shift = Annotated[int, Field(ge=-MAX_SHIFT, le=MAX_SHIFT)]


@settings
class VideoCompression(Operation):
    """H.264 compression of a frame whose predecessor is the same image, moved.

    Attributes:
        crf: Constant rate factor of x264, 0 to 51; higher is worse.
        rows: Rows that the image has moved by since the frame before.
        columns: Columns that the image has moved by.
    """

    do: ClassVar[str] = "video"
    crf: Annotated[float, Field(ge=0, le=51)]
    rows: Shift = 0
    columns: Shift = 0

    def stronger(self, factor: float) -> VideoCompression:
        """Return a compression with `crf` multiplied by a factor."""
        return replace(self, crf=min(self.crf * factor, 51))

    def __str__(self) -> str:
        return f"h264 crf {self.crf:.0f}"


@settings
class VideoStep(Step):
    """H.264 compression, as of a video whose camera moves.

    Attributes:
        do: Selects this step.
        crf: Constant rate factor of x264, 0 to 51; higher is worse.
        motion: Largest number of rows and of columns that the image moves by between two frames.
        probability: Probability of any compression.
    """

    do: Literal["video"] = field(default="video", kw_only=True, repr=False)
    crf: Annotated[Range, rising(0, 51)] = (18.0, 35.0)
    motion: Annotated[NonNegativeInt, Field(le=MAX_SHIFT)] = 4
    probability: Probability = 1.0

    def prepare(self) -> None:
        """Check that the encoder is there."""
        if CODEC not in av.codecs_available:
            raise TrainingError(
                f"the step video needs {CODEC}, which this PyAV lacks; run: "
                "pip install --force-reinstall --no-deps av"
            )

    def sample(self, own: Randomness, shared: Randomness, scale: int) -> tuple[Operation, ...]:
        """Sample one compression, or none."""
        if not shared.chance(self.probability):
            return ()
        crf = own.uniform(*self.crf)
        steps = range(-self.motion, self.motion + 1)
        return (VideoCompression(crf, own.pick(steps), own.pick(steps)),)


def compress_video(images: Tensor, operations: Sequence[VideoCompression]) -> Tensor:
    """Compress and decompress each image of (N, 3, H, W) as the second frame of a video."""
    return each_coded(images, operations, _coded)


def _coded(image: Levels, operation: VideoCompression) -> Levels:
    edges = [(abs(shift), abs(shift)) for shift in (operation.rows, operation.columns)]
    padded = np.pad(image, [*edges, (0, 0)], mode="symmetric")
    top, left = (abs(shift) + shift for shift in (operation.rows, operation.columns))
    before = padded[top : top + image.shape[0], left : left + image.shape[1]]
    data = _encoded([np.ascontiguousarray(before), image], operation.crf)
    return _decoded(data)[-1]


def _encoded(frames: Sequence[Levels], crf: float) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="h264") as container:
        stream: Any = container.add_stream(CODEC, rate=25, options={**OPTIONS, "crf": f"{crf:.2f}"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def _decoded(data: bytes) -> list[Levels]:
    with av.open(io.BytesIO(data), "r", format="h264") as container:
        return [
            np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            for frame in container.decode(video=0)
        ]
