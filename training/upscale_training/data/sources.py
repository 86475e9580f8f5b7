"""Sources of training images: folders, indices, LMDBs, shards, and pairs of each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from upscale.errors import ImageError, TrainingError
from upscale.files.printable import printable
from upscale_training.data.images import FileImages, ImageRef, Images, LmdbImages, ShardImages
from upscale_training.data.index import images_below, read_index, stem_of
from upscale_training.data.lmdb import is_lmdb, read_keys
from upscale_training.data.names import Move, PackedNames
from upscale_training.data.pixels import Pixels
from upscale_training.data.shards import find_shards, index_shards

if TYPE_CHECKING:
    from upscale_training.recipe.settings import Source


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """An HR image, with its LR image in a source of pairs.

    Attributes:
        hr: The HR image.
        lr: The LR image, or None.
    """

    hr: ImageRef
    lr: ImageRef | None = None

    def read(self, scale: int) -> tuple[Pixels, Pixels | None]:
        """Read both images.

        Raises:
            ImageError: An image is missing, damaged or no image, or the HR image is not `scale`
                times as large as the LR image.
            DependencyError: A format needs a package that is not installed.
        """
        hr = self.hr.read()
        if self.lr is None:
            return hr, None
        lr = self.lr.read()
        check_pair_sizes(str(self.hr), hr.shape[1::-1], lr.shape[1::-1], scale)
        return hr, lr

    def read_cut(self, scale: int) -> tuple[Pixels, Pixels | None]:
        """Read both images, and cut the rest of a division of the HR image by the scale.

        Benchmarks such as B100 contain such images; BasicSR cuts them, too, in validation.

        Raises:
            ImageError, DependencyError: As `read`.
        """
        hr = self.hr.read()
        if self.lr is None:
            return hr, None
        lr = self.lr.read()
        height, width = (side * scale for side in lr.shape[:2])
        if 0 <= hr.shape[0] - height < scale and 0 <= hr.shape[1] - width < scale:
            hr = np.ascontiguousarray(hr[:height, :width])
        check_pair_sizes(str(self.hr), hr.shape[1::-1], lr.shape[1::-1], scale)
        return hr, lr


@dataclass(frozen=True, slots=True, eq=False)
class SourceEntries:
    """The images of a source as a compact sequence, which creates entries on demand.

    Attributes:
        hr: The HR images.
        lr: Their LR images in the same order, or None.
    """

    hr: Images
    lr: Images | None = None

    def __len__(self) -> int:
        """Return the number of HR images."""
        return len(self.hr)

    def __getitem__(self, index: int) -> SourceEntry:
        """Return an entry; the index must not be negative."""
        if index >= len(self):
            raise IndexError(index)
        return SourceEntry(self.hr[index], None if self.lr is None else self.lr[index])

    def __iter__(self) -> Iterator[SourceEntry]:
        """Yield all entries."""
        return (self[index] for index in range(len(self)))

    def moved(self, move: Move) -> SourceEntries:
        """Return the sequence with its arrays in other memory."""
        return SourceEntries(self.hr.moved(move), None if self.lr is None else self.lr.moved(move))


@dataclass(frozen=True, slots=True)
class Listing:
    """What identifies the images of a source, wherever its folder is.

    Attributes:
        images: Number of images.
        digest: SHA-256 of their names, without the folder of the source.
    """

    images: int
    digest: str

    @classmethod
    def of(cls, source: Source, entries: SourceEntries) -> Listing:
        """Return the listing of the images of a source."""
        digest = hashlib.sha256()
        for entry in entries:
            names = (_name_in(source.path, entry.hr), _name_in(source.low, entry.lr))
            digest.update(repr(names).encode("utf-8", "surrogateescape"))
        return cls(len(entries), digest.hexdigest())


def _name_in(folder: Path | str | None, image: ImageRef | None) -> str | None:
    if image is None or image.key is not None:
        return None if image is None else image.key
    return image.path.removeprefix(str(folder))


def check_pair_sizes(label: str, hr: tuple[int, ...], lr: tuple[int, ...], scale: int) -> None:
    """Raise an error for a pair whose sizes (width, height) do not match.

    Raises:
        ImageError: The HR image is not `scale` times as large as the LR image.
    """
    if hr != (lr[0] * scale, lr[1] * scale):
        raise ImageError(
            f"{label}: is {hr[0]}x{hr[1]}, not {scale} times its LR image of {lr[0]}x{lr[1]}; "
            "remove the pair"
        )


def list_entries(source: Source, scale: int) -> SourceEntries:
    """List the images of a source without opening them.

    Raises:
        TrainingError: There are no images, or an image of a source of pairs has no LR image.
        DependencyError: A package that the source needs is not installed.
    """
    if source.path is None:
        found = _from_shards(source)
    elif is_lmdb(source.path):
        found = _from_lmdb(source.path, source)
    else:
        found = _from_folder(source.path, source, scale)
    if not found:
        place = printable(source.path or source.shards or "")
        raise TrainingError(f"{place}: contains no images; name a folder, an LMDB or shards")
    return found


def _from_shards(source: Source) -> SourceEntries:
    assert source.shards is not None, "a source without path has shards"
    hr = _shard_images(source.shards)
    if source.low is None:
        return SourceEntries(hr)
    lr = _shard_images(source.low)
    places = {stem_of(name): index for index, name in enumerate(lr.names)}
    _check_complete(source.low, [name for name in hr.names if stem_of(name) not in places])
    order = [places[stem_of(name)] for name in hr.names]
    names = PackedNames.of(lr.names[index] for index in order)
    return SourceEntries(hr, ShardImages(lr.shards, names, lr.parts[order]))


def _shard_images(location: Path | str) -> ShardImages:
    shards = find_shards(location)
    return ShardImages(shards, *index_shards(shards))


def _from_lmdb(path: Path, source: Source) -> SourceEntries:
    keys = read_keys(path, source.index)
    packed = PackedNames.of(keys)
    hr = LmdbImages(str(path), packed)
    if source.low is None:
        return SourceEntries(hr)
    low = Path(source.low)
    if not is_lmdb(low):
        raise TrainingError(f"{printable(low)}: must be an LMDB, because {printable(path)} is one")
    lr_keys = set(read_keys(low))
    _check_complete(low, [key for key in keys if key not in lr_keys])
    return SourceEntries(hr, LmdbImages(str(low), packed))


def _from_folder(path: Path, source: Source, scale: int) -> SourceEntries:
    if path.is_file():
        raise TrainingError(
            f"{printable(path)}: is a file, and only folders of images and LMDBs can be "
            "read as path; unpack it, or name a tar file as shards"
        )
    if not path.is_dir():
        raise TrainingError(
            f"{printable(path)}: is no folder; name a folder, and a list of its images as index"
        )
    lr_names: dict[int, str] = {}
    if source.index is None:
        names = images_below(path)
    else:
        lines = read_index(source.index)
        names = [line.name for line in lines]
        lr_names = {place: line.lr for place, line in enumerate(lines) if line.lr is not None}
    hr = FileImages(str(path), PackedNames.of(names))
    if source.low is None:
        return SourceEntries(hr)
    low = Path(source.low)
    unmatched = [name for place, name in enumerate(names) if place not in lr_names]
    lr_files = find_lr_files(low, unmatched, scale) if unmatched else {}
    _check_complete(low, [name for name in unmatched if name not in lr_files])
    lr = (lr_names.get(place) or lr_files[name] for place, name in enumerate(names))
    return SourceEntries(hr, FileImages(str(low), PackedNames.of(lr)))


def find_lr_files(folder: Path, names: Sequence[str], scale: int) -> dict[str, str]:
    """Return the LR images by the names of their HR images, which differ only in the suffix.

    `0001x4.png` as in DIV2K, and crops of it (`0001x4_s001.png`), belong to `0001.png`, too.

    Args:
        folder: Folder of the LR images.
        names: Names of the HR images.
        scale: Scale in the names of LR images.

    Raises:
        TrainingError: The folder cannot be read.
    """
    scale_suffix = re.compile(rf"x{scale}(?=(_s\d+)?$)")
    files: dict[str, str] = {}
    for name in images_below(folder):
        stem = stem_of(name)
        files.setdefault(scale_suffix.sub("", stem), name)
        files[stem] = name
    return {name: files[stem_of(name)] for name in names if stem_of(name) in files}


def _check_complete(folder: Path | str, names: Sequence[str]) -> None:
    if names:
        have = f"and {len(names) - 1} more have" if len(names) > 1 else "has"
        raise TrainingError(
            f"{printable(folder)}: {names[0]} {have} no LR image in it; use an index with lines "
            "`HR name, LR name`"
        )
