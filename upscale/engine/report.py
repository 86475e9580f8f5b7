"""Progress of an image, and the result with a report of how it was computed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from upscale.selection import Choice


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of an image in tiles.

    Attributes:
        done: Tiles computed so far.
        total: Tiles of the whole image; grows when tiles are halved.
    """

    done: int
    total: int


ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Report:
    """How an image was computed.

    Attributes:
        model: Name of the model; several, whose results are averaged, are joined by ` + `.
        model_scale: Scale of the model before the final resize.
        tile: Side of the tiles in image pixels at the end of the run; 0 without tiles.
        tiles: Number of tiles computed.
        tiling: `exact`, or `blended` with the overlap.
        device: Device that computed the image.
        precision: Precision of the network.
        fp32_fallbacks: Tiles that overflowed half precision and were recomputed in fp32.
        halvings: Number of times that memory ran out and the tile size was halved.
        placement: Memory of the feature maps at the end: `device`, `host` or `file`.
        resize: Description of the final resize, or None if there was none.
        seconds: Computing time in seconds.
        convolutions: Kernels that computed the convolutions, for example `torch`, with the reason
            if torch computed some although faster kernels were requested.
        choice: Why the model was chosen; None if it was requested.
        colour_kept: Whether the result got the colours of the image; None if nothing decided it.
    """

    model: str
    model_scale: int
    tile: int
    tiles: int
    tiling: str
    device: str
    precision: str
    fp32_fallbacks: int
    halvings: int
    placement: str
    resize: str | None
    seconds: float
    convolutions: str = "torch"
    choice: Choice | None = None
    colour_kept: bool | None = None

    @property
    def fp32_tiles(self) -> int:
        """Deprecated name of `fp32_fallbacks`."""
        return self._deprecated("fp32_tiles", "fp32_fallbacks")

    @property
    def planes(self) -> str:
        """Deprecated name of `placement`."""
        return self._deprecated("planes", "placement")

    def _deprecated(self, old: str, new: str) -> Any:  # noqa: ANN401
        message = f"Report.{old} is deprecated: use Report.{new}"
        warnings.warn(message, DeprecationWarning, stacklevel=3)
        return getattr(self, new)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """An upscaled image with its report.

    Attributes:
        pixels: Upscaled image, with the axes, channels and dtype of the input.
        report: How the image was computed.
    """

    pixels: NDArray[Any]
    report: Report
