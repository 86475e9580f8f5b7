"""Where images for upscale_training come from: folders, indices, LMDBs, and pairs of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from upscale.errors import ImageError, TrainingError
from upscale.files.printable import printable
from upscale_training.data.index import Line, images_below, read_index, stem_of
from upscale_training.data.lmdb import is_lmdb, read_keys, read_value
from upscale_training.data.pixels import Pixels, read_rgb

if TYPE_CHECKING:
    from upscale_training.recipe.settings import Source


@dataclass(frozen=True, slots=True)
class Stored:
    """An image in a file, or in an LMDB under a key."""

    path: str
    key: str | None = None

    def __str__(self) -> str:
        return printable(Path(self.path if self.key is None else f"{self.path}/{self.key}"))

    def read(self) -> Pixels:
        """Read it.

        Raises:
            ImageError: It is not there, damaged or no image.
            DependencyError: Its format needs a package that is not installed.
        """
        if self.key is None:
            return read_rgb(Path(self.path))
        content = read_value(Path(self.path), self.key)
        try:
            return read_rgb(content)
        except ImageError as error:
            reason = str(error).removeprefix("the image: ")
            raise ImageError(f"{self}: {reason}") from error


@dataclass(frozen=True, slots=True)
class Entry:
    """A good image, and its bad partner in a source of pairs."""

    high: Stored
    low: Stored | None = None

    def read(self, scale: int) -> tuple[Pixels, Pixels | None]:
        """Read both.

        Raises:
            ImageError: One is not there, damaged or no image, or the good one is not `scale`
                times as large.
            DependencyError: A format needs a package that is not installed.
        """
        high = self.high.read()
        if self.low is None:
            return high, None
        low = self.low.read()
        check_pair(str(self.high), high.shape[1::-1], low.shape[1::-1], scale)
        return high, low


def check_pair(label: str, high: tuple[int, ...], low: tuple[int, ...], scale: int) -> None:
    """Refuse a pair whose sizes (width, height) do not fit.

    Raises:
        ImageError: The good image is not `scale` times as large as the bad one.
    """
    if high != (low[0] * scale, low[1] * scale):
        raise ImageError(
            f"{label}: is {high[0]}x{high[1]}, not {scale} times its partner of "
            f"{low[0]}x{low[1]}; take the pair out"
        )


def entries(source: Source, scale: int) -> tuple[Entry, ...]:
    """List the images of a source; none is opened.

    Raises:
        TrainingError: There are none, or an image of a source of pairs has no partner.
    """
    found = _from_lmdb(source) if is_lmdb(source.path) else _from_folder(source, scale)
    if not found:
        raise TrainingError(f"{printable(source.path)}: holds no images; give a folder or an LMDB")
    return found


def _from_lmdb(source: Source) -> tuple[Entry, ...]:
    high, keys = str(source.path), read_keys(source.path, source.index)
    if source.low is None:
        return tuple(Entry(Stored(high, key)) for key in keys)
    if not is_lmdb(source.low):
        raise TrainingError(f"{printable(source.low)}: is no LMDB, as {printable(source.path)} is")
    low, partners = str(source.low), set(read_keys(source.low))
    _refuse_alone(source.low, [key for key in keys if key not in partners])
    return tuple(Entry(Stored(high, key), Stored(low, key)) for key in keys)


def _from_folder(source: Source, scale: int) -> tuple[Entry, ...]:
    if not source.path.is_dir():
        raise TrainingError(
            f"{printable(source.path)}: is no folder; give one, and a list of its images as index"
        )
    if source.index is None:
        lines = [Line(name) for name in images_below(source.path)]
    else:
        lines = list(read_index(source.index))
    if source.low is None:
        return tuple(Entry(Stored(str(source.path / line.name))) for line in lines)
    unsettled = [line.name for line in lines if line.low is None]
    found = partners(source.low, unsettled, scale) if unsettled else {}
    _refuse_alone(source.low, [name for name in unsettled if name not in found])
    return tuple(
        Entry(
            Stored(str(source.path / line.name)),
            Stored(str(source.low / (line.low or found[line.name]))),
        )
        for line in lines
    )


def partners(folder: Path, names: Sequence[str], scale: int) -> dict[str, str]:
    """The bad partners of good images, of those that have one: the same name but for the suffix.

    DIV2K's `0001x4.png` and crops of it (`0001x4_s001.png`) are partners of `0001.png`, too.

    Raises:
        TrainingError: The folder cannot be read.
    """
    sign = re.compile(rf"x{scale}(?=(_s\d+)?$)")
    found: dict[str, str] = {}
    for name in images_below(folder):
        stem = stem_of(name)
        found.setdefault(sign.sub("", stem), name)
        found[stem] = name
    return {name: found[stem_of(name)] for name in names if stem_of(name) in found}


def _refuse_alone(folder: Path, names: Sequence[str]) -> None:
    if names:
        have = f"and {len(names) - 1} more have" if len(names) > 1 else "has"
        raise TrainingError(
            f"{printable(folder)}: {names[0]} {have} no partner in it; give an index with a line "
            "`good name, bad name` a pair"
        )
