"""The engine around the tile engine: arrays and tensors, devices, precision, memory, fallbacks."""

from __future__ import annotations
