"""What happens to one image, as plain values: printed, written as JSON, and replayed."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from upscale.errors import UsageError

Mode = Literal["corrected", "official"]
"""How operations are carried out: as they should be, or as basicsr 1.4.2 does it."""

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
"""Ways to resize."""

_SEEDS = 1 << 63


@dataclass(frozen=True, slots=True)
class Blur:
    """A filter with one kernel.

    Attributes:
        family: the kernel's formula; `sinc` uses `cutoff` only, `iso` no `sigma_y` and `rotation`.
        size: side of the kernel in pixels, odd.
        sigma_x: spread along the first axis, in pixels.
        sigma_y: spread along the second axis, in pixels.
        rotation: of these axes, in radians.
        beta: shape of the generalised and plateau families.
        cutoff: frequency in radians, in (0, pi].
    """

    family: Family
    size: int
    sigma_x: float = 1.0
    sigma_y: float = 1.0
    rotation: float = 0.0
    beta: float = 1.0
    cutoff: float = math.pi

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % 2 == 0:
            raise UsageError(f"the size of a kernel is odd, not {self.size}")
        for name in ("sigma_x", "sigma_y", "beta"):
            _check_within(name, getattr(self, name), math.ulp(0), math.inf)
        _check_within("rotation", self.rotation, -math.inf, math.inf)
        _check_within("cutoff", self.cutoff, math.ulp(0), math.pi)

    def __str__(self) -> str:
        """A few words."""
        if self.family == "sinc":
            return f"sinc {self.size} {self.cutoff / math.pi:.2f} pi"
        line = f"blur {self.family.replace('_', ' ')} {self.size} {self.sigma_x:.1f}"
        if self.family.endswith("aniso"):
            line += f"/{self.sigma_y:.1f} {math.degrees(self.rotation) % 180:.0f}°"
        return line if self.family in ("iso", "aniso") else f"{line} beta {self.beta:.1f}"


@dataclass(frozen=True, slots=True)
class Resize:
    """A change of size.

    Attributes:
        kind: the filter.
        factor: new size over the present one; or over that of the result, where `scale` is given.
        scale: what the whole degradation divides the sides of an image by.
    """

    kind: Kind
    factor: float
    scale: int | None = None

    def __post_init__(self) -> None:
        _check_within("factor", self.factor, math.ulp(0), math.inf)
        if self.scale is not None:
            _check_within("scale", self.scale, 1, math.inf)

    def size(self, present: tuple[int, int], image: tuple[int, int]) -> tuple[int, int]:
        """The new height and width, at least 1, from the present ones and the whole image's."""
        sides = present if self.scale is None else [side / self.scale for side in image]
        height, width = (max(int(side * self.factor), 1) for side in sides)
        return height, width

    def __str__(self) -> str:
        """A few words."""
        factor = "" if self.factor == 1 else f"{self.factor:.2f} "
        if self.scale is not None:
            return f"to {factor}{'of ' if factor else ''}result {self.kind}"
        if not factor:
            return "keep size"
        return f"{'up' if self.factor > 1 else 'down'} {factor}{self.kind}"


@dataclass(frozen=True, slots=True)
class GaussianNoise:
    """Additive noise.

    Attributes:
        sigma: standard deviation in levels of 255.
        grey: whether all channels get the same noise.
        seed: of the noise itself.
    """

    sigma: float
    grey: bool
    seed: int

    def __post_init__(self) -> None:
        _check_within("sigma", self.sigma, 0, math.inf)
        _check_within("seed", self.seed, 0, _SEEDS)

    def __str__(self) -> str:
        """A few words."""
        return f"{'grey ' if self.grey else ''}gauss {self.sigma:.1f}"


@dataclass(frozen=True, slots=True)
class PoissonNoise:
    """Shot noise.

    Attributes:
        scale: what the noise is multiplied by.
        grey: whether all channels get the same noise.
        seed: of the noise itself.
        peak: events that white stands for; None: the number of levels in the image, rounded up
            to a power of two.
    """

    scale: float
    grey: bool
    seed: int
    peak: float | None = None

    def __post_init__(self) -> None:
        _check_within("scale", self.scale, 0, math.inf)
        _check_within("seed", self.seed, 0, _SEEDS)
        if self.peak is not None:
            _check_within("peak", self.peak, math.ulp(0), math.inf)

    def __str__(self) -> str:
        """A few words."""
        peak = "" if self.peak is None else f" peak {self.peak:.0f}"
        return f"{'grey ' if self.grey else ''}poisson {self.scale:.2f}{peak}"


