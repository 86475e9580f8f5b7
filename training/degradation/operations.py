"""What happens to one picture, as plain values: printed, written as JSON, and replayed."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

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

    def __str__(self) -> str:
        """One short line."""
        if self.family == "sinc":
            return f"sinc {self.size} cutoff {self.cutoff / math.pi:.2f} pi"
        line = f"{self.family.replace('_', ' ')} {self.size} sigma {self.sigma_x:.2f}"
        if self.family.endswith("aniso"):
            line += f"x{self.sigma_y:.2f} at {math.degrees(self.rotation):.0f} degrees"
        return line if self.family in ("iso", "aniso") else f"{line} beta {self.beta:.2f}"


@dataclass(frozen=True, slots=True)
class Resize:
    """A change of size.

    Attributes:
        kind: the filter.
        factor: new size over the present one; or over that of the result, where `scale` is given.
        scale: what the whole degradation divides the sides of a picture by.
    """

    kind: Kind
    factor: float
    scale: int | None = None

    def size(self, present: tuple[int, int], picture: tuple[int, int]) -> tuple[int, int]:
        """The new height and width, at least 1, from the present ones and the whole picture's."""
        sides = present if self.scale is None else [side / self.scale for side in picture]
        height, width = (max(int(side * self.factor), 1) for side in sides)
        return height, width

    def __str__(self) -> str:
        """One short line."""
        return f"{self.kind} x{self.factor:.2f}" + ("" if self.scale is None else " of the result")


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

    def __str__(self) -> str:
        """One short line."""
        return f"{'grey ' if self.grey else ''}Gaussian noise {self.sigma:.1f}"


@dataclass(frozen=True, slots=True)
class PoissonNoise:
    """Shot noise.

    Attributes:
        scale: what the noise is multiplied by.
        grey: whether all channels get the same noise.
        seed: of the noise itself.
        peak: events that white stands for; None: the number of levels in the picture, rounded up
            to a power of two.
    """

    scale: float
    grey: bool
    seed: int
    peak: float | None = None

    def __str__(self) -> str:
        """One short line."""
        peak = "" if self.peak is None else f" peak {self.peak:.0f}"
        return f"{'grey ' if self.grey else ''}Poisson noise {self.scale:.2f}{peak}"


@dataclass(frozen=True, slots=True)
class Jpeg:
    """Compression.

    Attributes:
        quality: libjpeg's, 1 to 100.
    """

    quality: float

    def __str__(self) -> str:
        """One short line."""
        return f"JPEG {self.quality:.0f}"


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
    """What happens to one picture, in order; it ends with clamping and rounding to 8 bits.

    The same description gives the same pixels again, on the same kind of device.
    """

    operations: tuple[Operation, ...]
    mode: Mode = "corrected"

    def __str__(self) -> str:
        """One operation a line."""
        return "\n".join(str(operation) for operation in self.operations)

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads."""
        found = [{"do": _NAME_OF[type(each)], **asdict(each)} for each in self.operations]
        return json.dumps({"mode": self.mode, "operations": found})

    @staticmethod
    def from_json(text: str) -> Degradation:
        """Read what `to_json` wrote.

        Raises:
            UsageError: it is not JSON, or not of a degradation.
        """
        try:
            found = json.loads(text)
            mode, operations = (
                found["mode"],
                tuple(_operation(each) for each in found["operations"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"not the description of a degradation: {error!r}") from error
        if mode not in ("corrected", "official"):
            raise UsageError(f"a degradation's mode is corrected or official, not {mode!r}")
        return Degradation(operations, mode)


def _operation(found: dict[str, Any]) -> Operation:
    kind = NAMES[found["do"]]
    known = {field.name for field in fields(kind)} | {"do"}
    if unknown := set(found) - known:
        raise ValueError(f"{found['do']} knows no {sorted(unknown)[0]}")
    return kind(**{key: value for key, value in found.items() if key != "do"})
