"""The operations that degrade one image, as plain values: printed, written as JSON, replayed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from upscale.errors import UsageError
from upscale_training.schema import rule_error, settings

Mode = Literal["corrected", "official"]
"""How operations are carried out: correctly, or with the faults of basicsr 1.4.2."""

Family = Literal[
    "iso",
    "aniso",
    "generalised_iso",
    "generalised_aniso",
    "plateau_iso",
    "plateau_aniso",
    "sinc",
]
"""Families of blur kernels (Real-ESRGAN, sections 3.1 and 3.3)."""

Kind = Literal["nearest", "area", "bilinear", "bicubic", "lanczos"]
"""Resampling filters."""

MAX_KERNEL = 255
MAX_FACTOR = 16
MAX_GRAIN = 8

Seed = Annotated[int, Field(ge=0, le=1 << 63)]


def _check_odd(size: int) -> int:
    if size % 2 == 0:
        raise rule_error(f"a kernel has an odd size, not {size}")
    return size


class Operation:
    """Base class of operations: frozen dataclasses of plain values.

    Attributes:
        do: Name of the operation in JSON.
    """

    __slots__ = ()
    do: ClassVar[str]

    def stronger(self, factor: float) -> Operation:
        """Return the operation with its noise or its loss multiplied by a factor.

        Args:
            factor: Factor above 0. Operations without noise or loss stay as they are.
        """
        return self


OPERATIONS: dict[str, type[Operation]] = {}
"""Operations by their names in JSON; `register_degradation` adds to them."""


@settings
class Blur(Operation):
    """A filter with one kernel.

    Attributes:
        family: Formula of the kernel; `sinc` uses only `cutoff`, `iso` no `sigma_y` and `rotation`.
        size: Side of the kernel in pixels, odd.
        sigma_x: Spread along the first axis, in pixels.
        sigma_y: Spread along the second axis, in pixels.
        rotation: Rotation of these axes, in radians.
        beta: Shape of the generalised and plateau families.
        cutoff: Cutoff frequency in radians, in (0, pi].
    """

    do: ClassVar[str] = "blur"
    family: Family
    size: Annotated[int, Field(gt=0, le=MAX_KERNEL), AfterValidator(_check_odd)]
    sigma_x: PositiveFloat = 1.0
    sigma_y: PositiveFloat = 1.0
    rotation: float = 0.0
    beta: PositiveFloat = 1.0
    cutoff: Annotated[float, Field(gt=0, le=math.pi)] = math.pi

    def __str__(self) -> str:
        if self.family == "sinc":
            return f"sinc {self.size} {self.cutoff / math.pi:.2f} pi"
        line = f"blur {self.family.replace('_', ' ')} {self.size} {self.sigma_x:.1f}"
        if self.family.endswith("aniso"):
            line += f"/{self.sigma_y:.1f} {math.degrees(self.rotation) % 180:.0f}°"
        return line if self.family in ("iso", "aniso") else f"{line} beta {self.beta:.1f}"


@settings
class Resize(Operation):
    """A change of size.

    Attributes:
        kind: Resampling filter.
        factor: New size divided by the current one; divided by the result's if `scale` is given.
        scale: Number that the whole degradation divides the sides of an image by.
    """

    do: ClassVar[str] = "resize"
    kind: Kind
    factor: Annotated[float, Field(gt=0, le=MAX_FACTOR)]
    scale: PositiveInt | None = None

    def size(self, current: tuple[int, int], image: tuple[int, int]) -> tuple[int, int]:
        """Return the new height and width, at least 1.

        Args:
            current: Height and width before this operation.
            image: Height and width before the whole degradation.
        """
        sides = current if self.scale is None else [side / self.scale for side in image]
        height, width = (max(int(side * self.factor), 1) for side in sides)
        return height, width

    def __str__(self) -> str:
        factor = "" if self.factor == 1 else f"{self.factor:.2f} "
        if self.scale is not None:
            return f"to {factor}{'of ' if factor else ''}result {self.kind}"
        if not factor:
            return "keep size"
        return f"{'up' if self.factor > 1 else 'down'} {factor}{self.kind}"


@settings
class GaussianNoise(Operation):
    """Additive Gaussian noise.

    Attributes:
        sigma: Standard deviation in levels of 255.
        grey: Whether all channels get the same noise.
        seed: Seed of the noise.
    """

    do: ClassVar[str] = "gaussian"
    sigma: NonNegativeFloat
    grey: bool
    seed: Seed

    def stronger(self, factor: float) -> GaussianNoise:
        """Return noise with `sigma` multiplied by a factor."""
        return replace(self, sigma=self.sigma * factor)

    def __str__(self) -> str:
        return f"{'grey ' if self.grey else ''}gauss {self.sigma:.1f}"


@settings
class PoissonNoise(Operation):
    """Shot noise.

    Attributes:
        scale: Factor of the noise.
        grey: Whether all channels get the same noise.
        seed: Seed of the noise.
        peak: Number of events that white stands for; None for the number of levels in the image,
            rounded up to a power of two.
    """

    do: ClassVar[str] = "poisson"
    scale: NonNegativeFloat
    grey: bool
    seed: Seed
    peak: PositiveFloat | None = None

    def stronger(self, factor: float) -> PoissonNoise:
        """Return noise with `scale` multiplied by a factor."""
        return replace(self, scale=self.scale * factor)

    def __str__(self) -> str:
        peak = "" if self.peak is None else f" peak {self.peak:.0f}"
        return f"{'grey ' if self.grey else ''}poisson {self.scale:.2f}{peak}"


@settings
class FilmGrain(Operation):
    """Grain: noise of a certain size that is strongest in midtones.

    Attributes:
        strength: Standard deviation in midtones, in levels of 255.
        size: Standard deviation of the Gaussian that the noise is blurred with, in pixels.
        grey: Whether all channels get the same grain.
        seed: Seed of the noise.
    """

    do: ClassVar[str] = "grain"
    strength: NonNegativeFloat
    size: Annotated[float, Field(ge=0, le=MAX_GRAIN)]
    grey: bool
    seed: Seed

    def stronger(self, factor: float) -> FilmGrain:
        """Return grain with `strength` multiplied by a factor."""
        return replace(self, strength=self.strength * factor)

    def __str__(self) -> str:
        return f"{'grey ' if self.grey else ''}grain {self.strength:.1f} of {self.size:.1f}"


@settings
class Jpeg(Operation):
    """JPEG compression.

    Attributes:
        quality: Quality as in libjpeg, 1 to 100.
    """

    do: ClassVar[str] = "jpeg"
    quality: Annotated[float, Field(ge=1, le=100)]

    def stronger(self, factor: float) -> Jpeg:
        """Return a compression whose distance from quality 100 is multiplied by a factor."""
        return replace(self, quality=max(100 - (100 - self.quality) * factor, 1))

    def __str__(self) -> str:
        return f"jpeg {self.quality:.0f}"


@dataclass(frozen=True, slots=True)
class Degradation:
    """The operations on one image, in order, followed by clamping and rounding to 8 bits.

    The same description gives the same pixels again on the same kind of device. In the official
    mode this holds for a whole batch, because its noise is one stream of random numbers.

    Attributes:
        operations: The operations, first to last.
        mode: How they are carried out.

    Raises:
        UsageError: An operation does not exist in the official mode.

    Example:
        >>> degradation = Degradation((Resize("bicubic", 1, scale=4), Jpeg(75)))
        >>> print(degradation)
        to result bicubic
        jpeg 75
        >>> Degradation.from_dict(degradation.as_dict()) == degradation
        True
    """

    operations: tuple[Operation, ...]
    mode: Mode = "corrected"

    def __post_init__(self) -> None:
        if self.mode == "official":
            for operation in self.operations:
                check_official(operation)

    @property
    def scale(self) -> int:
        """Number that the sides of an image are divided by; 1 if the operations do not say."""
        scales = [each.scale for each in self.operations if isinstance(each, Resize)]
        return next((scale for scale in reversed(scales) if scale is not None), 1)

    def __str__(self) -> str:
        return "\n".join(str(operation) for operation in self.operations)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, which `from_dict` reads."""
        operations = [{"do": each.do, **asdict(each)} for each in self.operations]  # pyright: ignore[reportArgumentType]
        return {"mode": self.mode, "operations": operations}

    @staticmethod
    def from_dict(values: Any) -> Degradation:  # noqa: ANN401 -- whatever JSON held
        """Read the values that `as_dict` returned; unknown keys are ignored.

        Raises:
            UsageError: The values describe no degradation.
        """
        try:
            mode = values["mode"]
            operations = tuple(_read_operation(each) for each in values["operations"])
        except (ValueError, KeyError, TypeError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise UsageError(f"not the description of a degradation: {reason}") from error
        if mode not in ("corrected", "official"):
            raise UsageError(f"a degradation's mode is corrected or official, not {mode!r}")
        return Degradation(operations, mode)


OFFICIAL: set[type[Operation]] = set()
"""Operations that the official mode has; `register_degradation` adds to them."""


def check_official(operation: Operation) -> None:
    """Raise an error for an operation that basicsr does not have.

    Raises:
        UsageError: Basicsr would ignore a value, fail, or give no numbers.
    """
    reason = None
    if type(operation) not in OFFICIAL:
        reason = f"do {operation.do}"
    elif isinstance(operation, Resize) and operation.kind in ("nearest", "lanczos"):
        reason = f"resize by {operation.kind}"
    elif isinstance(operation, PoissonNoise) and operation.peak is not None:
        reason = "choose the peak of Poisson noise"
    elif isinstance(operation, Jpeg) and operation.quality == 100:
        reason = "compress at quality 100"
    if reason:
        raise UsageError(f"basicsr cannot {reason}: use mode corrected")


def _read_operation(values: dict[str, Any]) -> Operation:
    if values["do"] not in OPERATIONS:
        raise ValueError(f"no operation is called {values['do']!r}")
    arguments = {key: value for key, value in values.items() if key != "do"}
    try:
        return OPERATIONS[values["do"]](**arguments)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(f"{values['do']}, {key}: {first['msg']}") from error
