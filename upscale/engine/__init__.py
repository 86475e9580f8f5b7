"""Arrays in, arrays out: devices, precision, memory and retries around the tile engine."""

from __future__ import annotations
