"""Whole chains: the paper's, the classical one, and a generic one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi

import numpy as np

from upscale.errors import UsageError
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
)


@dataclass(frozen=True, slots=True)
class DegradationSettings:
    """What degradations are drawn from.

    Attributes:
        steps: in order; the last resize must give the size of the result.
        scale: what the sides of an image are divided by.
        mode: `corrected` draws everything for each image; `official` draws what basicsr draws
            once a batch (sizes, filters, kinds of noise, what is skipped, orders) once a batch,
            and carries operations out with basicsr's faults.
    """

    steps: tuple[Step, ...]
    scale: int = 4
    mode: Mode = "corrected"

    def __post_init__(self) -> None:
        if self.scale < 1:
            raise UsageError(f"scale is at least 1, not {self.scale}")
        last = _last_resizes(self.steps)
        exact = all(step.of == "result" and step.up == step.down == 0 for step in last)
        if not exact or (self.scale > 1 and not last):
            raise UsageError("the last resize of a degradation must keep the size of the result")
        if self.mode == "official":
            for operation in _telling(self.steps):
                check_official(operation)


def draw(
    settings: DegradationSettings, count: int, generator: np.random.Generator
) -> tuple[Degradation, ...]:
    """Draw what happens to each image of a batch.

    Args:
        settings: what is drawn from.
        count: of the images.
        generator: where all draws come from, the seeds of noises too.
    """
    seed = int(generator.integers(1 << 63))
    own = NumpyRandomness(generator)
    found: list[Degradation] = []
    for _ in range(count):
        shared: Randomness = own
        if settings.mode == "official":  # the same decisions for each image
            shared = NumpyRandomness(np.random.default_rng(seed))
        drawn = (each for step in settings.steps for each in step.draw(own, shared, settings.scale))
        found.append(Degradation(tuple(drawn), settings.mode))
    return tuple(found)


def real_esrgan(scale: int = 4, mode: Mode = "corrected") -> DegradationSettings:
    """The second-order process of Real-ESRGAN (section 3.2 and figure 2; ranges of section 4.1)."""
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
    """Bicubic shrinking alone, the same as MATLAB's (ESRGAN, section 4.1)."""
    only = ResizeStep(up=0, down=0, keep=1, kinds=("bicubic",), of="result")
    return DegradationSettings(steps=(only,), scale=scale)


def generic(scale: int = 4) -> DegradationSettings:
    """The generic chain of Samsung's entry to NTIRE 2020 (arXiv 2005.01996).

    Gaussian blur, shrinking by any filter, and Gaussian, Poisson or both noises.
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
    """Those that can come last; none where nothing is resized."""
    for step in reversed(steps):
        if isinstance(step, ResizeStep):
            return [step]
        if isinstance(step, EitherOrder):
            one, other = _last_resizes(step.one), _last_resizes(step.other)
            if one or other:
                return one + other
    return []


def _telling(steps: tuple[Step, ...]) -> Iterator[Operation]:
    """Operations that steps can draw, for each thing that not every mode can do."""
    for step in steps:
        if isinstance(step, EitherOrder):
            yield from _telling(step.one + step.other)
        elif isinstance(step, ResizeStep):
            yield from (Resize(kind, 1) for kind in step.kinds)
        elif isinstance(step, NoiseStep) and step.peak:
            yield PoissonNoise(1, False, 0, step.peak[0])
        elif isinstance(step, JpegStep):
            yield Jpeg(step.quality[0])
