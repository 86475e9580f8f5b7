"""Steps of degradation chains with their ranges; an operation is sampled from each.

The defaults are those of Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution
with Pure Synthetic Data" (arXiv 2107.10833), "the paper": numbers are from its section 4.1 and its
official option files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, field
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    NonNegativeFloat,
    PositiveInt,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from upscale_training.degradation.operations import (
    MAX_FACTOR,
    MAX_GRAIN,
    MAX_KERNEL,
    Blur,
    Family,
    FilmGrain,
    GaussianNoise,
    Jpeg,
    Kind,
    Operation,
    PoissonNoise,
    Resize,
)
from upscale_training.degradation.randomness import Randomness
from upscale_training.schema import (
    ClassBy,
    Probability,
    Range,
    check_weights,
    rising,
    rule_error,
    settings,
)

STEPS: dict[str, type[Step]] = {}
"""Steps by their names in recipes; `register_degradation` adds to them."""


class Step:
    """Base class of steps: settings that operations are sampled from.

    Attributes:
        do: Name of the step in recipes.
    """

    __slots__ = ()
    do: Any

    def sample(self, own: Randomness, shared: Randomness, scale: int) -> tuple[Operation, ...]:
        """Sample operations.

        Args:
            own: Random numbers of this image.
            shared: Random numbers that the images of a batch share in the official mode.
            scale: Number that the degradation divides the sides of an image by.
        """
        raise NotImplementedError

    def check_following(self, steps: Sequence[Step]) -> None:
        """Check that the steps behind this one fit to it.

        Args:
            steps: The steps behind it, in order.

        Raises:
            UsageError: They do not.
        """

    def prepare(self) -> None:
        """Check what the step needs besides its settings, such as files.

        Raises:
            TrainingError: It cannot be used.
        """

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Build the step that `do` names where any step is allowed."""
        if cls is Step:
            return ClassBy("do", STEPS).__get_pydantic_core_schema__(source, handler)
        return handler(source)


@settings
class Families:
    """Relative frequency of each kernel family when the filter is not sinc (section 4.1)."""

    iso: NonNegativeFloat = 0.45
    aniso: NonNegativeFloat = 0.25
    generalised_iso: NonNegativeFloat = 0.12
    generalised_aniso: NonNegativeFloat = 0.03
    plateau_iso: NonNegativeFloat = 0.12
    plateau_aniso: NonNegativeFloat = 0.03

    @model_validator(mode="after")
    def _check(self) -> Families:
        check_weights("families", self.weights().values())
        return self

    def weights(self) -> dict[Family, float]:
        """Return the frequencies by family, in the official order."""
        return asdict(self)  # pyright: ignore[reportReturnType, reportArgumentType]


