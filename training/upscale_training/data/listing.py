"""Create the entries of an index: the images of a folder with their sizes, or pairs that match."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

from upscale.errors import ImageError
from upscale.files.printable import printable
from upscale.images import read_size
from upscale_training.data.index import IndexEntry, check_name
from upscale_training.data.parallel import map_parallel
from upscale_training.data.sources import check_pair_sizes, find_lr_files


def list_images(
    folder: Path, names: Sequence[str], jobs: int
) -> Generator[tuple[str, IndexEntry | Exception]]:
    """Yield each image with its entry or error; only headers are read.

    Args:
        folder: Folder of the images.
        names: Names of images, relative to the folder.
        jobs: Number of processes.
    """
    yield from map_parallel(partial(_sized, folder), names, jobs)


def list_pairs(
    hr_folder: Path, lr_folder: Path, scale: int, names: Sequence[str], jobs: int
) -> Generator[tuple[str, IndexEntry | Exception]]:
    """Yield each pair with its entry or error; only headers are read.

    Args:
        hr_folder: Folder of the HR images.
        lr_folder: Folder of the LR images; see `find_lr_files`.
        scale: Required ratio of the sizes.
        names: Names of HR images, relative to their folder.
        jobs: Number of processes.

    Raises:
        TrainingError: The folder of the LR images cannot be read.
    """
    lr_files = find_lr_files(lr_folder, names, scale)
    pairs: list[IndexEntry] = []
    for name in names:
        if name in lr_files:
            pairs.append(IndexEntry(name, lr=lr_files[name]))
        else:
            path, folder = printable(hr_folder / name), printable(lr_folder)
            yield name, ImageError(f"{path}: has no LR image in {folder}")
    check = partial(_checked, hr_folder, lr_folder, scale)
    for pair, result in map_parallel(check, pairs, jobs):
        yield pair.name, result


def _sized(folder: Path, name: str) -> IndexEntry:
    check_name(name)
    return IndexEntry(name, read_size(folder / name))


def _checked(hr_folder: Path, lr_folder: Path, scale: int, pair: IndexEntry) -> IndexEntry:
    lr_name = pair.lr or ""
    for name in (pair.name, lr_name):
        check_name(name)
    hr_size, lr_size = read_size(hr_folder / pair.name), read_size(lr_folder / lr_name)
    check_pair_sizes(printable(hr_folder / pair.name), hr_size, lr_size, scale)
    return pair
