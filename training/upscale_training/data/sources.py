"""Sources of training images: folders, indices, LMDBs, and pairs of each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from upscale.errors import ImageError, TrainingError
from upscale.files.printable import printable
from upscale_training.data.index import IndexEntry, images_below, read_index, stem_of
from upscale_training.data.lmdb import is_lmdb, read_keys, read_value
from upscale_training.data.pixels import Pixels, read_rgb

if TYPE_CHECKING:
    from upscale_training.recipe.settings import Source


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A reference to an image in a file, or in an LMDB.

    Attributes:
        path: Path of the file or of the LMDB.
        key: Key in the LMDB; None for a file.
    """

    path: str
    key: str | None = None

    def __str__(self) -> str:
        return printable(Path(self.path if self.key is None else f"{self.path}/{self.key}"))

    def read(self) -> Pixels:
        """Read the image as (H, W, 3), 8-bit sRGB.

        Raises:
            ImageError: The file is missing, damaged or no image.
            DependencyError: The format needs a package that is not installed.
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
    def of(cls, source: Source, entries: Sequence[SourceEntry]) -> Listing:
        """Return the listing of the images of a source."""
        digest = hashlib.sha256()
        for entry in entries:
            names = (_name_in(source.path, entry.hr), _name_in(source.low, entry.lr))
            digest.update(repr(names).encode("utf-8", "surrogateescape"))
        return cls(len(entries), digest.hexdigest())


def _name_in(folder: Path | None, image: ImageRef | None) -> str | None:
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


def list_entries(source: Source, scale: int) -> tuple[SourceEntry, ...]:
    """List the images of a source without opening them.

    Raises:
        TrainingError: There are no images, or an image of a source of pairs has no LR image.
    """
    found = _from_lmdb(source) if is_lmdb(source.path) else _from_folder(source, scale)
    if not found:
        path = printable(source.path)
        raise TrainingError(f"{path}: contains no images; name a folder or an LMDB")
    return found


def _from_lmdb(source: Source) -> tuple[SourceEntry, ...]:
    hr, keys = str(source.path), read_keys(source.path, source.index)
    if source.low is None:
        return tuple(SourceEntry(ImageRef(hr, key)) for key in keys)
    if not is_lmdb(source.low):
        low, path = printable(source.low), printable(source.path)
        raise TrainingError(f"{low}: must be an LMDB, because {path} is one")
    lr, lr_keys = str(source.low), set(read_keys(source.low))
    _check_complete(source.low, [key for key in keys if key not in lr_keys])
    return tuple(SourceEntry(ImageRef(hr, key), ImageRef(lr, key)) for key in keys)


def _from_folder(source: Source, scale: int) -> tuple[SourceEntry, ...]:
    if source.path.is_file():
        raise TrainingError(
            f"{printable(source.path)}: is a file, and only folders of images and LMDBs can be "
            "read; unpack it"
        )
    if not source.path.is_dir():
        raise TrainingError(
            f"{printable(source.path)}: is no folder; name a folder, and a list of its images as "
            "index"
        )
    if source.index is None:
        lines = [IndexEntry(name) for name in images_below(source.path)]
    else:
        lines = list(read_index(source.index))
    if source.low is None:
        return tuple(SourceEntry(ImageRef(str(source.path / line.name))) for line in lines)
    unmatched = [line.name for line in lines if line.lr is None]
    lr_files = find_lr_files(source.low, unmatched, scale) if unmatched else {}
    _check_complete(source.low, [name for name in unmatched if name not in lr_files])
    return tuple(
        SourceEntry(
            ImageRef(str(source.path / line.name)),
            ImageRef(str(source.low / (line.lr or lr_files[line.name]))),
        )
        for line in lines
    )


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


def _check_complete(folder: Path, names: Sequence[str]) -> None:
    if names:
        have = f"and {len(names) - 1} more have" if len(names) > 1 else "has"
        raise TrainingError(
            f"{printable(folder)}: {names[0]} {have} no LR image in it; use an index with lines "
            "`HR name, LR name`"
        )
