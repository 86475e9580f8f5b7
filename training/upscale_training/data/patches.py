"""Training samples: patches cropped at random, each a function of the seed and its number."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from upscale.errors import TrainingError, UpscaleError
from upscale.files.system_errors import is_system_error
from upscale_training.data.pixels import Pixels
from upscale_training.data.sampler import DistributedBatchSampler, EpochOrder, crop_generator
from upscale_training.data.sources import Listing, SourceEntries, SourceEntry, list_entries
from upscale_training.key_errors import named

if TYPE_CHECKING:
    from upscale_training.recipe.settings import DataSettings, Source


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A training sample.

    Attributes:
        number: Number of the sample in the whole run.
        hr: Tensor of shape (3, P, P), uint8, RGB: a patch of an HR image, with its margin if it
            will be degraded.
        lr: Tensor of shape (3, P / scale, P / scale), uint8, RGB: the same area of the LR image;
            None if the source has only HR images.
        damaged: Errors of the images that could not be read for this sample, one line each.
    """

    number: int
    hr: Tensor
    lr: Tensor | None
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A batch of samples.

    Attributes:
        numbers: Numbers of the N samples.
        hr: Tensor of shape (M, 3, P, P), uint8, RGB: of the samples that will be degraded.
        pairs: Tensors of shape (N - M, 3, P, P) and (N - M, 3, P / scale, P / scale), uint8, RGB:
            the HR and LR patches of the others, in the same order.
        damaged: Errors of images that could not be read, one line each.
        is_pair: Whether each sample is one of the pairs.
    """

    numbers: tuple[int, ...]
    hr: Tensor | None
    pairs: tuple[Tensor, Tensor] | None
    damaged: tuple[str, ...]
    is_pair: tuple[bool, ...]

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Batch:
        """Join samples."""
        plain = [sample.hr for sample in samples if sample.lr is None]
        pairs = [(sample.hr, sample.lr) for sample in samples if sample.lr is not None]
        hr, lr = zip(*pairs, strict=True) if pairs else ((), ())
        return cls(
            tuple(sample.number for sample in samples),
            torch.stack(plain) if plain else None,
            (torch.stack(hr), torch.stack(lr)) if pairs else None,
            tuple(line for sample in samples for line in sample.damaged),
            tuple(sample.lr is not None for sample in samples),
        )

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, which a GPU reads directly."""
        hr = None if self.hr is None else self.hr.pin_memory()
        pairs = self.pairs and (self.pairs[0].pin_memory(), self.pairs[1].pin_memory())
        return replace(self, hr=hr, pairs=pairs)


