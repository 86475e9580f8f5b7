"""What networks begin with: fresh weights, or those of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor, nn

from upscale.checkpoints import read_state_dict, resolve
from upscale.errors import TrainingError, UpscaleError
from upscale.models import (
    RRDBNet,
    RRDBSpec,
    Spec,
    SRVGGNetCompact,
    SRVGGSpec,
    UnknownArchitectureError,
    build,
    detect,
)
from upscale.models.rrdbnet import DenseBlock
from upscale_training.networks import PatchDiscriminator, UNetDiscriminator, VGGStyleDiscriminator
from upscale_training.recipe import DiscriminatorSettings

_SMALLER = 0.1
"""ESRGAN (arXiv 1809.00219), section 3.1: residual learning wants a smaller initialisation."""

_SHOWN = 3

State = Mapping[str, Tensor]


def fresh_generator(spec: Spec) -> RRDBNet | SRVGGNetCompact:
    """Make a network with weights drawn from torch's random numbers.

    Convolutions of dense blocks get a tenth of He's weights (as in basicsr) and no biases, others
    torch's defaults.
    """
    network = build(spec)
    for block in network.modules():
        if isinstance(block, DenseBlock):
            for convolution in block.children():
                assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
                nn.init.kaiming_normal_(convolution.weight)
                convolution.weight.data *= _SMALLER
                nn.init.zeros_(convolution.bias)
    return network


def fresh_discriminator(settings: DiscriminatorSettings, patch: int) -> nn.Module:
    """Make a discriminator with weights drawn from torch's random numbers."""
    if settings.kind == "unet":
        return UNetDiscriminator(features=settings.features)
    if settings.kind == "vgg":
        return VGGStyleDiscriminator(features=settings.features, size=patch)
    return PatchDiscriminator(features=settings.features)


def start_generator(network: RRDBNet | SRVGGNetCompact, path: str | Path) -> str:
    """Load a checkpoint, which may be of another scale, into a network.

    A network for x2 or x1 that gets weights of one for x4 gives, before any upscale_training:

    - as RRDBNet, what the x4 network gives for the image shrunk by 2 or 4 with a box, because
      the first convolution takes the mean of the pixels that an unshuffled pixel stands for; the
      body and the tail, which upscales by 4 at every scale, are taken as they are;
    - as SRVGGNetCompact, the result of the x4 network shrunk by 2 or 4 with a box, because the
      last convolution gives the mean of the pixels that one stands for.

    Args:
        network: whose weights are set.
        path: of a checkpoint that `upscale` reads, or a network's name.

    Returns:
        What was done, in one line.

    Raises:
        TrainingError: it does not fit; the message says which tensors are missing, belong to
            another network, or have another shape.
        CheckpointError, DownloadError: it cannot be read.
    """
    state = resolve(path).state()
    try:
        found = detect(state)
    except UnknownArchitectureError as error:
        raise TrainingError(f"{path}: {error}; start from one, or from none") from error
    except UpscaleError as error:
        raise TrainingError(f"{path}: {error}") from error
    derived = _derived(found.state, found.spec, network.spec)
    _check_fit(path, network, derived, f"{found.spec.describe()}, not {network.spec.describe()}")
    network.load_state_dict({key: value.float() for key, value in derived.items()})
    if found.spec.scale == network.scale:
        return f"starts from {path}"
    return f"starts from {path}, whose x{found.spec.scale} is made x{network.scale}"


def start_discriminator(judge: nn.Module, path: Path) -> str:
    """Load a checkpoint into a discriminator; see `start_generator`."""
    state = read_state_dict(path)
    _check_fit(path, judge, state, "another discriminator than the recipe's")
    judge.load_state_dict(dict(state))
    return f"the discriminator starts from {path}"


def _derived(state: State, found: Spec, wanted: Spec) -> State:
    """Tensors for the wanted scale, where the networks differ in nothing else."""
    if isinstance(found, RRDBSpec) and isinstance(wanted, RRDBSpec):
        weight = state["conv_first.weight"]
        outputs, inputs, *kernel = weight.shape
        inputs //= found.unshuffle**2
        parts = weight.reshape(outputs, inputs, found.unshuffle, found.unshuffle, *kernel)
        first = _spread(parts, wanted.unshuffle).reshape(outputs, -1, *kernel)
        return {**state, "conv_first.weight": first}
    if isinstance(found, SRVGGSpec) and isinstance(wanted, SRVGGSpec):
        last = f"body.{2 * found.convolutions + 2}."
        return {
            key: _rescaled(tensor, found, wanted) if key.startswith(last) else tensor
            for key, tensor in state.items()
        }
    return state


def _spread(parts: Tensor, side: int) -> Tensor:
    """Kernels (O, C, s, s, h, w) for sub-pixels of s x s for those of side x side.

    A finer grid shares a kernel out evenly, a coarser one sums: a flat input gives the same.
    """
    own = parts.shape[2]
    if side >= own:
        finer = side // own
        return (parts / finer**2).repeat_interleave(finer, 2).repeat_interleave(finer, 3)
    outputs, inputs, _, _, *kernel = parts.shape
    coarser = own // side
    return parts.reshape(outputs, inputs, side, coarser, side, coarser, *kernel).sum((3, 5))


def _rescaled(tensor: Tensor, found: SRVGGSpec, wanted: SRVGGSpec) -> Tensor:
    """Weights (C * s * s, ...) of the last convolution for the wanted number of sub-pixels."""
    rest = tensor.shape[1:]
    parts = tensor.reshape(found.out_channels, found.scale, found.scale, *rest)
    if wanted.scale >= found.scale:
        finer = wanted.scale // found.scale
        parts = parts.repeat_interleave(finer, 1).repeat_interleave(finer, 2)
    else:
        coarser = found.scale // wanted.scale
        blocks = (wanted.scale, coarser, wanted.scale, coarser)
        parts = parts.reshape(found.out_channels, *blocks, *rest).mean((2, 4))
    return parts.reshape(-1, *rest)


def _check_fit(path: str | Path, network: nn.Module, state: State, what: str) -> None:
    misfits = list(_misfits(network.state_dict(), state))
    if misfits:
        shown = "; ".join(misfits[:_SHOWN])
        more = f"; and {len(misfits) - _SHOWN} more" if len(misfits) > _SHOWN else ""
        raise TrainingError(f"{path}: is of {what}: {shown}{more}")


def _misfits(wanted: State, found: State) -> Iterator[str]:
    for key, tensor in wanted.items():
        if key not in found:
            yield f"{key} is missing"
        elif found[key].shape != tensor.shape:
            shapes = f"{tuple(found[key].shape)} instead of {tuple(tensor.shape)}"
            yield f"{key} has shape {shapes}"
    for key in found.keys() - wanted.keys():
        yield f"{key} belongs to another network"
