"""Which convolutions a network runs with on a device: the fastest that give the same image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from upscale.kernels import KernelMissingError, compiled, triton_conv
from upscale.kernels.autotune import Stopwatch, agree, device_seconds
from upscale.models import GroupedModel
from upscale.models.layers import LayerMaker, torch_layer
from upscale.tiling.group import IMAGE, LayerGroup

TRIAL_SIDE = 512
"""Output pixels a side of groups on trial: as many as make a GPU forget what a start costs."""


@dataclass(frozen=True, slots=True)
class GroupList:
    """A network's groups and what computes their convolutions.

    Attributes:
        groups: see `GroupedModel`.
        kernels: `torch`, or which kernels.
        reason: why kernels are not used; None where they are, or were not asked for.
    """

    groups: tuple[LayerGroup, ...]
    kernels: str = "torch"
    reason: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A network where it computes.

    Attributes:
        network: in its precision, on its device.
        channels: that its first group reads.
        device: where it is.
        dtype: its precision.
    """

    network: GroupedModel
    channels: int
    device: torch.device
    dtype: torch.dtype

    def groups(self, make: LayerMaker = torch_layer) -> tuple[LayerGroup, ...]:
        """Its groups, fine where a step costs little beside its work.

        Measured: on a CPU fine groups make a tile of 128 as fast as the whole image. A GPU waits
        for the steps of small groups instead of computing.
        """
        return self.network.groups(fine=self.device.type == "cpu", make=make)


def group_list(placed: Placed, *, kernels: bool) -> GroupList:
    """The network's groups with the fastest convolutions for the device; torch's without `kernels`.

    What a GPU could use is tried out on it first: see `tried`.
    """
    find = {"cpu": _for_cpu, "cuda": _for_cuda}.get(placed.device.type)
    if find is None or not kernels:
        return GroupList(placed.groups())
    try:
        return find(placed)
    except KernelMissingError as error:
        return GroupList(placed.groups(), reason=str(error))


def _for_cpu(placed: Placed) -> GroupList:
    library = compiled.library_for(placed.dtype)
    groups = placed.groups(partial(compiled.compiled_layer, library))
    return GroupList(groups, f"compiled, {library.ability}")


def _for_cuda(placed: Placed) -> GroupList:
    make = triton_conv.layer_maker(placed.device, placed.dtype)
    return tried(placed, make, f"Triton {triton_conv.triton_version()}", device_seconds)


def tried(
    placed: Placed, make: LayerMaker, name: str, seconds: Stopwatch, side: int = TRIAL_SIDE
) -> GroupList:
    """A network with a maker's layers, if they give what torch's do, and sooner.

    Args:
        placed: the network.
        make: makes the layers on trial.
        name: of their kernels.
        seconds: times a piece of work.
        side: of the groups' outputs, which are computed from random planes.

    Raises:
        KernelMissingError: they failed, differ in a group by more than rounding, or take as long.
    """
    plain = placed.groups()
    try:
        fast = placed.groups(make)
        inputs = _inputs(plain, placed, side)
        for group, other, planes in zip(plain, fast, inputs, strict=True):
            if not agree(other.run(planes), group.run(planes)):
                raise KernelMissingError(f"{name} differs from torch in group {group.name}")
        before, after = (seconds(_run_of(groups, inputs)) for groups in (plain, fast))
    except KernelMissingError:
        raise
    except Exception as error:  # whatever it is, torch can do the work
        raise KernelMissingError(f"{name} failed: {error}") from error
    if not after < before:
        times = f"{after * 1e3:.1f} ms, torch {before * 1e3:.1f} ms"
        raise KernelMissingError(f"{name} is not faster here: {times}")
    return GroupList(fast, name)


def _run_of(groups: Sequence[LayerGroup], inputs: Sequence[Sequence[Tensor]]) -> Callable[[], None]:
    def run() -> None:
        for group, planes in zip(groups, inputs, strict=True):
            group.run(planes)

    return run


def _inputs(groups: Sequence[LayerGroup], placed: Placed, side: int) -> list[list[Tensor]]:
    """Random planes for each group; those of one shape are one."""
    found: dict[tuple[int, int], Tensor] = {}

    def plane(channels: int, extent: int) -> Tensor:
        key = channels, extent
        if key not in found:
            values = torch.rand(1, extent, extent, channels, device=placed.device) - 0.5
            found[key] = values.to(placed.dtype).permute(0, 3, 1, 2)
        return found[key]

    return [
        [
            plane(placed.channels if source == IMAGE else groups[source].channels,
                  max(side // group.scale, 1) + 2 * group.valid)
            for source in group.sources
        ]
        for group in groups
    ]  # fmt: skip
