"""Any other super-resolution architecture, through spandrel where that is installed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from upscale.checkpoints.state_dicts import read_state_dict
from upscale.errors import CheckpointError, DependencyError
from upscale.files.error_mapping import one_line


@dataclass(frozen=True, slots=True, eq=False)
class CommunityModel:
    """A network that spandrel has recognised and built, on the CPU, in evaluation mode.

    Attributes:
        module: Takes (N, in_channels, H, W) in 0..1 and gives (N, out_channels, H * scale,
            W * scale); H and W must meet the requirements below.
        name: Of the architecture, as "SwinIR".
        multiple_of: H and W must be multiples of this.
        minimum: H and W must be at least this.
        square: H and W must be equal.
        supports_half: Whether fp16 gives good images; `supports_bfloat16` likewise.
    """

    module: nn.Module
    scale: int
    in_channels: int
    out_channels: int
    name: str
    multiple_of: int = 1
    minimum: int = 0
    square: bool = False
    supports_half: bool = False
    supports_bfloat16: bool = False


def load_community(path: Path) -> CommunityModel:
    """Read a checkpoint of any architecture that spandrel knows.

    Raises:
        DependencyError: spandrel, or torchvision for it, is missing or does not work.
        CheckpointError: the file is unusable, of no known architecture, or no network that makes
            one image from one image.
    """
    spandrel = _import_spandrel()
    state = read_state_dict(path)
    try:
        descriptor: Any = spandrel.ModelLoader(device="cpu").load_from_state_dict(state)
    except Exception as error:  # a foreign state dict makes it raise nearly anything
        raise CheckpointError(
            f"{path}: not a network that spandrel knows ({one_line(error)})"
        ) from error
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise CheckpointError(f"{path}: not a network that makes one image from one image")
    return _describe(descriptor)


def _import_spandrel() -> Any:  # noqa: ANN401  # spandrel need not be installed
    try:
        return importlib.import_module("spandrel")
    except Exception as error:  # torchvision raises RuntimeError when it does not fit torch
        raise DependencyError(
            "this model needs spandrel and a torchvision that fits torch "
            f"({one_line(error)}); run: pip install 'upscale[community]'"
        ) from error


def _describe(descriptor: Any) -> CommunityModel:  # noqa: ANN401
    needs = descriptor.size_requirements
    return CommunityModel(
        module=descriptor.model.eval(),
        scale=int(descriptor.scale),
        in_channels=int(descriptor.input_channels),
        out_channels=int(descriptor.output_channels),
        name=str(descriptor.architecture.name),
        multiple_of=int(needs.multiple_of or 1),
        minimum=int(needs.minimum or 0),
        square=bool(needs.square),
        supports_half=bool(descriptor.supports_half),
        supports_bfloat16=bool(descriptor.supports_bfloat16),
    )