class PatchDataset(Dataset[Sample]):
    """Crops one patch from each image in each epoch.

    An image smaller than the patch is mirrored at the right and bottom, including the edge, so that
    a pair stays aligned. If an image cannot be read, the next one of the epoch is used, and the
    sample reports the error.

    Args:
        settings: Sources and patches; for pairs, the scale must divide the patch.
        seed: Seed of all random numbers, at least 0.
        scale: Ratio of the sizes of HR and LR images.

    Attributes:
        listings: Number and digest of the images of each source.

    Raises:
        TrainingError: A source has no images, or an image of a source of pairs has no LR image.
    """

    def __init__(self, settings: DataSettings, seed: int, scale: int) -> None:
        self._sources = [
            _entries(f"data.sources.{index}", source, scale)
            for index, source in enumerate(settings.sources)
        ]
        self.listings = tuple(map(Listing.of, settings.sources, self._sources))
        counts = [len(source) for source in self._sources]
        self._ends = list(accumulate(counts))
        self._order = EpochOrder(counts, [source.weight for source in settings.sources], seed)
        self._settings, self._seed, self._scale = settings, seed, scale

    def __len__(self) -> int:
        """Return the samples of an epoch; samples of any number from 0 exist."""
        return len(self._order)

    def __getitem__(self, number: int) -> Sample:
        """Return sample `number`.

        Raises:
            TrainingError: No image of the epoch can be read, or the system fails to read one, for
                example because too many files are open or an object store cannot be reached.
        """
        damaged: list[str] = []
        for offset in range(len(self)):
            entry = self._entry(self._order.image(number, offset))
            try:
                hr, lr = entry.read(self._scale)
            except TrainingError:
                raise
            except UpscaleError as error:
                if is_system_error(error):
                    raise TrainingError(str(error)) from error
                damaged.append(str(error))
                continue
            return Sample(number, *self._crop(number, hr, lr), tuple(damaged))
        raise TrainingError(f"none of {len(damaged)} images can be read; first: {damaged[0]}")

    def share_memory(self) -> None:
        """Move the names of the images to memory that worker processes share."""
        self._sources = [source.moved(_shared) for source in self._sources]

    def _entry(self, index: int) -> SourceEntry:
        """Return an image of all sources together."""
        source = bisect_right(self._ends, index)
        start = self._ends[source - 1] if source else 0
        return self._sources[source][index - start]

    def _crop(self, number: int, hr: Pixels, lr: Pixels | None) -> tuple[Tensor, Tensor | None]:
        """Crop the same area of both images, rotated alike."""
        settings, random = self._settings, crop_generator(self._seed, number)
        step = 1 if lr is None else self._scale
        whole = settings.side if lr is None else settings.patch
        rows, columns = (max(side, whole) for side in hr.shape[:2])
        top = int(random.integers((rows - whole) // step + 1))
        left = int(random.integers((columns - whole) // step + 1))
        flip = settings.flips and bool(random.integers(2))
        quarters = int(random.integers(4)) if settings.rotations else 0

        def crop(image: Pixels, scale: int) -> Tensor:
            side = whole // scale
            patch = _patch(image, top * step // scale, left * step // scale, side)
            patch = np.rot90(patch[:, ::-1] if flip else patch, quarters)
            return torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1)))

        return crop(hr, 1), None if lr is None else crop(lr, self._scale)


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
    """Yield batches without end, `accumulate` of them per iteration.

    Args:
        dataset: Data set of the samples.
        batch: Samples of a batch of this process.
        first: First iteration.
        rank: Rank of this process.
        world: Number of processes.
        accumulate: Batches of one iteration.
        workers: Number of processes that read ahead; 0 to read in this process.

    Raises:
        TrainingError: No image can be read; raised during iteration.
    """
    if workers:
        dataset.share_memory()
    loader = DataLoader(
        _Batches(dataset),
        sampler=DistributedBatchSampler(batch, first, rank, world, accumulate),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=_use_one_thread,
        # A forked process hangs in OpenCV if this one has used OpenCV's threads.
        multiprocessing_context="spawn" if workers else None,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # keeps the loader from using the run's random numbers
    )
    return map(_or_raise, loader)


class _Batches(Dataset[Batch | TrainingError]):
    """Batches by the numbers of their samples.

    Errors are returned: the user would see an error raised in a worker with its traceback as text.
    """

    def __init__(self, samples: PatchDataset) -> None:
        self._samples = samples

    def __getitem__(self, numbers: Sequence[int]) -> Batch | TrainingError:
        try:
            return Batch.of([self._samples[number] for number in numbers])
        except TrainingError as error:
            return error


def _entries(key: str, source: Source, scale: int) -> SourceEntries:
    main = "shards" if source.path is None else "path"
    keys = {main: getattr(source, main), "low": source.low, "index": source.index}
    with named({f"{key}.{name}": path for name, path in keys.items()}):
        return list_entries(source, scale)


def _shared(array: Any) -> Tensor:  # noqa: ANN401 -- an array, or a tensor that is shared already
    return torch.as_tensor(array).share_memory_()


def _or_raise(loaded: Batch | TrainingError) -> Batch:
    if isinstance(loaded, TrainingError):
        raise loaded
    return loaded


def _patch(image: Pixels, top: int, left: int, side: int) -> Pixels:
    """Return a square of an image, which is mirrored if it is too small."""
    missing = [max(0, side - length) for length in image.shape[:2]]
    if any(missing):
        image = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), "symmetric")
    return image[top : top + side, left : left + side]


def _use_one_thread(_: int) -> None:
    cv2.setNumThreads(1)