@settings
class BlurStep(Step):
    """Blur (section 3.1, equation 2) or a sinc filter (section 3.3).

    Attributes:
        do: Selects this step.
        probability: Probability of any blur.
        sinc: Probability of a sinc filter if there is blur.
        families: Relative frequencies of the other kernels.
        sizes: Side of the kernel in pixels; odd sizes in the range are equally likely.
        sigma: Spread of Gaussians and plateaus, in pixels.
        rotation: Rotation of anisotropic kernels, in radians.
        generalised_beta: Shape of generalised Gaussians; below and above 1 are equally likely.
        plateau_beta: Shape of plateaus; below and above 1 are equally likely.
        small_cutoff: Cutoff of sinc filters smaller than 13 pixels, in radians.
        large_cutoff: Cutoff of larger sinc filters, in radians.
        skip_together: Whether the official mode decides once per batch if there is blur at all;
            basicsr does so for its second blur, and not for its final sinc filter.
    """

    do: Literal["blur"] = field(default="blur", kw_only=True, repr=False)
    probability: Probability = 1.0
    sinc: Probability = 0.1
    families: Families = field(default_factory=Families)
    sizes: Annotated[tuple[PositiveInt, PositiveInt], rising(1, MAX_KERNEL)] = (7, 21)
    sigma: Annotated[Range, rising(1e-3)] = (0.2, 3.0)
    rotation: Annotated[Range, rising()] = (-math.pi, math.pi)
    generalised_beta: Annotated[Range, rising(1e-3, holds_one=True)] = (0.5, 4.0)
    plateau_beta: Annotated[Range, rising(1e-3, holds_one=True)] = (1.0, 2.0)
    small_cutoff: Annotated[Range, rising(1e-3, math.pi)] = (math.pi / 3, math.pi)
    large_cutoff: Annotated[Range, rising(1e-3, math.pi)] = (math.pi / 5, math.pi)
    skip_together: bool = True

    @field_validator("sizes")
    @classmethod
    def _check_odd(cls, sizes: tuple[int, int]) -> tuple[int, int]:
        if not all(size % 2 for size in sizes):
            raise rule_error(f"kernels have odd sizes, not {list(sizes)}")
        return sizes

    def sample(self, own: Randomness, shared: Randomness, scale: int) -> tuple[Operation, ...]:
        """Sample one kernel, or none."""
        decides = shared if self.skip_together else own
        return (self.sample_kernel(own),) if decides.chance(self.probability) else ()

    def sample_kernel(self, own: Randomness) -> Blur:
        """Sample one kernel; random numbers are used in the same order as by basicsr."""
        size = own.pick(range(self.sizes[0], self.sizes[1] + 1, 2))
        if own.chance(self.sinc):
            cutoff = self.small_cutoff if size < 13 else self.large_cutoff
            return Blur("sinc", size, cutoff=own.uniform(*cutoff))
        return self.sample_shape(own, size)

    def sample_shape(self, own: Randomness, size: int) -> Blur:
        """Sample a kernel of the given size that is not sinc (basicsr's `random_mixed_kernels`)."""
        family = own.choose(self.families.weights())
        sigma_x = own.uniform(*self.sigma)
        if not family.endswith("aniso"):
            return Blur(family, size, sigma_x, sigma_x, beta=self._sample_beta(own, family))
        sigma_y, rotation = own.uniform(*self.sigma), own.uniform(*self.rotation)
        return Blur(family, size, sigma_x, sigma_y, rotation, self._sample_beta(own, family))

    def _sample_beta(self, own: Randomness, family: Family) -> float:
        if family in ("iso", "aniso"):
            return 1.0
        low, high = self.plateau_beta if family.startswith("plateau") else self.generalised_beta
        return own.uniform(low, 1) if own.chance(0.5) else own.uniform(1, high)


@settings
class ResizeStep(Step):
    """Resizing (section 3.1, "downsampling").

    Attributes:
        do: Selects this step.
        up: Relative frequency of upscaling.
        down: Relative frequency of downscaling.
        keep: Relative frequency of keeping the size.
        factors: Range of factors; must contain 1.
        kinds: Resampling filters, equally likely.
        of: Size that the factor refers to: the present size, or that of the result.
    """

    do: Literal["resize"] = field(default="resize", kw_only=True, repr=False)
    up: NonNegativeFloat = 0.2
    down: NonNegativeFloat = 0.7
    keep: NonNegativeFloat = 0.1
    factors: Annotated[Range, rising(1e-3, MAX_FACTOR, holds_one=True)] = (0.15, 1.5)
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("area", "bilinear", "bicubic")
    of: Literal["present", "result"] = "present"

    @model_validator(mode="after")
    def _check(self) -> ResizeStep:
        check_weights("up, down and keep", self._weights().values())
        return self

    def sample(self, own: Randomness, shared: Randomness, scale: int) -> tuple[Operation, ...]:
        """Sample one resize."""
        way, factor = shared.choose(self._weights()), 1.0
        if way == "up":
            factor = shared.uniform(1, self.factors[1])
        elif way == "down":
            factor = shared.uniform(self.factors[0], 1)
        kind = shared.pick(self.kinds)
        return (Resize(kind, factor, scale if self.of == "result" else None),)

    def _weights(self) -> dict[str, float]:
        return {"up": self.up, "down": self.down, "keep": self.keep}


