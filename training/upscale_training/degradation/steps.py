"""What can be drawn: the steps of a chain, with their ranges. The defaults are the paper's.

"The paper" is Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure
Synthetic Data" (arXiv 2107.10833); numbers are those of its section 4.1 and of its official
option files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from upscale.errors import UsageError
from upscale_training.degradation.operations import (
    Blur,
    Family,
    GaussianNoise,
    Jpeg,
    Kind,
    Operation,
    PoissonNoise,
    Resize,
)
from upscale_training.degradation.randomness import Randomness

Range = tuple[float, float]
"""The least and the greatest value."""

Drawn = tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Families:
    """How often each family of kernels is drawn where sinc is not (section 4.1)."""

    iso: float = 0.45
    aniso: float = 0.25
    generalised_iso: float = 0.12
    generalised_aniso: float = 0.03
    plateau_iso: float = 0.12
    plateau_aniso: float = 0.03

    def __post_init__(self) -> None:
        _check_weights("families", self.weights())

    def weights(self) -> dict[Family, float]:
        """By family, in the official order."""
        return asdict(self)  # pyright: ignore[reportReturnType]


@dataclass(frozen=True, slots=True)
class BlurStep:
    """Blur (section 3.1, equation 2) or a sinc filter (section 3.3).

    Attributes:
        probability: of any blur at all.
        sinc: probability of a sinc filter where there is blur.
        families: of the other kernels.
        sizes: of kernels, in pixels; odd sizes between them are equally likely.
        sigma: of the Gaussians and plateaus, in pixels.
        rotation: of anisotropic kernels, in radians.
        generalised_beta: shape of generalised Gaussians; below and above 1 are equally likely.
        plateau_beta: shape of plateaus; below and above 1 likewise.
        small_cutoff: of sinc filters smaller than 13 pixels, in radians.
        large_cutoff: of the others.
        skip_together: whether the official mode decides once a batch if there is blur at all;
            basicsr does for its second blur, and not for its final sinc filter.
    """

    probability: float = 1.0
    sinc: float = 0.1
    families: Families = field(default_factory=Families)
    sizes: tuple[int, int] = (7, 21)
    sigma: Range = (0.2, 3.0)
    rotation: Range = (-math.pi, math.pi)
    generalised_beta: Range = (0.5, 4.0)
    plateau_beta: Range = (1.0, 2.0)
    small_cutoff: Range = (math.pi / 3, math.pi)
    large_cutoff: Range = (math.pi / 5, math.pi)
    skip_together: bool = True

    def __post_init__(self) -> None:
        _check_probability("probability", self.probability)
        _check_probability("sinc", self.sinc)
        _check_range("sizes", self.sizes, 1)
        if not all(size % 2 for size in self.sizes):
            raise UsageError(f"sizes of kernels are odd, not {list(self.sizes)}")
        for name in ("sigma", "generalised_beta", "plateau_beta"):
            _check_range(name, getattr(self, name), 1e-3)
        for name in ("small_cutoff", "large_cutoff"):
            _check_range(name, getattr(self, name), 1e-3, math.pi)
        for name in ("generalised_beta", "plateau_beta"):
            _check_holds_one(name, getattr(self, name))
        _check_range("rotation", self.rotation, -math.inf)

    def draw(self, own: Randomness, shared: Randomness, scale: int) -> Drawn:
        """One kernel, or nothing."""
        decides = shared if self.skip_together else own
        return (self.draw_kernel(own),) if decides.chance(self.probability) else ()

    def draw_kernel(self, own: Randomness) -> Blur:
        """One kernel; draws come in basicsr's order."""
        size = own.pick(range(self.sizes[0], self.sizes[1] + 1, 2))
        if own.chance(self.sinc):
            cutoff = self.small_cutoff if size < 13 else self.large_cutoff
            return Blur("sinc", size, cutoff=own.uniform(*cutoff))
        return self.draw_shape(own, size)

    def draw_shape(self, own: Randomness, size: int) -> Blur:
        """A kernel of some size that is no sinc filter (basicsr's `random_mixed_kernels`)."""
        family = own.choose(self.families.weights())
        sigma_x = own.uniform(*self.sigma)
        if not family.endswith("aniso"):
            return Blur(family, size, sigma_x, sigma_x, beta=self._draw_beta(own, family))
        sigma_y, rotation = own.uniform(*self.sigma), own.uniform(*self.rotation)
        return Blur(family, size, sigma_x, sigma_y, rotation, self._draw_beta(own, family))

    def _draw_beta(self, own: Randomness, family: Family) -> float:
        if family in ("iso", "aniso"):
            return 1.0
        low, high = self.plateau_beta if family.startswith("plateau") else self.generalised_beta
        return own.uniform(low, 1) if own.chance(0.5) else own.uniform(1, high)


