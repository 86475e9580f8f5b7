"""What an index is made of: the images of a folder with their sizes, or pairs that fit."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

from upscale.errors import ImageError
from upscale.files.printable import printable
from upscale.images import read_size
from upscale_training.data.index import Line, check_name
from upscale_training.data.parallel import each
from upscale_training.data.sources import check_pair, partners


def list_images(
    folder: Path, names: Sequence[str], jobs: int
) -> Generator[tuple[str, Line | Exception]]:
    """Yield a line for each image, or why there is none; only headers are read.

    Args:
        folder: Where they are.
        names: Relative to it.
        jobs: Processes.
    """
    yield from each(partial(_sized, folder), names, jobs)


def list_pairs(
    folder: Path, low: Path, scale: int, names: Sequence[str], jobs: int
) -> Generator[tuple[str, Line | Exception]]:
    """Yield a line for each pair, or what is wrong with it; only headers are read.

    Args:
        folder: Of the good images.
        low: Of their bad partners (see `partners`).
        scale: How many times a good image must be as large as its partner.
        names: Of the good images.
        jobs: Processes.

    Raises:
        TrainingError: The folder of the bad images cannot be read.
    """
    found = partners(low, names, scale)
    pairs: list[Line] = []
    for name in names:
        if name in found:
            pairs.append(Line(name, low=found[name]))
        else:
            yield (
                name,
                ImageError(f"{printable(folder / name)}: has no partner in {printable(low)}"),
            )
    for pair, result in each(partial(_checked, folder, low, scale), pairs, jobs):
        yield pair.name, result


def _sized(folder: Path, name: str) -> Line:
    check_name(name)
    return Line(name, read_size(folder / name))


def _checked(folder: Path, low: Path, scale: int, pair: Line) -> Line:
    low_name = pair.low or ""
    for name in (pair.name, low_name):
        check_name(name)
    high_size, low_size = read_size(folder / pair.name), read_size(low / low_name)
    check_pair(printable(folder / pair.name), high_size, low_size, scale)
    return pair
