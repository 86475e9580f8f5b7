"""Selection of the convolution kernels: the fastest that compute the same image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from upscale.kernels import KernelMissingError, compiled, triton_conv
from upscale.kernels.autotune import Stopwatch, agree, device_seconds
from upscale.models import Network
from upscale.models.layers import LayerMaker, torch_layer
from upscale.tiling.group import IMAGE, LayerGroup

AUTOTUNE_SIDE = 512
"""Output side for autotuning, in pixels: large enough to make launch times negligible on a GPU."""


@dataclass(frozen=True, slots=True)
class SelectedGroups:
    """A network's layer groups with the kernels selected for them.

    Attributes:
        groups: Layer groups of the network.
        kernels: Name of the kernels, `torch` for torch's own convolutions.
        reason: Reason for not using faster kernels; None if they are used or were not requested.
    """

    groups: tuple[LayerGroup, ...]
    kernels: str = "torch"
    reason: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class NetworkOnDevice:
    """A network on the device and in the precision that it computes in.

    Attributes:
        network: Network in its precision, on its device.
        channels: Channels that its first layer group reads.
        device: Device of the network.
        dtype: Precision of the network.
    """

    network: Network[Any]
    channels: int
    device: torch.device
    dtype: torch.dtype

    def groups(self, make: LayerMaker = torch_layer) -> tuple[LayerGroup, ...]:
        """Return its layer groups: fine on a CPU, coarse elsewhere.

        Measured: on a CPU, fine groups make a tile of 128 as fast as the whole image. On a GPU,
        the launches of many small groups take longer than their work.
        """
        return self.network.layer_groups(fine=self.device.type == "cpu", make=make)


def select_groups(network: NetworkOnDevice, *, kernels: bool) -> SelectedGroups:
    """Return the network's layer groups with the fastest kernels for its device.

    Args:
        network: Network to select for.
        kernels: Whether compiled kernels may replace torch. On a GPU they are autotuned first.
    """
    select = {"cpu": _for_cpu, "cuda": _for_cuda}.get(network.device.type)
    if select is None or not kernels:
        return SelectedGroups(network.groups())
    try:
        return select(network)
    except KernelMissingError as error:
        return SelectedGroups(network.groups(), reason=str(error))


def _for_cpu(network: NetworkOnDevice) -> SelectedGroups:
    library = compiled.library_for(network.dtype)
    groups = network.groups(partial(compiled.compiled_layer, library))
    return SelectedGroups(groups, f"compiled, {library.ability}")


def _for_cuda(network: NetworkOnDevice) -> SelectedGroups:
    make = triton_conv.layer_maker(network.device, network.dtype)
    return autotune_groups(network, make, f"Triton {triton_conv.triton_version()}", device_seconds)


def autotune_groups(
    network: NetworkOnDevice,
    make: LayerMaker,
    name: str,
    seconds: Stopwatch,
    side: int = AUTOTUNE_SIDE,
) -> SelectedGroups:
    """Return the network's groups with new layers if they are correct and faster than torch's.

    Args:
        network: Network to autotune.
        make: Function that makes the new layers.
        name: Name of their kernels.
        seconds: Function that measures the time of a piece of work.
        side: Side of the groups' outputs, which are computed from random feature maps.

    Raises:
        KernelMissingError: The new layers failed, differ from torch by more than rounding, or are
            not faster.
    """
    plain = network.groups()
    try:
        fast = network.groups(make)
        inputs = _random_inputs(plain, network, side)
        for group, other, sources in zip(plain, fast, inputs, strict=True):
            if not agree(other.run(sources), group.run(sources)):
                raise KernelMissingError(f"{name} differs from torch in group {group.name}")
        before, after = (seconds(_run_all(groups, inputs)) for groups in (plain, fast))
    except KernelMissingError:
        raise
    except Exception as error:  # any failure: torch is the fallback
        raise KernelMissingError(f"{name} failed: {error}") from error
    if not after < before:
        times = f"{after * 1e3:.1f} ms, torch {before * 1e3:.1f} ms"
        raise KernelMissingError(f"{name} is not faster here: {times}")
    return SelectedGroups(fast, name)


def _run_all(
    groups: Sequence[LayerGroup], inputs: Sequence[Sequence[Tensor]]
) -> Callable[[], None]:
    def run() -> None:
        for group, sources in zip(groups, inputs, strict=True):
            group.run(sources)

    return run


def _random_inputs(
    groups: Sequence[LayerGroup], network: NetworkOnDevice, side: int
) -> list[list[Tensor]]:
    """Return random inputs for each group; inputs of one shape share a tensor."""
    tensors: dict[tuple[int, int], Tensor] = {}

    def tensor(channels: int, extent: int) -> Tensor:
        key = channels, extent
        if key not in tensors:
            values = torch.rand(1, extent, extent, channels, device=network.device) - 0.5
            tensors[key] = values.to(network.dtype).permute(0, 3, 1, 2)
        return tensors[key]

    return [
        [
            tensor(network.channels if source == IMAGE else groups[source].channels,
                   max(side // group.scale, 1) + 2 * group.valid)
            for source in group.sources
        ]
        for group in groups
    ]  # fmt: skip
