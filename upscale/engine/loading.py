"""From a model's name or file to a network ready to compute."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from upscale.checkpoints import CommunityModel, load_community, resolve
from upscale.errors import CheckpointError
from upscale.models import (
    GroupedModel,
    UnfitStateError,
    UnknownArchitectureError,
    build,
    detect,
)


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A network with what the engine must know of it.

    Attributes:
        name: what the user called it.
        network: the module, in fp32 on the CPU, in evaluation mode.
        scale: output pixels per image pixel and axis.
        channels: channels of the image that it reads and writes, 1 or 3.
        staged: whether it can be cut into groups, and so tiled exactly.
        description: its architecture in one line.
        half_precisions: those that it computes well in, beside fp32.
    """

    name: str
    network: nn.Module
    scale: int
    channels: int
    staged: bool
    description: str
    half_precisions: frozenset[torch.dtype] = frozenset((torch.float16, torch.bfloat16))

    @property
    def unshuffle(self) -> int:
        """Image pixels per plane pixel and axis."""
        return cast(GroupedModel, self.network).unshuffle if self.staged else 1

    def network_on(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """A copy of the network for a device and precision, channels-last."""
        network = copy.deepcopy(self.network).requires_grad_(False).to(device, dtype)
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return network


def load_model(
    model: str | Path,
    *,
    denoise: float | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Model:
    """Load a catalogue model, an imported model or a checkpoint file.

    Args:
        model: a name of the catalogue, of an imported model, or the path of a file.
        denoise: for models with a denoising partner, 0 (keep noise) to 1 (remove most).
        progress: told the bytes done, and the total where it is known, during a download.

    Raises:
        CheckpointError: there is no such model, or the file is none.
        DownloadError: its weights are not here and could not be fetched.
        DependencyError: the architecture needs the `community` extra.
        UsageError: `denoise` does not fit the model.
    """
    resolved = resolve(model, denoise=denoise, progress=progress)
    name = resolved.name
    try:
        found = detect(resolved.state())
    except UnknownArchitectureError:
        return _community_model(name, load_community(resolved.path))
    except UnfitStateError as error:
        raise CheckpointError(f"{name}: damaged or incomplete checkpoint: {error}") from error
    network = build(found.spec, found.state)
    return Model(
        name=name,
        network=network,
        scale=network.scale,
        channels=_image_channels(name, found.spec.in_channels, found.spec.out_channels),
        staged=True,
        description=found.spec.describe(),
    )


def _community_model(name: str, loaded: CommunityModel) -> Model:
    half = {torch.float16: loaded.supports_half, torch.bfloat16: loaded.supports_bfloat16}
    return Model(
        name=name,
        network=Padded(loaded),
        scale=loaded.scale,
        channels=_image_channels(name, loaded.in_channels, loaded.out_channels),
        staged=False,
        description=loaded.name,
        half_precisions=frozenset(dtype for dtype, works in half.items() if works),
    )


class Padded(nn.Module):
    """A network that takes only some sizes, made to take all: images are mirrored outwards."""

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
        wanted = [self._side(height), self._side(width)]
        wanted = [max(wanted)] * 2 if self._square else wanted
        for axis, side in zip((2, 3), wanted, strict=True):
            x = x.index_select(axis, _mirrored(x.shape[axis], side).to(x.device))
        return self._network(x)[:, :, : height * self._scale, : width * self._scale]

    def _side(self, length: int) -> int:
        length = max(length, self._minimum)
        return -(-length // self._multiple) * self._multiple


def _mirrored(length: int, side: int) -> Tensor:
    """Indices that run to and fro over an axis of `length` until there are `side` of them."""
    period = max(2 * (length - 1), 1)
    indices = torch.arange(side) % period
    return torch.minimum(indices, period - indices) if length > 1 else torch.zeros_like(indices)


def _image_channels(name: str, inputs: int, outputs: int) -> int:
    if inputs != outputs or inputs not in {1, 3}:
        raise CheckpointError(
            f"{name}: it maps {inputs} channels to {outputs}; only 1 to 1 and 3 to 3 are images"
        )
    return inputs
