"""Upscale images with Real-ESRGAN networks.

    from upscale import Upscaler

    upscaler = Upscaler("realesrgan-x4plus")
    large = upscaler.upscale(small)  # HWC uint8, uint16 or float32

Importing this package does not import torch; the first use of `Upscaler` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upscale import errors

if TYPE_CHECKING:
    from upscale.engine.upscaler import Upscaler

__version__ = "0.1.0"
__all__ = ["Upscaler", "__version__", "errors"]


def __getattr__(name: str) -> object:
    """Import the engine, and torch with it, only when it is asked for."""
    if name == "Upscaler":
        from upscale.engine.upscaler import Upscaler

        return Upscaler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
