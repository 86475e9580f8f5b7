"""Apply degradations to a batch: operations that can run together do, in each image's order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from upscale.errors import UsageError
from upscale_training.degradation import filters, grain, jpeg, noise, official, resizing
from upscale_training.degradation.operations import (
    OFFICIAL,
    OPERATIONS,
    Blur,
    Degradation,
    FilmGrain,
    GaussianNoise,
    Jpeg,
    Mode,
    Operation,
    PoissonNoise,
    Resize,
)
from upscale_training.degradation.precision import as_single, full_precision
from upscale_training.degradation.steps import (
    STEPS,
    BlurStep,
    EitherOrder,
    GrainStep,
    JpegStep,
    NoiseStep,
    ResizeStep,
    Step,
)

Run = Callable[[Tensor, Sequence[Any]], Tensor]
"""Applies N operations of one class to images (N, 3, H, W) in [0, 1], float32."""

RunTogether = Callable[[Sequence[Tensor], Sequence[Any]], list[Tensor]]
"""Applies N operations of one class to N images (1, 3, H, W), whose sizes may differ."""

_TOGETHER: dict[type[Operation], RunTogether] = {
    Jpeg: jpeg.jpeg_together,
    PoissonNoise: noise.add_poisson_together,
}
"""Operations that consist of many small calls, which a GPU waits for."""

_RUNS: dict[Mode, dict[type[Operation], Run]] = {"corrected": {}, "official": {}}


def register_degradation(
    name: str,
    step: type[Step],
    operations: Mapping[type[Operation], Run],
    official_operations: Mapping[type[Operation], Run] | None = None,
) -> None:
    """Make a degradation available to recipes, to JSON descriptions and to `apply`.

    Args:
        name: Name of the step in recipes (`do`).
        step: Settings class that samples operations, made with `upscale_training.schema.settings`.
        operations: Operation classes that the step samples, with the functions that apply them.
        official_operations: Functions for mode `official`; None if basicsr lacks the degradation.

    Raises:
        UsageError: The name of the step or of an operation is taken.

    Example:
        >>> from dataclasses import dataclass
        >>> from typing import ClassVar, Literal
        >>> import torch
        >>> from upscale_training.schema import Probability, settings
        >>> @dataclass(frozen=True, slots=True)
        ... class Invert(Operation):
        ...     do: ClassVar[str] = "invert"
        >>> @settings
        ... class InvertStep(Step):
        ...     do: Literal["invert"] = "invert"
        ...     probability: Probability = 0.5
        ...     def sample(self, own, shared, scale):
        ...         return (Invert(),) if own.chance(self.probability) else ()
        >>> register_degradation("invert", InvertStep, {Invert: lambda images, _: 1 - images})
        >>> apply(torch.zeros(1, 3, 2, 2), [Degradation((Invert(),))]).mean().item()
        1.0
        >>> unregister_degradation("invert")
    """
    taken = [each.do for each in operations if each.do in OPERATIONS]
    if name in STEPS or taken:
        raise UsageError(f"{[name, *taken][-1]}: a degradation of this name is registered already")
    STEPS[name] = step
    OPERATIONS.update({each.do: each for each in operations})
    _RUNS["corrected"].update(operations)
    _RUNS["official"].update(official_operations or {})
    OFFICIAL.update(official_operations or {})
    _OPERATIONS_OF[step] = tuple(operations)


def unregister_degradation(name: str) -> None:
    """Remove a degradation that `register_degradation` added.

    Args:
        name: Name of the step in recipes.

    Raises:
        KeyError: There is no such step.

    Example:
        >>> unregister_degradation("unknown")
        Traceback (most recent call last):
        KeyError: 'unknown'
    """
    for operation in _OPERATIONS_OF.pop(STEPS.pop(name)):
        del OPERATIONS[operation.do]
        OFFICIAL.discard(operation)
        for runs in _RUNS.values():
            runs.pop(operation, None)


_OPERATIONS_OF: dict[type[Step], tuple[type[Operation], ...]] = {}


def apply(images: Tensor, degradations: Sequence[Degradation]) -> Tensor:
    """Degrade each image of a batch with its own degradation.

    Args:
        images: Tensor of shape (N, 3, H, W), RGB in [0, 1], floats, on any device.
        degradations: N descriptions.

    Returns:
        Tensor of shape (N, 3, h, w) in [0, 1], rounded to 8 bits, float32, contiguous.

    Raises:
        ValueError: The number of descriptions is not N, their results differ in size, or the
            images are not floats.

    Example:
        >>> import torch
        >>> degradation = Degradation((Resize("bicubic", 1, scale=4), Jpeg(75)))
        >>> apply(torch.rand(1, 3, 64, 64), [degradation]).shape
        torch.Size([1, 3, 16, 16])
    """
    if len(images) != len(degradations):
        raise ValueError(f"{len(degradations)} degradations for {len(images)} images")
    image_size = (images.shape[-2], images.shape[-1])
    with torch.no_grad(), full_precision(images.device):
        samples = list(as_single(images).contiguous().split(1))
        for operations in zip_longest(*(each.operations for each in degradations)):
            tasks = [
                _Task(operation, each.mode, image_size)
                for operation, each in zip(operations, degradations, strict=True)
            ]
            _advance(samples, tasks)
        if len({sample.shape for sample in samples}) > 1:
            raise ValueError("these degradations give results of different sizes")
        return noise.to_levels(torch.cat(samples))


@dataclass(frozen=True, slots=True)
class _Task:
    """One operation on one sample; the operation is None after the end of the degradation."""

    operation: Operation | None
    mode: Mode
    image_size: tuple[int, int]

    def group(self, sample: Tensor) -> Hashable:
        """Return a key that is equal for tasks that can run as one batch."""
        detail: Hashable = None
        if isinstance(self.operation, Resize):
            size = self.operation.size(_size(sample), self.image_size)
            detail = (size, self.operation.kind, self.mode == "official" and self.operation)
        shape = None if self.joins(sample) else sample.shape
        return type(self.operation), self.mode, shape, detail

    def joins(self, sample: Tensor) -> bool:
        """Return whether the task can run with others on images of other sizes."""
        return (
            self.mode == "corrected"
            and type(self.operation) in _TOGETHER
            and counts_calls(sample.device)
            and sample.shape[-1] > jpeg.NARROW
        )

    def run(self, batch: Tensor, operations: Sequence[Operation | None]) -> Tensor:
        """Apply the operations of all tasks of one group."""
        if self.operation is None:
            return batch
        if not isinstance(self.operation, Resize):
            return _RUNS[self.mode][type(self.operation)](batch, operations)
        size = self.operation.size(_size(batch), self.image_size)
        if self.mode == "official":
            return official.resize(batch, size, self.operation)
        return resizing.resize(batch, size, self.operation.kind)


def _advance(samples: list[Tensor], tasks: list[_Task]) -> None:
    """Replace samples by the results of their tasks."""
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for index, task in enumerate(tasks):
        groups[task.group(samples[index])].append(index)
    for members in groups.values():
        images = [samples[index] for index in members]
        operations = [tasks[index].operation for index in members]
        first = tasks[members[0]]
        if len({image.shape for image in images}) > 1:
            results = _TOGETHER[type(operations[0])](images, operations)  # pyright: ignore[reportArgumentType]
        else:
            results = first.run(torch.cat(images), operations).split(1)
        for index, sample in zip(members, results, strict=True):
            samples[index] = sample


def counts_calls(device: torch.device) -> bool:
    """Return whether the number of calls costs more than a larger common size does."""
    return device.type != "cpu"


def _size(sample: Tensor) -> tuple[int, int]:
    return sample.shape[-2], sample.shape[-1]


def has_official_operations(step: type[Step]) -> bool:
    """Return whether mode `official` has all operations of a step."""
    return all(operation in OFFICIAL for operation in _OPERATIONS_OF[step])


def _resized_by_task(images: Tensor, operations: Sequence[Resize]) -> Tensor:
    raise NotImplementedError("resizing needs the size of the whole image: see _Task.run")


register_degradation("blur", BlurStep, {Blur: filters.blur}, {Blur: filters.blur})
register_degradation("resize", ResizeStep, {Resize: _resized_by_task}, {Resize: _resized_by_task})
register_degradation(
    "noise",
    NoiseStep,
    {GaussianNoise: noise.add_gaussian, PoissonNoise: noise.add_poisson},
    {GaussianNoise: official.add_gaussian, PoissonNoise: official.add_poisson},
)
register_degradation("grain", GrainStep, {FilmGrain: grain.add_grain})
register_degradation("jpeg", JpegStep, {Jpeg: jpeg.jpeg}, {Jpeg: official.jpeg})
register_degradation("either_order", EitherOrder, {})
