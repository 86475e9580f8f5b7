"""The tile engine: layer groups run tile by tile, independent of models, files and the CLI."""

from __future__ import annotations
