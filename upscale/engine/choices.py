"""Valid values of engine options, importable without torch."""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["fp32", "fp16", "bf16"]

PRECISIONS = ("auto", *get_args(Precision))
"""Values of `--precision`."""

Seamless = Literal["", "x", "y", "xy"]
"""Directions in which an image repeats: from left to right (x), from top to bottom (y)."""

KeepColour = Literal["on", "off", "auto"]

KEEP_COLOUR: tuple[KeepColour, ...] = get_args(KeepColour)
"""Whether results get the colours of their source; `auto` if it is clean."""

SMALLEST_TILE = 16
"""Smallest tile in image pixels: of `--tile` apart from 0, and tried before feature maps are
offloaded."""
