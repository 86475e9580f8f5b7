"""Networks: plain torch modules that know no file, tile or command line."""

from __future__ import annotations

from upscale.models.detect import (
    Detected,
    Spec,
    UnfitStateError,
    UnknownArchitectureError,
    build,
    detect,
)
from upscale.models.rrdbnet import RRDBNet, RRDBSpec
from upscale.models.srvgg import SRVGGNetCompact, SRVGGSpec
from upscale.models.stages import IMAGE, Stage, StagedModel

__all__ = [
    "IMAGE",
    "Detected",
    "RRDBNet",
    "RRDBSpec",
    "SRVGGNetCompact",
    "SRVGGSpec",
    "Spec",
    "Stage",
    "StagedModel",
    "UnfitStateError",
    "UnknownArchitectureError",
    "build",
    "detect",
]
