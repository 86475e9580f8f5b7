"""Upscale images with Real-ESRGAN networks.

    from upscale import Upscaler

    upscaler = Upscaler()
    large = upscaler.upscale(small)  # an array, a PIL image, or the path of a file

Importing this package does not import torch; the first use of `Upscaler` or `load_model` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upscale import errors

if TYPE_CHECKING:
    from upscale.api import Upscaler
    from upscale.engine.loading import load_model

__version__ = "0.1.0"
__all__ = ["Upscaler", "__version__", "errors", "load_model"]

_MODULES = {"Upscaler": "upscale.api", "load_model": "upscale.engine.loading"}


def __getattr__(name: str) -> object:
    """Import the engine, and torch with it, on first use."""
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
