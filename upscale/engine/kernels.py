"""Which convolutions a network runs with on a device: the fastest that give the same picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from upscale.kernels import KernelMissingError, compiled, triton_conv
from upscale.kernels.trial import Stopwatch, agree, device_seconds
from upscale.models import Stage, StagedModel
from upscale.models.layers import LayerMaker, torch_layer
from upscale.models.stages import IMAGE

TRIAL_SIDE = 512
"""Output pixels a side of stages on trial: as many as make a GPU forget what a start costs."""


@dataclass(frozen=True, slots=True)
class StageList:
    """A network's stages and what computes their convolutions.

    Attributes:
        stages: see `StagedModel`.
        kernels: `torch`, or which kernels.
        reason: why kernels are not used; None where they are, or were not asked for.
    """

    stages: tuple[Stage, ...]
    kernels: str = "torch"
    reason: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A network where it computes.

    Attributes:
        network: in its precision, on its device.
        channels: that its first stage reads.
        device: where it is.
        dtype: its precision.
    """

    network: StagedModel
    channels: int
    device: torch.device
    dtype: torch.dtype

    def stages(self, make: LayerMaker = torch_layer) -> tuple[Stage, ...]:
        """Its stages, fine where a step costs little beside its work.

        Measured: on a CPU fine stages make a tile of 128 as fast as the whole picture. A GPU waits
        for the steps of small stages instead of computing.
        """
        return self.network.stages(fine=self.device.type == "cpu", make=make)


def stage_list(placed: Placed, *, kernels: bool) -> StageList:
    """The network's stages with the fastest convolutions for the device; torch's without `kernels`.

    What a GPU could use is tried out on it first: see `tried`.
    """
    find = {"cpu": _for_cpu, "cuda": _for_cuda}.get(placed.device.type)
    if find is None or not kernels:
        return StageList(placed.stages())
    try:
        return find(placed)
    except KernelMissingError as error:
        return StageList(placed.stages(), reason=str(error))


def _for_cpu(placed: Placed) -> StageList:
    library = compiled.library_for(placed.dtype)
    stages = placed.stages(partial(compiled.compiled_layer, library))
    return StageList(stages, f"compiled, {library.ability}")


def _for_cuda(placed: Placed) -> StageList:
    make = triton_conv.layer_maker(placed.device, placed.dtype)
    return tried(placed, make, f"Triton {triton_conv.triton_version()}", device_seconds)


def tried(
    placed: Placed, make: LayerMaker, name: str, seconds: Stopwatch, side: int = TRIAL_SIDE
) -> StageList:
    """A network with a maker's layers, if they give what torch's do, and sooner.

    Args:
        placed: the network.
        make: makes the layers on trial.
        name: of their kernels.
        seconds: times a piece of work.
        side: of the stages' outputs, which are computed from random planes.

    Raises:
        KernelMissingError: they failed, differ in a stage by more than rounding, or take as long.
    """
    plain = placed.stages()
    try:
        fast = placed.stages(make)
        inputs = _inputs(plain, placed, side)
        for stage, other, planes in zip(plain, fast, inputs, strict=True):
            if not agree(other.run(planes), stage.run(planes)):
                raise KernelMissingError(f"{name} differs from torch in stage {stage.name}")
        before, after = (seconds(_run_of(stages, inputs)) for stages in (plain, fast))
    except KernelMissingError:
        raise
    except Exception as error:  # whatever it is, torch can do the work
        raise KernelMissingError(f"{name} failed: {error}") from error
    if not after < before:
        times = f"{after * 1e3:.1f} ms, torch {before * 1e3:.1f} ms"
        raise KernelMissingError(f"{name} is not faster here: {times}")
    return StageList(fast, name)


def _run_of(stages: Sequence[Stage], inputs: Sequence[Sequence[Tensor]]) -> Callable[[], None]:
    def run() -> None:
        for stage, planes in zip(stages, inputs, strict=True):
            stage.run(planes)

    return run


def _inputs(stages: Sequence[Stage], placed: Placed, side: int) -> list[list[Tensor]]:
    """Random planes for each stage; those of one shape are one."""
    found: dict[tuple[int, int], Tensor] = {}

    def plane(channels: int, extent: int) -> Tensor:
        key = channels, extent
        if key not in found:
            values = torch.rand(1, extent, extent, channels, device=placed.device) - 0.5
            found[key] = values.to(placed.dtype).permute(0, 3, 1, 2)
        return found[key]

    return [
        [
            plane(placed.channels if source == IMAGE else stages[source].channels,
                  max(side // stage.scale, 1) + 2 * stage.valid)
            for source in stage.sources
        ]
        for stage in stages
    ]  # fmt: skip
