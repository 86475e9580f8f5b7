"""Networks: plain torch modules that know no file, tile or command line."""

from __future__ import annotations

from upscale.models.groups import GroupedModel
from upscale.models.registry import (
    Detected,
    Spec,
    UnfitStateError,
    UnknownArchitectureError,
    build,
    detect,
)
from upscale.models.rrdbnet import RRDBNet, RRDBSpec
from upscale.models.srvgg import SRVGGNetCompact, SRVGGSpec
from upscale.tiling.group import IMAGE, LayerGroup

__all__ = [
    "IMAGE",
    "Detected",
    "GroupedModel",
    "LayerGroup",
    "RRDBNet",
    "RRDBSpec",
    "SRVGGNetCompact",
    "SRVGGSpec",
    "Spec",
    "UnfitStateError",
    "UnknownArchitectureError",
    "build",
    "detect",
]
