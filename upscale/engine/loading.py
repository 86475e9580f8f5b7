"""From a model's name or file to a network ready to compute."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from upscale import checkpoints
from upscale.errors import CheckpointError
from upscale.models import StagedModel, UnknownArchitectureError, build, detect


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A network with what the engine must know of it.

    Attributes:
        name: what the user called it.
        network: the module, in fp32 on the CPU, in evaluation mode.
        scale: output pixels per picture pixel and axis.
        channels: channels of the picture that it reads and writes, 1 or 3.
        staged: whether it can be cut into stages, and so tiled exactly.
        description: its architecture in one line.
    """

    name: str
    network: nn.Module
    scale: int
    channels: int
    staged: bool
    description: str

    @property
    def unshuffle(self) -> int:
        """Picture pixels per plane pixel and axis."""
        return cast(StagedModel, self.network).unshuffle if self.staged else 1

    def network_on(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """A copy of the network for a device and precision, channels-last."""
        network = copy.deepcopy(self.network).requires_grad_(False).to(device, dtype)
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return network


def load_model(model: str | Path, *, denoise: float | None = None) -> Model:
    """Load a catalogue model, an imported model or a checkpoint file.

    Args:
        model: a name of the catalogue, of an imported model, or the path of a file.
        denoise: for models with a denoising partner, 0 (keep noise) to 1 (remove most).

    Raises:
        CheckpointError: there is no such model, or the file is none.
        DownloadError: its weights are not here and could not be fetched.
        DependencyError: the architecture needs the `community` extra.
        UsageError: `denoise` does not fit the model.
    """
    opened = checkpoints.open_checkpoint(model, denoise=denoise)
    try:
        found = detect(opened.state)
    except UnknownArchitectureError as error:
        if opened.path is None:
            raise CheckpointError(f"{model}: {error}") from error
        return _community_model(opened.name, opened.path)
    except CheckpointError as error:
        raise CheckpointError(f"{model}: damaged or incomplete checkpoint: {error}") from error
    network = build(found.spec, found.state)
    return Model(
        name=opened.name,
        network=network,
        scale=network.scale,
        channels=_picture_channels(opened.name, found.spec.in_channels, found.spec.out_channels),
        staged=True,
        description=found.spec.describe(),
    )


def _community_model(name: str, path: Path) -> Model:
    loaded = checkpoints.load_community(path)
    return Model(
        name=name,
        network=loaded.module,
        scale=loaded.scale,
        channels=_picture_channels(name, loaded.in_channels, loaded.out_channels),
        staged=False,
        description=loaded.name,
    )


def _picture_channels(name: str, inputs: int, outputs: int) -> int:
    if inputs != outputs or inputs not in {1, 3}:
        raise CheckpointError(
            f"{name}: it maps {inputs} channels to {outputs}; only 1 to 1 and 3 to 3 are pictures"
        )
    return inputs
