"""Models: networks loaded by name or file, ready to compute."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from upscale.checkpoints import CommunityModel, load_community, resolve
from upscale.errors import CheckpointError
from upscale.models import Network, UnfitStateError, UnknownArchitectureError, build, detect


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A network with the properties that the engine needs.

    Attributes:
        name: Name of the model.
        network: Module in fp32 on the CPU, in evaluation mode.
        scale: Output pixels per image pixel and axis.
        channels: Channels of the image that it reads and writes, 1 or 3.
        supports_exact_tiling: Whether it has layer groups; otherwise its tiles are blended.
        description: One-line description of the architecture.
        half_precisions: Half-precision types that it computes well in.
    """

    name: str
    network: nn.Module
    scale: int
    channels: int
    supports_exact_tiling: bool
    description: str
    half_precisions: frozenset[torch.dtype] = frozenset((torch.float16, torch.bfloat16))

    @classmethod
    def from_network(cls, name: str, network: Network[Any]) -> Model:
        """Return the model of a network of a registered architecture.

        Raises:
            CheckpointError: The network does not map grey to grey or RGB to RGB images.
        """
        return cls(
            name=name,
            network=network,
            scale=network.scale,
            channels=_image_channels(name, network.spec.in_channels, network.spec.out_channels),
            supports_exact_tiling=network.supports_exact_tiling,
            description=network.spec.describe(),
        )

    @property
    def unshuffle(self) -> int:
        """Image pixels per feature pixel and axis."""
        return cast(Network[Any], self.network).unshuffle if self.supports_exact_tiling else 1

    @property
    def margin(self) -> int:
        """Feature pixels at each side by which images are extended; the result there is dropped."""
        return cast(Network[Any], self.network).margin if self.supports_exact_tiling else 0

    def network_on(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Return a copy of the network on a device and in a precision, channels-last."""
        # `deepcopy` takes these instead of copies, so that weights are copied once.
        converted = {
            id(parameter): _converted(parameter, device, dtype)
            for parameter in self.network.parameters()
        }
        return copy.deepcopy(self.network, converted).requires_grad_(False).to(device, dtype)


def _converted(parameter: nn.Parameter, device: torch.device, dtype: torch.dtype) -> nn.Parameter:
    """Return a copy of a parameter on a device and in a precision, channels-last with 4 axes."""
    layout = torch.channels_last if parameter.ndim == 4 else torch.preserve_format
    data = parameter.detach().to(device, dtype, copy=True, memory_format=layout)
    return nn.Parameter(data, requires_grad=False)


def load_model(
    model: str | Path,
    *,
    denoise: float | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Model:
    """Load a catalogue model, an imported model or a checkpoint file.

    Args:
        model: Catalogue name, name of an imported model, or path of a checkpoint file.
        denoise: Denoising strength for models with a denoising partner, from 0 (keep noise) to 1
            (remove most). None for the model's default.
        progress: Callback during a download with the bytes received and the total, which is None
            if unknown.

    Raises:
        CheckpointError: There is no such model, or its file cannot be used.
        DownloadError: The weights could not be downloaded.
        DependencyError: The architecture needs the `community` extra.
        UsageError: The model has no denoising partner, or `denoise` is not in 0..1.

    Example:
        >>> from upscale import load_model
        >>> model = load_model("realesr-animevideov3")
        >>> model.description
        'SRVGGNetCompact x4, 16 convolutions, 64 features'
    """
    resolved = resolve(model, denoise=denoise, progress=progress)
    name = resolved.name
    try:
        detected = detect(resolved.state())
    except UnknownArchitectureError:
        return _community_model(name, load_community(resolved.path))
    except UnfitStateError as error:
        raise CheckpointError(f"{name}: damaged or incomplete checkpoint: {error}") from error
    return Model.from_network(name, build(detected.spec, detected.state))


def _community_model(name: str, loaded: CommunityModel) -> Model:
    half = {torch.float16: loaded.supports_half, torch.bfloat16: loaded.supports_bfloat16}
    return Model(
        name=name,
        network=PaddedNetwork(loaded),
        scale=loaded.scale,
        channels=_image_channels(name, loaded.in_channels, loaded.out_channels),
        supports_exact_tiling=False,
        description=loaded.name,
        half_precisions=frozenset(dtype for dtype, works in half.items() if works),
    )


class PaddedNetwork(nn.Module):
    """A network that only takes some sizes, extended to all sizes by reflecting the image.

    Args:
        loaded: Network with its size requirements.
    """

    def __init__(self, loaded: CommunityModel) -> None:
        super().__init__()
        self._network = loaded.module
        self._scale = loaded.scale
        self._multiple = loaded.multiple_of
        self._minimum = loaded.minimum
        self._square = loaded.square

    def forward(self, x: Tensor) -> Tensor:
        """Upscale (N, C, H, W) to (N, C', H * scale, W * scale)."""
        height, width = x.shape[2:]
        sides = [self._side(height), self._side(width)]
        sides = [max(sides)] * 2 if self._square else sides
        for axis, side in zip((2, 3), sides, strict=True):
            x = x.index_select(axis, _reflected_indices(x.shape[axis], side).to(x.device))
        return self._network(x)[:, :, : height * self._scale, : width * self._scale]

    def _side(self, length: int) -> int:
        length = max(length, self._minimum)
        return -(-length // self._multiple) * self._multiple


def _reflected_indices(length: int, side: int) -> Tensor:
    """Return `side` indices of an axis of `length` that is reflected at its ends repeatedly."""
    period = max(2 * (length - 1), 1)
    indices = torch.arange(side) % period
    return torch.minimum(indices, period - indices) if length > 1 else torch.zeros_like(indices)


def _image_channels(name: str, inputs: int, outputs: int) -> int:
    if inputs != outputs or inputs not in {1, 3}:
        raise CheckpointError(
            f"{name}: unsupported network from {inputs} to {outputs} channels; "
            "only 1 to 1 (grey) and 3 to 3 (RGB) are supported"
        )
    return inputs