@settings
class NoiseStep(Step):
    """Noise (section 3.1).

    Attributes:
        do: Selects this step.
        gaussian: Relative frequency of Gaussian noise.
        poisson: Relative frequency of Poisson noise.
        mixed: Relative frequency of Gaussian followed by Poisson noise.
        none: Relative frequency of no noise.
        sigma: Standard deviation of Gaussian noise, in levels of 255.
        scale: Factor of Poisson noise.
        peak: Number of events that white stands for in Poisson noise; null for the number of levels
            in the image.
        grey: Probability that all channels get the same noise.
    """

    do: Literal["noise"] = field(default="noise", kw_only=True, repr=False)
    gaussian: NonNegativeFloat = 0.5
    poisson: NonNegativeFloat = 0.5
    mixed: NonNegativeFloat = 0.0
    none: NonNegativeFloat = 0.0
    sigma: Annotated[Range, rising(0)] = (1.0, 30.0)
    scale: Annotated[Range, rising(0)] = (0.05, 3.0)
    peak: Annotated[Range, rising(1)] | None = None
    grey: Probability = 0.4

    @model_validator(mode="after")
    def _check(self) -> NoiseStep:
        check_weights("gaussian, poisson, mixed and none", self._weights().values())
        return self

    def sample(self, own: Randomness, shared: Randomness, scale: int) -> tuple[Operation, ...]:
        """Sample no, one or two noises."""
        way, seeds = shared.choose(self._weights()), (shared.seed(), shared.seed())
        noises: list[Operation] = []
        if way in ("gaussian", "mixed"):
            noises.append(GaussianNoise(own.uniform(*self.sigma), own.chance(self.grey), seeds[0]))
        if way in ("poisson", "mixed"):
            strength, grey = own.uniform(*self.scale), own.chance(self.grey)
            peak = None if self.peak is None else own.uniform(*self.peak)
            noises.append(PoissonNoise(strength, grey, seeds[1], peak))
        return tuple(noises)

    def _weights(self) -> dict[str, float]:
        names = ("gaussian", "poisson", "mixed", "none")
        return {name: getattr(self, name) for name in names}


@settings
class JpegStep(Step):
    """JPEG compression (section 3.1).

    Attributes:
        do: Selects this step.
        quality: Quality as in libjpeg, 1 to 100.
        probability: Probability of any compression.
    """

    do: Literal["jpeg"] = field(default="jpeg", kw_only=True, repr=False)
    quality: Annotated[Range, rising(1, 100)] = (30.0, 95.0)
    probability: Probability = 1.0

    def sample(self, own: Randomness, shared: Randomness, scale: int) -> tuple[Operation, ...]:
        """Sample one compression, or none."""
        if not shared.chance(self.probability):
            return ()
        return (Jpeg(own.uniform(*self.quality)),)


@settings
class GrainStep(Step):
    """Grain that is strongest in midtones.

    Attributes:
        do: Selects this step.
        strength: Standard deviation in midtones, in levels of 255.
        size: Standard deviation of the Gaussian that the noise is blurred with, in pixels.
        grey: Probability that all channels get the same grain, as in black-and-white photos.
        probability: Probability of any grain.
    """

    do: Literal["grain"] = field(default="grain", kw_only=True, repr=False)
    strength: Annotated[Range, rising(0)] = (2.0, 12.0)
    size: Annotated[Range, rising(0, MAX_GRAIN)] = (0.3, 1.2)
    grey: Probability = 0.5
    probability: Probability = 1.0

    def sample(self, own: Randomness, shared: Randomness, scale: int) -> tuple[Operation, ...]:
        """Sample one grain, or none."""
        if not shared.chance(self.probability):
            return ()
        strength, size = own.uniform(*self.strength), own.uniform(*self.size)
        return (FilmGrain(strength, size, own.chance(self.grey), shared.seed()),)


@settings
class EitherOrder(Step):
    """Two groups of steps that are applied in random order (section 3.3).

    Attributes:
        do: Selects this step.
        one: Steps of the group that comes first with the given probability.
        other: Steps of the other group.
        probability: Probability that `one` comes first.
    """

    do: Literal["either_order"] = field(default="either_order", kw_only=True, repr=False)
    one: tuple[Step, ...]
    other: tuple[Step, ...]
    probability: Probability = 0.5

    def check_following(self, steps: Sequence[Step]) -> None:
        """Check the order of the steps within each group."""
        for group in (self.one, self.other):
            check_order(group)

    def prepare(self) -> None:
        """Check what the steps of both groups need."""
        for step in self.one + self.other:
            step.prepare()

    def sample(self, own: Randomness, shared: Randomness, scale: int) -> tuple[Operation, ...]:
        """Sample all steps of both groups."""
        ordered = (self.one, self.other)
        if not shared.chance(self.probability):
            ordered = (self.other, self.one)
        steps = [step for group in ordered for step in group]
        return tuple(each for step in steps for each in step.sample(own, shared, scale))


def check_order(steps: Sequence[Step]) -> None:
    """Check that the steps of a chain fit to those behind them.

    Args:
        steps: The steps in order.

    Raises:
        UsageError: They do not.
    """
    for number, step in enumerate(steps, 1):
        step.check_following(steps[number:])
