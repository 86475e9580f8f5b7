"""WebP compression, by libwebp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from typing import Annotated, ClassVar, Literal

import imagecodecs
import numpy as np
from pydantic import Field
from torch import Tensor

from upscale_training.codecs.levels import Levels, each_coded
from upscale_training.degradation.operations import Operation
from upscale_training.degradation.randomness import Randomness
from upscale_training.degradation.steps import Step
from upscale_training.schema import Probability, Range, rising, settings


@settings
class WebP(Operation):
    """WebP compression.

    Attributes:
        quality: Quality as in libwebp, 0 to 100.
    """

    do: ClassVar[str] = "webp"
    quality: Annotated[float, Field(ge=0, le=100)]

    def stronger(self, factor: float) -> WebP:
        """Return a compression whose distance from quality 100 is multiplied by a factor."""
        return replace(self, quality=max(100 - (100 - self.quality) * factor, 0))

    def __str__(self) -> str:
        return f"webp {self.quality:.0f}"


@settings
class WebPStep(Step):
    """WebP compression.

    Attributes:
        do: Selects this step.
        quality: Quality as in libwebp, 0 to 100.
        probability: Probability of any compression.
    """

    do: Literal["webp"] = field(default="webp", kw_only=True, repr=False)
    quality: Annotated[Range, rising(0, 100)] = (30.0, 95.0)
    probability: Probability = 1.0

    def sample(self, own: Randomness, shared: Randomness, scale: int) -> tuple[Operation, ...]:
        """Sample one compression, or none."""
        if not shared.chance(self.probability):
            return ()
        return (WebP(own.uniform(*self.quality)),)


def compress_webp(images: Tensor, operations: Sequence[WebP]) -> Tensor:
    """Compress and decompress each image of (N, 3, H, W) at its own quality."""
    return each_coded(images, operations, _coded)


def _coded(image: Levels, operation: WebP) -> Levels:
    data = imagecodecs.webp_encode(image, level=round(operation.quality), lossless=False)
    return np.asarray(imagecodecs.webp_decode(data, hasalpha=False))
