"""Degradations carried out: what can run together does, in each image's own order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from upscale_training.degradation import filters, jpeg, noise, official, resizing
from upscale_training.degradation.operations import (
    Blur,
    Degradation,
    GaussianNoise,
    Jpeg,
    Mode,
    Operation,
    PoissonNoise,
    Resize,
)
from upscale_training.degradation.precision import as_single, full_precision

_Run = Callable[[Tensor, Sequence[Any]], Tensor]

_RUNS: dict[Mode, dict[type[Operation], _Run]] = {
    "corrected": {
        Blur: filters.blur,
        GaussianNoise: noise.add_gaussian,
        PoissonNoise: noise.add_poisson,
        Jpeg: jpeg.jpeg,
    },
    "official": {
        Blur: filters.blur,
        GaussianNoise: official.add_gaussian,
        PoissonNoise: official.add_poisson,
        Jpeg: official.jpeg,
    },
}


def apply(images: Tensor, degradations: Sequence[Degradation]) -> Tensor:
    """Degrade each image as its description says.

    Args:
        images: (N, 3, H, W), red, green and blue in [0, 1], floats, on any device.
        degradations: N descriptions.

    Returns:
        (N, 3, h, w) in [0, 1], rounded to 8 bits, float32, contiguous.

    Raises:
        ValueError: there are not N descriptions, their results differ in size, or the images
            are not floats.
    """
    if len(images) != len(degradations):
        raise ValueError(f"{len(degradations)} degradations for {len(images)} images")
    whole = (images.shape[-2], images.shape[-1])
    with torch.no_grad(), full_precision(images.device):
        samples = list(as_single(images).contiguous().split(1))
        for operations in zip_longest(*(each.operations for each in degradations)):
            steps = [
                _Step(operation, each.mode, whole)
                for operation, each in zip(operations, degradations, strict=True)
            ]
            _advance(samples, steps)
        if len({sample.shape for sample in samples}) > 1:
            raise ValueError("these degradations give results of different sizes")
        return noise.to_levels(torch.cat(samples))


@dataclass(frozen=True, slots=True)
class _Step:
    """One operation on one sample; None once its degradation has ended."""

    operation: Operation | None
    mode: Mode
    whole: tuple[int, int]

    def alike(self, sample: Tensor) -> Hashable:
        """Equal for samples and steps that can run as one batch."""
        detail: Hashable = None
        if isinstance(self.operation, Resize):
            size = self.operation.size(_size(sample), self.whole)
            detail = (size, self.operation.kind, self.mode == "official" and self.operation)
        return type(self.operation), self.mode, sample.shape, detail

    def run(self, batch: Tensor, operations: Sequence[Operation | None]) -> Tensor:
        """Carry out operations that are like this one."""
        if self.operation is None:
            return batch
        if not isinstance(self.operation, Resize):
            return _RUNS[self.mode][type(self.operation)](batch, operations)
        size = self.operation.size(_size(batch), self.whole)
        if self.mode == "official":
            return official.resize(batch, size, self.operation)
        return resizing.resize(batch, size, self.operation.kind)


def _advance(samples: list[Tensor], steps: list[_Step]) -> None:
    """Replace samples by the results of their steps."""
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for member, step in enumerate(steps):
        groups[step.alike(samples[member])].append(member)
    for members in groups.values():
        batch = torch.cat([samples[member] for member in members])
        result = steps[members[0]].run(batch, [steps[member].operation for member in members])
        for member, sample in zip(members, result.split(1), strict=True):
            samples[member] = sample


def _size(sample: Tensor) -> tuple[int, int]:
    return sample.shape[-2], sample.shape[-1]
