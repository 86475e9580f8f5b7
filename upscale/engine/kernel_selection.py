"""Selection of the convolution kernels: the fastest that compute the same image."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from upscale.checkpoints.cache import cache_root
from upscale.files.error_mapping import one_line
from upscale.kernels import KernelMissingError, compiled, triton_conv
from upscale.kernels.autotune import agree
from upscale.kernels.tile_configs import Card, Shape
from upscale.kernels.trial import try_kernels
from upscale.kernels.triton_conv import Kernels, KernelUse, triton_layer
from upscale.kernels.verdicts import Record, Verdicts, find_verdicts, from_record, to_record
from upscale.models import Network
from upscale.models.layers import LayerMaker, torch_layer
from upscale.out_of_memory import is_out_of_memory
from upscale.tiling.group import IMAGE, LayerGroup

CHECKED_SIDE = 512
"""Output side of the groups whose results are compared with torch's, in pixels."""

FindVerdicts = Callable[[Card, Collection[Shape]], Verdicts]
"""Function that returns the verdict for each shape on a card."""


@dataclass(frozen=True, slots=True)
class SelectedGroups:
    """A network's layer groups with the kernels selected for them.

    Attributes:
        groups: Layer groups of the network.
        name: Name of the kernels that may compute, `torch` for torch's own convolutions.
        obstacle: Why there are no faster kernels; None if there are, or none were requested.
        use: Choice of the kernels of a GPU for each layer; None for other kernels.
        record: Verdicts about the kernels of a GPU, for a later run that needs the same.
    """

    groups: tuple[LayerGroup, ...]
    name: str = "torch"
    obstacle: str | None = None
    use: KernelUse | None = None
    record: Record = field(default_factory=dict[str, Any])

    @property
    def kernels(self) -> str:
        """Name of the kernels that have computed layers; `torch` if none has."""
        return "torch" if self.use is not None and not self.use.used else self.name

    @property
    def reason(self) -> str | None:
        """Why torch computes layers although faster kernels were requested; None if it does not."""
        if self.use is None:
            return self.obstacle
        return self.use.reason


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


def available_kernels(device: torch.device, dtype: torch.dtype) -> str:
    """Return the name of the kernels that may compute on a device, `torch` if there are none.

    It depends on the device and on what is installed, and not on measured times.
    """
    try:
        if device.type == "cpu":
            return f"compiled, {compiled.library_for(dtype).ability}"
        if device.type == "cuda":
            triton_conv.card_of(device, dtype)
            return f"Triton {triton_conv.triton_version()}"
    except KernelMissingError:
        pass
    return "torch"


def select_groups(network: NetworkOnDevice, *, kernels: bool, known: Record) -> SelectedGroups:
    """Return the network's layer groups with the fastest kernels for its device.

    Args:
        network: Network to select for.
        kernels: Whether compiled kernels may replace torch. On a GPU they are tried first.
        known: Verdicts of an earlier run, which are used where they are for this GPU.
    """
    try:
        if kernels and network.device.type == "cpu":
            return _for_cpu(network)
        if kernels and network.device.type == "cuda":
            return _for_cuda(network, known)
    except KernelMissingError as error:
        return SelectedGroups(network.groups(), obstacle=str(error), record=known)
    return SelectedGroups(network.groups(), record=known)


def _for_cpu(network: NetworkOnDevice) -> SelectedGroups:
    library = compiled.library_for(network.dtype)
    groups = network.groups(partial(compiled.compiled_layer, library))
    return SelectedGroups(groups, f"compiled, {library.ability}")


def _for_cuda(network: NetworkOnDevice, known: Record) -> SelectedGroups:
    card = triton_conv.card_of(network.device, network.dtype)
    find = partial(
        find_verdicts,
        folder=cache_root() / "kernels",
        try_out=partial(try_kernels, network.device),
    )
    return groups_with_kernels(network, card, triton_conv.load_kernels(), find, known=known)


def groups_with_kernels(
    network: NetworkOnDevice,
    card: Card,
    kernels: Kernels,
    find: FindVerdicts,
    *,
    known: Record,
    side: int = CHECKED_SIDE,
) -> SelectedGroups:
    """Return the network's groups with the kernel or torch for each layer, as the verdicts say.

    Args:
        network: Network to compute.
        card: Card of its device.
        kernels: Kernels of the card.
        find: Function that returns verdicts that are not known.
        known: Verdicts of an earlier run, which are used where they are for this card.
        side: Side of the groups' outputs, which are computed from random feature maps.

    Raises:
        KernelMissingError: The kernels failed, or differ from torch by more than rounding.
    """
    use = KernelUse(kernels)
    groups = network.groups(partial(triton_layer, use))
    inputs = _random_inputs(groups, network, side)
    try:
        # Without verdicts, torch computes and the layers note their shapes.
        by_torch = [group.run(sources) for group, sources in zip(groups, inputs, strict=True)]
        verdicts = from_record(card, known)
        if missing := use.shapes - set(verdicts):
            verdicts |= find(card, missing)
        use.verdicts = verdicts
        for group, sources, expected in zip(groups, inputs, by_torch, strict=True):
            if not agree(group.run(sources), expected):
                raise KernelMissingError(f"the kernels differ from torch in group {group.name}")
    except KernelMissingError:
        raise
    except Exception as error:  # any other failure: torch is the fallback
        if is_out_of_memory(error):
            raise
        raise KernelMissingError(f"the kernels failed: {one_line(error)}") from error
    name = f"Triton {triton_conv.triton_version()}"
    return SelectedGroups(groups, name, use=use, record={**known, **to_record(card, verdicts)})


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
        + [tensor(groups[source].channels, 1) for source in group.means]
        for group in groups
    ]  # fmt: skip
