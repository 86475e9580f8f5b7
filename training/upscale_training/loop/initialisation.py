"""Initial weights of networks: random ones, or those of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from upscale.checkpoints import read_state_dict, resolve
from upscale.errors import TrainingError, UpscaleError
from upscale.models import (
    Network,
    Spec,
    UnknownArchitectureError,
    architecture_of,
    build,
    detect,
    rescale,
)
from upscale_training.networks import PatchDiscriminator, UNetDiscriminator, VGGStyleDiscriminator
from upscale_training.recipe import DiscriminatorSettings

_SHOWN = 3

State = Mapping[str, Tensor]


def fresh_generator(spec: Spec) -> Network[Any]:
    """Build a generator with the random initial weights of its architecture."""
    network = build(spec)
    architecture_of(spec).initialise(network)
    return network


def fresh_discriminator(settings: DiscriminatorSettings, patch: int) -> nn.Module:
    """Build a discriminator with random initial weights."""
    if settings.kind == "unet":
        return UNetDiscriminator(features=settings.features)
    if settings.kind == "vgg":
        return VGGStyleDiscriminator(features=settings.features, size=patch)
    return PatchDiscriminator(features=settings.features)


def start_generator(network: Network[Any], path: str | Path) -> str:
    """Load a checkpoint, which may be of another scale, into a network.

    Weights of another scale are moved as the `rescale` of the architecture describes.

    Args:
        network: Network that receives the weights.
        path: Checkpoint file or model name, as `upscale -n` takes it.

    Returns:
        A one-line note on what was loaded.

    Raises:
        TrainingError: The weights do not fit; the message lists tensors that are missing, belong
            to another network, or have another shape.
        CheckpointError, DownloadError: The checkpoint cannot be read.
    """
    state = resolve(path).state()
    try:
        found = detect(state)
    except UnknownArchitectureError as error:
        raise TrainingError(f"{path}: {error}; name such a network, or remove start") from error
    except UpscaleError as error:
        raise TrainingError(f"{path}: {error}") from error
    derived = rescale(found, network.spec)
    _check_fit(path, network, derived, f"{found.spec.describe()}, not {network.spec.describe()}")
    network.load_state_dict({key: value.float() for key, value in derived.items()})
    if found.spec.scale == network.scale:
        return f"starts from {path}"
    return f"starts from {path}, converted from x{found.spec.scale} to x{network.scale}"


def start_discriminator(discriminator: nn.Module, path: Path) -> str:
    """Load a checkpoint into a discriminator; see `start_generator`."""
    state = read_state_dict(path)
    _check_fit(path, discriminator, state, "another discriminator than the recipe's")
    discriminator.load_state_dict(dict(state))
    return f"the discriminator starts from {path}"


def _check_fit(path: str | Path, network: nn.Module, state: State, description: str) -> None:
    misfits = list(_misfits(network.state_dict(), state))
    if misfits:
        shown = "; ".join(misfits[:_SHOWN])
        more = f"; and {len(misfits) - _SHOWN} more" if len(misfits) > _SHOWN else ""
        raise TrainingError(f"{path}: contains {description}: {shown}{more}")


def _misfits(expected: State, actual: State) -> Iterator[str]:
    for key, tensor in expected.items():
        if key not in actual:
            yield f"{key} is missing"
        elif actual[key].shape != tensor.shape:
            shapes = f"{tuple(actual[key].shape)} instead of {tuple(tensor.shape)}"
            yield f"{key} has shape {shapes}"
    for key in actual.keys() - expected.keys():
        yield f"{key} belongs to another network"
