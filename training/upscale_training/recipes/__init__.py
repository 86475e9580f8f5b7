"""The recipes that come with `upscale`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["bundled"]


def bundled() -> Mapping[str, Path]:
    """Return the files of the recipes that come with `upscale`, by their names.

    Example:
        >>> bundled()["tiny-x4"].name
        'tiny-x4.yaml'
    """
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}
