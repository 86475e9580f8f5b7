"""Degradation chains: those of Real-ESRGAN and ESRGAN, and a generic one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi

import numpy as np

from upscale.errors import UsageError
from upscale_training.degradation.chain import has_official_operations
from upscale_training.degradation.operations import (
    Degradation,
    Jpeg,
    Mode,
    Operation,
    PoissonNoise,
    Resize,
    check_official,
)
from upscale_training.degradation.randomness import NumpyRandomness, Randomness
from upscale_training.degradation.steps import (
    BlurStep,
    EitherOrder,
    Families,
    JpegStep,
    NoiseStep,
    ResizeStep,
    Step,
    check_order,
)


@dataclass(frozen=True, slots=True)
class DegradationSettings:
    """A chain that degradations are sampled from.

    Attributes:
        steps: Steps in order; the last resize must give the size of the result.
        scale: Number that the sides of an image are divided by, at least 1.
        mode: `corrected` samples everything for each image. `official` samples once per batch what
            basicsr samples once per batch (sizes, filters, kinds of noise, skipped steps, orders),
            and applies operations with basicsr's faults.
        strength: Factor of noise and of the losses of compression, above 0; 1 in the official mode.

    Raises:
        UsageError: The chain does not give the size of the result, or needs an operation or a
            strength that the mode lacks.

    Example:
        >>> from upscale_training.degradation.steps import JpegStep, ResizeStep
        >>> to_result = ResizeStep(up=0, down=0, keep=1, of="result")
        >>> DegradationSettings((to_result, JpegStep()), scale=2).mode
        'corrected'
    """

    steps: tuple[Step, ...]
    scale: int = 4
    mode: Mode = "corrected"
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.scale < 1:
            raise UsageError(f"scale is at least 1, not {self.scale}")
        last = _last_resizes(self.steps)
        exact = all(step.of == "result" and step.up == step.down == 0 for step in last)
        if not exact or (self.scale > 1 and not last):
            raise UsageError("the last resize of a degradation must keep the size of the result")
        check_order(self.steps)
        if self.mode == "official":
            if self.strength != 1:
                raise UsageError("basicsr cannot change the strength: use mode corrected")
            for operation in _critical_operations(self.steps):
                check_official(operation)

    def prepare(self) -> None:
        """Check what the steps need besides their settings, such as the files of pools.

        Raises:
            TrainingError: A step cannot be used.
        """
        for step in self.steps:
            step.prepare()


def sample(
    settings: DegradationSettings, count: int, generator: np.random.Generator
) -> tuple[Degradation, ...]:
    """Sample a degradation for each image of a batch.

    Args:
        settings: Chain to sample from.
        count: Number of images.
        generator: Source of all random numbers, including the seeds of noise.

    Example:
        >>> import numpy as np
        >>> first, second = sample(real_esrgan(scale=4), 2, np.random.default_rng(0))
        >>> print(first)
        sinc 11 0.88 pi
        keep size
        poisson 2.81
        jpeg 86
        blur plateau iso 19 0.9 beta 1.0
        to 1.02 of result bicubic
        poisson 0.99
        jpeg 72
        to result bicubic
        sinc 13 0.68 pi
    """
    seed = int(generator.integers(1 << 63))
    own = NumpyRandomness(generator)
    degradations: list[Degradation] = []
    for _ in range(count):
        shared: Randomness = own
        if settings.mode == "official":  # the same decisions for each image
            shared = NumpyRandomness(np.random.default_rng(seed))
        operations = (
            each for step in settings.steps for each in step.sample(own, shared, settings.scale)
        )
        if settings.strength != 1:
            operations = (each.stronger(settings.strength) for each in operations)
        degradations.append(Degradation(tuple(operations), settings.mode))
    return tuple(degradations)


def real_esrgan(scale: int = 4, mode: Mode = "corrected") -> DegradationSettings:
    """Return the second-order chain of Real-ESRGAN (arXiv 2107.10833, section 3.2 and figure 2).

    The ranges are those of section 4.1.

    Args:
        scale: Number that the sides of an image are divided by.
        mode: Mode of the settings.

    Example:
        >>> len(real_esrgan(scale=4).steps)
        8
    """
    resize_back = ResizeStep(up=0, down=0, keep=1, of="result")
    final_sinc = BlurStep(probability=0.8, sinc=1, large_cutoff=(pi / 3, pi), skip_together=False)
    return DegradationSettings(
        steps=(
            BlurStep(),
            ResizeStep(),
            NoiseStep(),
            JpegStep(),
            BlurStep(probability=0.8, sigma=(0.2, 1.5)),
            ResizeStep(up=0.3, down=0.4, keep=0.3, factors=(0.3, 1.2), of="result"),
            NoiseStep(sigma=(1, 25), scale=(0.05, 2.5)),
            EitherOrder(one=(resize_back, final_sinc), other=(JpegStep(),)),
        ),
        scale=scale,
        mode=mode,
    )


def classical(scale: int = 4) -> DegradationSettings:
    """Return bicubic downscaling alone, as in MATLAB (ESRGAN, arXiv 1809.00219, section 4.1).

    Args:
        scale: Number that the sides of an image are divided by.

    Example:
        >>> import numpy as np
        >>> print(sample(classical(2), 1, np.random.default_rng(0))[0])
        to result bicubic
    """
    only = ResizeStep(up=0, down=0, keep=1, kinds=("bicubic",), of="result")
    return DegradationSettings(steps=(only,), scale=scale)


def generic(scale: int = 4) -> DegradationSettings:
    """Return the generic chain of Samsung's entry to NTIRE 2020 (arXiv 2005.01996).

    It consists of Gaussian blur, downscaling by any filter, and Gaussian, Poisson or both noises.

    Args:
        scale: Number that the sides of an image are divided by.

    Example:
        >>> len(generic(scale=4).steps)
        3
    """
    kinds = ("nearest", "bilinear", "bicubic", "lanczos")
    return DegradationSettings(
        steps=(
            BlurStep(sinc=0, families=Families(1, 0, 0, 0, 0, 0), sizes=(15, 15), sigma=(0.2, 3)),
            ResizeStep(up=0, down=0, keep=1, kinds=kinds, of="result"),
            NoiseStep(1, 1, 1, sigma=(0, 5), scale=(1, 1), peak=(50, 150), grey=0),
        ),
        scale=scale,
    )


def _last_resizes(steps: tuple[Step, ...]) -> list[ResizeStep]:
    """Return the resizes that can come last; none if no step resizes."""
    for step in reversed(steps):
        if isinstance(step, ResizeStep):
            return [step]
        if isinstance(step, EitherOrder):
            one, other = _last_resizes(step.one), _last_resizes(step.other)
            if one or other:
                return one + other
    return []


def _critical_operations(steps: tuple[Step, ...]) -> Iterator[Operation]:
    """Yield an example of each operation of the steps that the official mode may lack."""
    for step in steps:
        if not has_official_operations(type(step)):
            raise UsageError(f"basicsr cannot do {step.do}: use mode corrected")
        if isinstance(step, EitherOrder):
            yield from _critical_operations(step.one + step.other)
        elif isinstance(step, ResizeStep):
            yield from (Resize(kind, 1) for kind in step.kinds)
        elif isinstance(step, NoiseStep) and step.peak:
            yield PoissonNoise(1, False, 0, step.peak[0])
        elif isinstance(step, JpegStep):
            yield Jpeg(step.quality[0])
