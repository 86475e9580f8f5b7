"""Write animations whose frames are computed one after another."""

from __future__ import annotations

from typing import BinaryIO

from upscale.pictures.encoding import Encoding
from upscale.pictures.picture import Sequence


def write_png(animation: Sequence, target: BinaryIO, encoding: Encoding) -> None:
    """Write an animated PNG."""
    raise NotImplementedError


def write_webp(animation: Sequence, target: BinaryIO, encoding: Encoding) -> None:
    """Write an animated WebP."""
    raise NotImplementedError
