"""Networks as torch modules, independent of files, tiles and the command line."""

from __future__ import annotations

from upscale.models.architectures.rcan import RCAN, RCANSpec
from upscale.models.architectures.realcugan import RealCUGAN, RealCUGANSpec
from upscale.models.architectures.realplksr import RealPLKSR, RealPLKSRSpec
from upscale.models.architectures.rrdbnet import RRDBNet, RRDBSpec
from upscale.models.architectures.span import SPAN, SPANSpec
from upscale.models.architectures.srvgg import SRVGGNetCompact, SRVGGSpec
from upscale.models.network import Network, Spec
from upscale.models.registry import (
    Architecture,
    Detected,
    UnfitStateError,
    UnknownArchitectureError,
    architecture_of,
    architectures,
    build,
    detect,
    register,
    rescale,
    unregister,
)
from upscale.tiling.group import IMAGE, LayerGroup

__all__ = [
    "IMAGE",
    "RCAN",
    "SPAN",
    "Architecture",
    "Detected",
    "LayerGroup",
    "Network",
    "RCANSpec",
    "RRDBNet",
    "RRDBSpec",
    "RealCUGAN",
    "RealCUGANSpec",
    "RealPLKSR",
    "RealPLKSRSpec",
    "SPANSpec",
    "SRVGGNetCompact",
    "SRVGGSpec",
    "Spec",
    "UnfitStateError",
    "UnknownArchitectureError",
    "architecture_of",
    "architectures",
    "build",
    "detect",
    "register",
    "rescale",
    "unregister",
]