@dataclass(frozen=True, slots=True)
class Jpeg:
    """Compression.

    Attributes:
        quality: libjpeg's, 1 to 100.
    """

    quality: float

    def __post_init__(self) -> None:
        _check_within("quality", self.quality, 1, 100)

    def __str__(self) -> str:
        """A few words."""
        return f"jpeg {self.quality:.0f}"


Operation = Blur | Resize | GaussianNoise | PoissonNoise | Jpeg

NAMES: dict[str, type[Operation]] = {
    "blur": Blur,
    "resize": Resize,
    "gaussian": GaussianNoise,
    "poisson": PoissonNoise,
    "jpeg": Jpeg,
}
"""Operations as JSON calls them."""

_NAME_OF = {kind: name for name, kind in NAMES.items()}


@dataclass(frozen=True, slots=True)
class Degradation:
    """What happens to one image, in order; it ends with clamping and rounding to 8 bits.

    The same description gives the same pixels again, on the same kind of device. In the official
    mode that is true of a whole batch: its noise is one stream.

    Raises:
        UsageError: an operation that the mode does not have.
    """

    operations: tuple[Operation, ...]
    mode: Mode = "corrected"

    def __post_init__(self) -> None:
        if self.mode == "official":
            for operation in self.operations:
                check_official(operation)

    @property
    def scale(self) -> int:
        """What the sides of an image are divided by; 1 where the operations do not say."""
        scales = [each.scale for each in self.operations if isinstance(each, Resize)]
        return next((scale for scale in reversed(scales) if scale is not None), 1)

    def __str__(self) -> str:
        """One operation a line."""
        return "\n".join(str(operation) for operation in self.operations)

    def as_dict(self) -> dict[str, Any]:
        """Plain values that `from_dict` reads."""
        found = [{"do": _NAME_OF[type(each)], **asdict(each)} for each in self.operations]
        return {"mode": self.mode, "operations": found}

    @staticmethod
    def from_dict(found: Any) -> Degradation:  # noqa: ANN401 -- whatever JSON held
        """Read what `as_dict` gave; other keys beside its own are passed over.

        Raises:
            UsageError: it describes no degradation.
        """
        try:
            mode, listed = found["mode"], tuple(_operation(each) for each in found["operations"])
        except (ValueError, KeyError, TypeError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise UsageError(f"not the description of a degradation: {reason}") from error
        if mode not in ("corrected", "official"):
            raise UsageError(f"a degradation's mode is corrected or official, not {mode!r}")
        return Degradation(listed, mode)

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads."""
        return json.dumps(self.as_dict())

    @staticmethod
    def from_json(text: str) -> Degradation:
        """Read what `to_json` wrote; other keys beside its own are passed over.

        Raises:
            UsageError: it is not JSON, or describes no degradation.
        """
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"not the description of a degradation: {error}") from error
        return Degradation.from_dict(found)


def check_official(operation: Operation) -> None:
    """Refuse what basicsr cannot do.

    Raises:
        UsageError: it would ignore a number, fail, or give no numbers.
    """
    reason = None
    if isinstance(operation, Resize) and operation.kind in ("nearest", "lanczos"):
        reason = f"resize by {operation.kind}"
    elif isinstance(operation, PoissonNoise) and operation.peak is not None:
        reason = "choose the peak of Poisson noise"
    elif isinstance(operation, Jpeg) and operation.quality == 100:
        reason = "compress at quality 100"
    if reason:
        raise UsageError(f"basicsr cannot {reason}: use mode corrected")


def _operation(found: dict[str, Any]) -> Operation:
    if found["do"] not in NAMES:
        raise ValueError(f"no operation is called {found['do']!r}")
    kind = NAMES[found["do"]]
    hints = get_type_hints(kind)
    values = {key: value for key, value in found.items() if key != "do"}
    for key, value in values.items():
        if key not in hints or not _fits(value, hints[key]):
            raise ValueError(f"{found['do']} has no {key} of {value!r}")
    return kind(**values)


def _fits(value: object, hint: object) -> bool:
    """Whether a value read from JSON is what a field takes."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    kinds = get_args(hint) or (hint,)
    return type(value) in kinds or (type(value) is int and float in kinds)


def _check_within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high or math.isinf(value):
        raise UsageError(f"{name}: {value} is out of its range")
