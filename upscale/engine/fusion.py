"""`FusedUpscaler`: two networks whose results are mixed where images are dark."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upscale.checkpoints.fusion import Fusion
from upscale.engine.canvas import DEPTHS, as_image
from upscale.engine.choices import Seamless
from upscale.engine.mixing import MixedUpscaler
from upscale.engine.report import ProgressCallback, Result
from upscale.engine.upscaler import Upscaler
from upscale.kernels.verdicts import Record

RAMP = 10.0
"""Levels around gamma over which the weight changes in frames, so that they do not flicker."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma of BT.601."""


class FusedUpscaler:
    """Two upscalers on one device, of which the second is only mixed in for dark images.

    Args:
        relativistic: Network that computes all images.
        standard: Network that is mixed in, of the same scale.
        fusion: Weights for dark images, and the median luma below which an image is dark.
        name: Name for reports.
        ramp: Levels of luma below and above gamma over which the weight rises; 0 for a step. Frames
            are always computed with a ramp.

    Raises:
        ValueError: The scales differ.

    Example:
        >>> import numpy as np
        >>> from upscale.checkpoints.fusion import Fusion
        >>> from upscale.engine.upscaler import Upscaler
        >>> network = Upscaler("realesr-animevideov3", device="cpu")
        >>> fused = FusedUpscaler(network, network, Fusion("a", "b", gamma=128), "fusion.json")
        >>> [fused.upscaler_for(np.full((4, 4), level, np.uint8)).model_name for level in (99, 150)]
        ['realesr-animevideov3 + realesr-animevideov3', 'realesr-animevideov3']
    """

    def __init__(
        self,
        relativistic: Upscaler,
        standard: Upscaler,
        fusion: Fusion,
        name: str,
        ramp: float = 0.0,
    ) -> None:
        if relativistic.model_scale != standard.model_scale:
            raise ValueError("the networks have different scales")
        self._relativistic = relativistic
        self._standard = standard
        self._fusion = fusion
        self._name = name
        self._ramp = ramp

    @property
    def model_name(self) -> str:
        """The name of the fusion."""
        return self._name

    @property
    def model_scale(self) -> int:
        """Output pixels per image pixel and axis before the final resize."""
        return self._relativistic.model_scale

    @property
    def device(self) -> torch.device:
        """The device that computes."""
        return self._relativistic.device

    @property
    def device_name(self) -> str:
        """The device as `--device` spells it."""
        return self._relativistic.device_name

    @property
    def precision_name(self) -> str:
        """The precision as `--precision` spells it."""
        return self._relativistic.precision_name

    @property
    def kernels_name(self) -> str:
        """The implementation of the convolutions of the first network."""
        return self._relativistic.kernels_name

    @property
    def convolutions(self) -> str:
        """The implementations of the convolutions of both networks."""
        both = (self._relativistic.convolutions, self._standard.convolutions)
        return ", ".join(dict.fromkeys(both))

    @property
    def available_kernels(self) -> str:
        """The implementations that may compute the convolutions of both networks."""
        both = (self._relativistic.available_kernels, self._standard.available_kernels)
        return ", ".join(dict.fromkeys(both))

    def for_frames(self) -> FusedUpscaler:
        """Return the same networks with a ramp, for the frames of an animation."""
        return FusedUpscaler(
            self._relativistic, self._standard, self._fusion, self._name, ramp=RAMP
        )

    def upscaler_for(self, image: NDArray[Any]) -> Upscaler | MixedUpscaler:
        """Return the networks for an image, by its median luma.

        Args:
            image: Image of shape (H, W), (H, W, 1) or (H, W, 3), RGB; uint8, uint16, or float32 in
                0..1.

        Raises:
            UsageError: The array is not an image.
        """
        return self._mixed(self._weight(median_luma(as_image(image)), self._ramp))

    def run(
        self,
        array: NDArray[Any],
        *,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        seamless: Seamless = "",
        progress: ProgressCallback | None = None,
    ) -> Result:
        """Upscale an image with one or both networks; see `Upscaler.run`."""
        return self.upscaler_for(array).run(
            array, scale=scale, size=size, seamless=seamless, progress=progress
        )

    def run_tensor(self, image: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        """Upscale a frame with one or both networks; see `Upscaler.run_tensor`.

        The weight rises with the luma on a ramp around gamma, because a step would flicker.
        """
        weight = self._weight(_median_luma_of_tensor(image), RAMP)
        return self._mixed(weight).run_tensor(image, size=size)

    def resolve_tile(self, width: int, height: int, tile: int | None = None) -> int:
        """Pin one automatic tile for both networks; see `Upscaler.resolve_tile`."""
        tile = self._relativistic.resolve_tile(width, height, tile)
        return self._standard.resolve_tile(width, height, tile)

    def resolve_kernels(self, record: Record | None = None) -> Record:
        """Pin the kernels of both networks; see `Upscaler.resolve_kernels`."""
        return self._standard.resolve_kernels(self._relativistic.resolve_kernels(record))

    def _weight(self, luma: float, ramp: float) -> float:
        """Return the weight of the standard network for an image of a median luma."""
        gamma, beta = self._fusion.gamma, self._fusion.beta
        if ramp == 0:
            return beta if luma < gamma else 0.0
        return beta * min(max((gamma + ramp - luma) / (2 * ramp), 0.0), 1.0)

    def _mixed(self, weight: float) -> Upscaler | MixedUpscaler:
        if weight in (0, 1):
            return self._standard if weight else self._relativistic
        return MixedUpscaler([(self._relativistic, 1 - weight), (self._standard, weight)])


def median_luma(image: NDArray[Any]) -> float:
    """Return the median luma of an (H, W, 1) or (H, W, 3) image, in levels of 0..255."""
    highest = DEPTHS[image.dtype]
    if image.shape[2] == 1:
        return float(np.median(image)) * 255 / highest
    weights = np.array(LUMA, np.float32)
    luma = np.empty(image.shape[:2], np.float32)
    for row, target in zip(image, luma, strict=True):
        np.dot(row.astype(np.float32), weights, out=target)
    return float(np.median(luma, overwrite_input=True)) * 255 / highest


def _median_luma_of_tensor(image: Tensor) -> float:
    """Return the median luma of a (1, C, H, W) image in 0..1, in levels of 0..255."""
    weights = LUMA if image.shape[1] == 3 else (1.0,)
    channels = zip(image[0].unbind(), weights, strict=True)
    luma = sum(channel * weight for channel, weight in channels)
    return float(cast(Tensor, luma).median()) * 255
