"""Training samples: patches cut from images at random, each a function of seed and number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from upscale.errors import TrainingError, UpscaleError
from upscale_training.data.pixels import Pixels
from upscale_training.data.sampler import Share, Visits, crop_generator
from upscale_training.data.sources import entries

if TYPE_CHECKING:
    from upscale_training.recipe.settings import DataSettings


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A upscale_training sample.

    Attributes:
        number: Which it is, over the whole run.
        high: (3, P, P), uint8, RGB: a patch of a good image; where it will be degraded, with
            its margin.
        low: (3, P / scale, P / scale), uint8, RGB: the same place of its bad partner; None where
            the source has only good images.
        damaged: What was wrong with the images that it should have been cut from, a line each.
    """

    number: int
    high: Tensor
    low: Tensor | None
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Samples together.

    Attributes:
        numbers: Of the N samples.
        high: (N, 3, P, P), uint8, RGB.
        low: (N, 3, P / scale, P / scale), uint8, RGB, or None.
        damaged: All of theirs.
    """

    numbers: tuple[int, ...]
    high: Tensor
    low: Tensor | None
    damaged: tuple[str, ...] = ()

    def pin_memory(self) -> Batch:
        """The same in memory that a GPU can fetch from by itself."""
        low = None if self.low is None else self.low.pin_memory()
        return replace(self, high=self.high.pin_memory(), low=low)


class PatchDataset(Dataset[Sample]):
    """Cuts one patch from each image in each epoch.

    An image smaller than the patch is continued at the right and at the bottom by its mirror
    image, edge included, so that a pair stays aligned. In place of an image that cannot be read
    the next one of the epoch is taken, and the sample says so.
    """

    def __init__(self, settings: DataSettings, seed: int, scale: int) -> None:
        """List the images; none is opened.

        Args:
            settings: The sources, and how patches are cut; of pairs, the patch must divide by
                the scale.
            seed: Of all that is random, at least 0.
            scale: How many times a good image is as large as a bad one.

        Raises:
            TrainingError: A source has no images, or an image of a source of pairs no partner.
        """
        sources = [entries(source, scale) for source in settings.sources]
        self._entries = [entry for source in sources for entry in source]
        weights = [source.weight for source in settings.sources]
        self._visits = Visits([len(source) for source in sources], weights, seed)
        self._settings, self._seed, self._scale = settings, seed, scale

    def __len__(self) -> int:
        """Samples of an epoch; there is a sample of every number from 0."""
        return len(self._visits)

    def __getitem__(self, number: int) -> Sample:
        """Cut sample `number`.

        Raises:
            TrainingError: No image of the epoch can be read.
        """
        damaged: list[str] = []
        for further in range(len(self)):
            entry = self._entries[self._visits.image(number, further)]
            try:
                high, low = entry.read(self._scale)
            except UpscaleError as error:
                damaged.append(str(error))
                continue
            return Sample(number, *self._cut(number, high, low), tuple(damaged))
        raise TrainingError(f"none of {len(damaged)} images can be read; first: {damaged[0]}")

    def _cut(self, number: int, high: Pixels, low: Pixels | None) -> tuple[Tensor, Tensor | None]:
        """Cut the same place from both, turned alike."""
        settings, random = self._settings, crop_generator(self._seed, number)
        step = 1 if low is None else self._scale
        rows, columns = (max(side, settings.side) for side in high.shape[:2])
        top = int(random.integers((rows - settings.side) // step + 1))
        left = int(random.integers((columns - settings.side) // step + 1))
        flip = settings.flips and bool(random.integers(2))
        quarters = int(random.integers(4)) if settings.rotations else 0

        def cut(image: Pixels, scale: int) -> Tensor:
            side = settings.side // scale
            patch = _patch(image, top * step // scale, left * step // scale, side)
            patch = np.rot90(patch[:, ::-1] if flip else patch, quarters)
            return torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1)))

        return cut(high, 1), None if low is None else cut(low, self._scale)


def batches(
    dataset: PatchDataset,
    *,
    batch: int,
    first: int,
    rank: int = 0,
    world: int = 1,
    accumulate: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """Yield batches without an end, `accumulate` of them an iteration.

    Args:
        dataset: What samples are taken from.
        batch: Samples of a batch of this process.
        first: Iteration to start from.
        rank: Of this process.
        world: Processes in all.
        accumulate: Batches of one iteration.
        workers: Processes that read ahead; 0 reads in this one.

    Raises:
        TrainingError: While walking: no image can be read.
    """
    loader = DataLoader(
        _Batches(dataset),
        sampler=Share(batch, first, rank, world, accumulate),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=_use_one_thread,
        # A forked process hangs in OpenCV where this one has used its threads.
        multiprocessing_context="spawn" if workers else None,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # the loader's own draws leave the run's alone
    )
    return map(_or_raise, loader)


class _Batches(Dataset[Batch | TrainingError]):
    """Batches by the numbers of their samples.

    An error is returned: one that a worker raises would reach the user with its traceback as text.
    """

    def __init__(self, samples: PatchDataset) -> None:
        self._samples = samples

    def __getitem__(self, numbers: Sequence[int]) -> Batch | TrainingError:
        try:
            samples = [self._samples[number] for number in numbers]
        except TrainingError as error:
            return error
        lows = [sample.low for sample in samples if sample.low is not None]
        return Batch(
            tuple(numbers),
            torch.stack([sample.high for sample in samples]),
            torch.stack(lows) if lows else None,
            tuple(line for sample in samples for line in sample.damaged),
        )


def _or_raise(loaded: Batch | TrainingError) -> Batch:
    if isinstance(loaded, TrainingError):
        raise loaded
    return loaded


def _patch(image: Pixels, top: int, left: int, side: int) -> Pixels:
    """A square of an image, which is mirrored where it is too small."""
    missing = [max(0, side - length) for length in image.shape[:2]]
    if any(missing):
        image = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), "symmetric")
    return image[top : top + side, left : left + side]


def _use_one_thread(_: int) -> None:
    cv2.setNumThreads(1)
