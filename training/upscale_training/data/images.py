"""The images of a source, in files, LMDBs or shards, as compact sequences of references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from upscale.errors import ImageError
from upscale.files.printable import printable
from upscale_training.data.lmdb import read_value
from upscale_training.data.names import Move, PackedNames
from upscale_training.data.pixels import Pixels, read_rgb
from upscale_training.data.shards import read_part


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A reference to an image in a file, in an LMDB or in a shard.

    Attributes:
        path: Path of the file or of the LMDB, or path or address of the shard.
        key: Key in the LMDB, or name in the shard; None for a file.
        part: First byte in the shard and number of bytes; None for files and LMDBs.
    """

    path: str
    key: str | None = None
    part: tuple[int, int] | None = None

    def __str__(self) -> str:
        return printable(self.path if self.key is None else f"{self.path}/{self.key}")

    def read(self) -> Pixels:
        """Read the image as (H, W, 3), 8-bit sRGB.

        Raises:
            ImageError: The file is missing, damaged or no image.
            TrainingError: The shard cannot be reached.
            DependencyError: The format needs a package that is not installed.
        """
        if self.key is None:
            return read_rgb(Path(self.path))
        if self.part is None:
            content = read_value(Path(self.path), self.key)
        else:
            content = read_part(self.path, *self.part)
        try:
            return read_rgb(content)
        except ImageError as error:
            reason = str(error).removeprefix("the image: ")
            raise ImageError(f"{self}: {reason}") from error


class Images(Protocol):
    """A sequence of references to images, whose arrays processes can share."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __getitem__(self, index: int, /) -> ImageRef:
        """Return the reference to an image; the index must not be negative."""
        ...

    def moved(self, move: Move) -> Images:
        """Return the sequence with its arrays in other memory."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FileImages:
    """Images in files.

    Attributes:
        folder: Folder that the names are relative to.
        names: Names of the files.
    """

    folder: str
    names: PackedNames

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def __getitem__(self, index: int) -> ImageRef:
        """Return the reference to an image; the index must not be negative."""
        return ImageRef(str(Path(self.folder) / self.names[index]))

    def moved(self, move: Move) -> FileImages:
        """Return the sequence with its arrays in other memory."""
        return FileImages(self.folder, self.names.moved(move))


@dataclass(frozen=True, slots=True, eq=False)
class LmdbImages:
    """Images in an LMDB.

    Attributes:
        path: Path of the LMDB.
        keys: Keys of the images.
    """

    path: str
    keys: PackedNames

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.keys)

    def __getitem__(self, index: int) -> ImageRef:
        """Return the reference to an image; the index must not be negative."""
        return ImageRef(self.path, self.keys[index])

    def moved(self, move: Move) -> LmdbImages:
        """Return the sequence with its arrays in other memory."""
        return LmdbImages(self.path, self.keys.moved(move))


@dataclass(frozen=True, slots=True, eq=False)
class ShardImages:
    """Images in shards.

    Attributes:
        shards: Paths or addresses of the shards.
        names: Names of the images in their shards.
        parts: Array of shape (N, 3), int64: index of the shard, first byte, number of bytes.
    """

    shards: Sequence[str]
    names: PackedNames
    parts: Any

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def __getitem__(self, index: int) -> ImageRef:
        """Return the reference to an image; the index must not be negative."""
        shard, start, size = (int(value) for value in self.parts[index])
        return ImageRef(self.shards[shard], self.names[index], (start, size))

    def moved(self, move: Move) -> ShardImages:
        """Return the sequence with its arrays in other memory."""
        return ShardImages(self.shards, self.names.moved(move), move(self.parts))
