"""Initial weights of networks: random ones, or those of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
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
from upscale_training.loop.state import COMMON, read_part
from upscale_training.networks import PatchDiscriminator, UNetDiscriminator, VGGStyleDiscriminator
from upscale_training.networks.spandrel_network import SpandrelNetwork, SpandrelSpec
from upscale_training.recipe import DiscriminatorSettings

MAX_PARAMETERS = 500_000_000
"""The largest network of the field, SwinIR-L for real images, has 28 million."""

_SHOWN = 3

State = Mapping[str, Tensor]


def fresh_generator(spec: Spec) -> Network[Any]:
    """Build a generator with the random initial weights of its architecture.

    Raises:
        TrainingError: The network is too large.
    """
    if isinstance(spec, SpandrelSpec):  # its class initialises its weights
        return SpandrelNetwork(spec)
    _check_size(lambda: build(spec), spec.describe())
    network = build(spec)
    architecture_of(spec).initialise(network)
    return network


def trained_generator(spec: Spec, state: State) -> Network[Any]:
    """Build a generator with the weights of a saved state, in evaluation mode."""
    if not isinstance(spec, SpandrelSpec):
        return build(spec, state)
    network = SpandrelNetwork(spec)
    network.load_state_dict(dict(state))
    return network.eval()


def fresh_discriminator(settings: DiscriminatorSettings, patch: int) -> nn.Module:
    """Build a discriminator with random initial weights.

    Raises:
        TrainingError: The network is too large.
    """
    _check_size(lambda: _discriminator(settings, patch), f"the {settings.kind} discriminator")
    return _discriminator(settings, patch)


def _discriminator(settings: DiscriminatorSettings, patch: int) -> nn.Module:
    if settings.kind == "unet":
        return UNetDiscriminator(features=settings.features)
    if settings.kind == "vgg":
        return VGGStyleDiscriminator(features=settings.features, size=patch)
    return PatchDiscriminator(features=settings.features)


def _check_size(make: Callable[[], nn.Module], name: str) -> None:
    """Raise an error for a network that is too large, before memory is allocated for it."""
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in make().parameters())
    if count > MAX_PARAMETERS:
        raise TrainingError(
            f"{name} has {count:,} parameters, more than {MAX_PARAMETERS:,}; use fewer features"
        )


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
    if isinstance(network, SpandrelNetwork):
        _check_fit(path, network, state, f"another network than {network.spec.describe()}")
        network.load_state_dict({key: value.float() for key, value in state.items()})
        return f"starts from {path}"
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


def start_discriminator(
    discriminator: nn.Module, path: Path
) -> tuple[str, Mapping[str, Any] | None]:
    """Load a checkpoint into a discriminator; see `start_generator`.

    Args:
        discriminator: Network that receives the weights.
        path: Checkpoint file; or the folder of a saved state or its `common.pt`, which has the
            optimiser, too.

    Returns:
        A one-line note on what was loaded, and the state of the optimiser or None.
    """
    file = path / COMMON if path.is_dir() else path
    part = _saved_discriminator(file) if file.name == COMMON else None
    state = read_state_dict(file) if part is None else part["network"]
    _check_fit(path, discriminator, state, "another discriminator than the recipe's")
    discriminator.load_state_dict(dict(state))
    if part is None:
        return f"the discriminator starts from {path}", None
    return f"the discriminator and its optimiser start from {path}", part["optimiser"]


def _saved_discriminator(path: Path) -> Mapping[str, Any]:
    part = read_part(path).get("judge")
    if not isinstance(part, Mapping) or not {"network", "optimiser"} <= part.keys():
        raise TrainingError(
            f"{path}: contains no discriminator; name a state of a stage with a gan loss"
        )
    return cast("Mapping[str, Any]", part)


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