@dataclass(frozen=True, slots=True)
class ResizeStep:
    """Resizing (section 3.1, "downsampling").

    Attributes:
        up: how often the image grows.
        down: how often it shrinks.
        keep: how often neither.
        factors: the least and greatest factor; 1 lies between them.
        kinds: filters, equally likely.
        of: what the factor refers to: the present size, or that of the result.
    """

    up: float = 0.2
    down: float = 0.7
    keep: float = 0.1
    factors: Range = (0.15, 1.5)
    kinds: tuple[Kind, ...] = ("area", "bilinear", "bicubic")
    of: Literal["present", "result"] = "present"

    def __post_init__(self) -> None:
        _check_weights("up, down and keep", self._weights())
        _check_range("factors", self.factors, 1e-3)
        _check_holds_one("factors", self.factors)
        if not self.kinds:
            raise UsageError("kinds: a resize needs one at least")

    def draw(self, own: Randomness, shared: Randomness, scale: int) -> Drawn:
        """One resize."""
        way, factor = shared.choose(self._weights()), 1.0
        if way == "up":
            factor = shared.uniform(1, self.factors[1])
        elif way == "down":
            factor = shared.uniform(self.factors[0], 1)
        kind = shared.pick(self.kinds)
        return (Resize(kind, factor, scale if self.of == "result" else None),)

    def _weights(self) -> dict[str, float]:
        return {"up": self.up, "down": self.down, "keep": self.keep}


@dataclass(frozen=True, slots=True)
class NoiseStep:
    """Noise (section 3.1).

    Attributes:
        gaussian: how often it is Gaussian.
        poisson: how often it is Poisson.
        mixed: how often it is Gaussian and then Poisson.
        none: how often there is none.
        sigma: standard deviations of Gaussian noise, in levels of 255.
        scale: what Poisson noise is multiplied by.
        peak: events that white stands for in Poisson noise; None: as many as there are levels.
        grey: probability that all channels get the same noise.
    """

    gaussian: float = 0.5
    poisson: float = 0.5
    mixed: float = 0.0
    none: float = 0.0
    sigma: Range = (1.0, 30.0)
    scale: Range = (0.05, 3.0)
    peak: Range | None = None
    grey: float = 0.4

    def __post_init__(self) -> None:
        _check_weights("gaussian, poisson, mixed and none", self._weights())
        _check_range("sigma", self.sigma, 0)
        _check_range("scale", self.scale, 0)
        if self.peak is not None:
            _check_range("peak", self.peak, 1)
        _check_probability("grey", self.grey)

    def draw(self, own: Randomness, shared: Randomness, scale: int) -> Drawn:
        """No, one or two noises."""
        way, seeds = shared.choose(self._weights()), (shared.seed(), shared.seed())
        found: list[Operation] = []
        if way in ("gaussian", "mixed"):
            found.append(GaussianNoise(own.uniform(*self.sigma), own.chance(self.grey), seeds[0]))
        if way in ("poisson", "mixed"):
            strength, grey = own.uniform(*self.scale), own.chance(self.grey)
            peak = None if self.peak is None else own.uniform(*self.peak)
            found.append(PoissonNoise(strength, grey, seeds[1], peak))
        return tuple(found)

    def _weights(self) -> dict[str, float]:
        names = ("gaussian", "poisson", "mixed", "none")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class JpegStep:
    """JPEG compression (section 3.1).

    Attributes:
        quality: libjpeg's, 1 to 100.
        probability: of any compression at all.
    """

    quality: Range = (30.0, 95.0)
    probability: float = 1.0

    def __post_init__(self) -> None:
        _check_range("quality", self.quality, 1, 100)
        _check_probability("probability", self.probability)

    def draw(self, own: Randomness, shared: Randomness, scale: int) -> Drawn:
        """One compression, or nothing."""
        if not shared.chance(self.probability):
            return ()
        return (Jpeg(own.uniform(*self.quality)),)


@dataclass(frozen=True, slots=True)
class EitherOrder:
    """Two groups of steps, either of which comes first (section 3.3).

    Attributes:
        one: steps that come first with the given probability.
        other: the others.
        probability: of `one` first.
    """

    one: tuple[Step, ...]
    other: tuple[Step, ...]
    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability("probability", self.probability)

    def draw(self, own: Randomness, shared: Randomness, scale: int) -> Drawn:
        """All steps of both groups."""
        ordered = (self.one, self.other)
        if not shared.chance(self.probability):
            ordered = (self.other, self.one)
        steps = [step for group in ordered for step in group]
        return tuple(drawn for step in steps for drawn in step.draw(own, shared, scale))


Step = BlurStep | ResizeStep | NoiseStep | JpegStep | EitherOrder

STEPS: dict[str, type[Step]] = {
    "blur": BlurStep,
    "resize": ResizeStep,
    "noise": NoiseStep,
    "jpeg": JpegStep,
    "either_order": EitherOrder,
}
"""Steps as recipes call them."""


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UsageError(f"{name} is a probability, from 0 to 1, not {value}")


def _check_weights(name: str, weights: Mapping[Any, float]) -> None:
    if min(weights.values()) < 0 or not sum(weights.values()) > 0:
        raise UsageError(f"{name}: weights are at least 0, and not all 0")


def _check_range(name: str, values: Range, least: float, most: float = math.inf) -> None:
    low, high = values
    if not least <= low <= high <= most:
        limits = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise UsageError(f"{name} is a rising pair, {limits}, not {list(values)}")


def _check_holds_one(name: str, values: Range) -> None:
    if not values[0] <= 1 <= values[1]:
        raise UsageError(f"{name}: 1 must lie within {list(values)}")
