"""Other super-resolution architectures, loaded through spandrel if it is installed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from upscale.checkpoints.state_dicts import read_state_dict
from upscale.errors import CheckpointError, DependencyError
from upscale.files.error_mapping import one_line


@dataclass(frozen=True, slots=True, eq=False)
class CommunityModel:
    """A network that spandrel has recognised and built, on the CPU, in evaluation mode.

    Attributes:
        module: Network that maps (N, in_channels, H, W) in 0..1 to (N, out_channels, H * scale,
            W * scale).
        scale: Output width divided by input width.
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        name: Architecture, for example "SwinIR".
        multiple_of: Divisor that H and W must have.
        minimum: Smallest value of H and W.
        square: Whether H and W must be equal.
        supports_half: Whether fp16 gives usable results.
        supports_bfloat16: Whether bf16 gives usable results.
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
    """Load a checkpoint of any architecture that spandrel supports.

    Raises:
        DependencyError: The package spandrel, or torchvision for it, is missing or broken.
        CheckpointError: The file is unusable, of an unsupported architecture, or not a network
            that maps one image to one image.
    """
    spandrel = import_spandrel()
    state = read_state_dict(path)
    try:
        descriptor: Any = spandrel.ModelLoader(device="cpu").load_from_state_dict(state)
    except Exception as error:  # spandrel raises many types of errors for unsupported state dicts
        raise CheckpointError(
            f"{path}: spandrel does not support this network ({one_line(error)})"
        ) from error
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise CheckpointError(f"{path}: not a network that maps one image to one image")
    return describe(descriptor)


def import_spandrel(extra: str = "community") -> Any:  # noqa: ANN401  # it need not be installed
    """Return the module spandrel.

    Args:
        extra: Extra that installs what the model needs, for the error message.

    Raises:
        DependencyError: The package, or torchvision for it, is missing or broken.
    """
    try:
        return importlib.import_module("spandrel")
    except Exception as error:  # torchvision raises RuntimeError if it does not match torch
        if "torchvision::" in str(error):
            raise DependencyError(
                f"torchvision is not of the same build as torch {torch.__version__} "
                f"({one_line(error)}); install it from the index that torch came from, such as: "
                "pip install --force-reinstall --no-deps torchvision --index-url "
                "https://download.pytorch.org/whl/cpu"
            ) from error
        raise DependencyError(
            "this model needs spandrel and a torchvision that matches torch "
            f"({one_line(error)}); run: pip install 'upscale[{extra}]'"
        ) from error


def describe(descriptor: Any) -> CommunityModel:  # noqa: ANN401
    """Describe a network that spandrel has loaded.

    Args:
        descriptor: An `ImageModelDescriptor` of spandrel.
    """
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
