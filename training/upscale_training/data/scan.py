"""Scan the images of a folder for damaged, small, duplicate and similar images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.errors import ImageError, TrainingError
from upscale.files.error_mapping import one_line
from upscale.files.parse import parse_json
from upscale.files.printable import printable
from upscale.files.system_errors import raise_system_error
from upscale_training.data.index import check_name, publish_text
from upscale_training.data.parallel import map_parallel
from upscale_training.data.pixels import Pixels, read_rgb

HASH_SIDE = 8
"""Side of the square of signs that make up a perceptual hash."""

_MEDIUM_SIDE = 256
"""Side that images are reduced to in 8 bits, because large images as floats need much memory."""

_BLOCK = 64
"""Number of hashes compared with all others at a time, which limits the memory."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Properties of an image file, under their names in reports.

    Attributes:
        name: Name relative to the folder.
        bytes: Size of the file.
        modified: Time of modification, in nanoseconds.
        width: Width in pixels; None if the file is damaged.
        height: Height in pixels; None if the file is damaged.
        digest: Hash of the pixels as training uses them, independent of the format.
        look: Perceptual hash, hexadecimal; see `perceptual_hash`.
        error: Reason why the file cannot be read, or None.
    """

    name: str
    bytes: int
    modified: int
    width: int | None = None
    height: int | None = None
    digest: str | None = None
    look: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ScanResult:
    """The result of a scan for one image.

    Attributes:
        info: Properties of the file.
        small: Whether a side is shorter than the minimum.
        same_as: Earlier image with the same pixels, or None.
        looks_like: Earlier images that look similar; the user decides which to keep.
    """

    info: ImageInfo
    small: bool = False
    same_as: str | None = None
    looks_like: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether the image is suitable for training."""
        return self.info.error is None and not self.small and self.same_as is None

    @property
    def remark(self) -> str | None:
        """A warning about a readable image, or None."""
        if self.info.error is not None:
            return None
        if self.small:
            return f"is only {self.info.width}x{self.info.height}"
        if self.same_as is not None:
            return f"is the same image as {self.same_as}"
        return f"looks like {', '.join(self.looks_like)}" if self.looks_like else None

    def record(self) -> dict[str, object]:
        """Return all values for a report."""
        own = {"small": self.small, "same_as": self.same_as, "looks_like": list(self.looks_like)}
        return {**asdict(self.info), **own, "usable": self.usable}


def scan(
    folder: Path, names: Sequence[str], jobs: int, known: Mapping[str, ImageInfo]
) -> Generator[tuple[str, ImageInfo | Exception]]:
    """Yield the properties of images; those of damaged images contain an error.

    Args:
        folder: Folder of the images.
        names: Names of images, relative to the folder.
        jobs: Number of processes.
        known: Properties from an earlier scan by name; files that have not changed are not read.
    """
    new: list[str] = []
    for name in names:
        info = known.get(name)
        if info is not None and _file_state(folder / name) == (info.bytes, info.modified):
            yield name, info
        else:
            new.append(name)
    yield from map_parallel(partial(_read_info, folder), new, jobs)


def assess(infos: Iterable[ImageInfo], smallest: int, near: int) -> list[ScanResult]:
    """Find small, duplicate and similar images; results are in the order of the names.

    Args:
        infos: Properties of all images.
        smallest: Minimum of the shorter side in pixels.
        near: Maximum number of different bits of the perceptual hashes of similar images.
    """
    firsts: dict[str, str] = {}
    results: list[ScanResult] = []
    for info in sorted(infos, key=lambda info: info.name):
        small = info.width is not None and min(info.width, info.height or 0) < smallest
        first = info.name if info.digest is None else firsts.setdefault(info.digest, info.name)
        results.append(ScanResult(info, small, first if first != info.name else None))
    usable = [result.info for result in results if result.usable]
    similar = find_similar([int(info.look or "0", 16) for info in usable], near)
    earlier = {usable[i].name: tuple(usable[j].name for j in similar[i]) for i in similar}
    return [
        ScanResult(one.info, one.small, one.same_as, earlier.get(one.info.name, ()))
        for one in results
    ]


def perceptual_hash(pixels: Pixels) -> int:
    """Return a 64-bit hash that is similar for images that look similar ("pHash").

    The bits are the signs of the lowest frequencies relative to their median. They survive resizing
    and compression, and differ in about half of the bits between different images.

    Args:
        pixels: Array of shape (H, W, 3), uint8, RGB.

    Example:
        >>> import numpy as np
        >>> image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        >>> (perceptual_hash(image) ^ perceptual_hash(image + 1 - 1)).bit_count()
        0
    """
    medium = cv2.resize(pixels, (_MEDIUM_SIDE, _MEDIUM_SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(medium, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (4 * HASH_SIDE, 4 * HASH_SIDE), interpolation=cv2.INTER_AREA)
    low = np.asarray(cv2.dct(small))[:HASH_SIDE, :HASH_SIDE].flatten()
    signs = low > np.median(low[1:])  # the first is the brightness
    return int.from_bytes(np.packbits(signs).tobytes(), "big")


def find_similar(hashes: Sequence[int], near: int) -> dict[int, list[int]]:
    """Return for each hash the earlier hashes that differ in at most `near` bits.

    Args:
        hashes: Perceptual hashes.
        near: Maximum number of different bits.

    Returns:
        Indices of earlier hashes by the index of the hash; hashes without similar ones are omitted.

    Example:
        >>> find_similar([0b1100, 0b0011, 0b1101], near=1)
        {2: [0]}
    """
    numbers: NDArray[np.uint64] = np.array(hashes, np.uint64)
    similar: dict[int, list[int]] = {}
    for top in range(0, len(numbers), _BLOCK):
        block = numbers[top : top + _BLOCK]
        bits = np.bitwise_count(block[:, None] ^ numbers[None, : top + len(block)])
        for row, column in zip(*np.nonzero(bits <= near), strict=True):
            if column < top + row:
                similar.setdefault(int(top + row), []).append(int(column))
    return similar


class ScanReport:
    """The report of a scan: one JSON object per line, written while the scan runs.

    Args:
        path: Path of the report, which an earlier scan may have written.

    Attributes:
        known: Properties of the images of the earlier scan by name.

    Raises:
        TrainingError: The file is something else, or cannot be read.
        OutputError: The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.known = _read_report(path)
        self.finish(map(ScanResult, self.known.values()))  # removes an incomplete last line

    def add(self, info: ImageInfo) -> None:
        """Append the properties of one image."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(info)) + "\n")

    def finish(self, results: Iterable[ScanResult]) -> None:
        """Replace the report by the results of the whole scan.

        Raises:
            OutputError: The file cannot be written.
        """
        lines = (json.dumps(result.record()) + "\n" for result in results)
        publish_text(self._path, "".join(lines), overwrite=True)


def _read_report(path: Path) -> dict[str, ImageInfo]:
    """Return the properties of an earlier scan by name; none if there is no report."""
    try:
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
    except (OSError, ValueError) as error:
        raise TrainingError(f"{printable(path)}: cannot be read ({one_line(error)})") from error
    infos: dict[str, ImageInfo] = {}
    for number, line in enumerate(lines, 1):
        try:
            record = parse_json(line)
            info = ImageInfo(**{field.name: record[field.name] for field in fields(ImageInfo)})
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and infos:
                break
            raise TrainingError(
                f"{printable(path)}: line {number} is not from a scan report; use another name"
            ) from error
        infos[info.name] = info
    return infos


def _read_info(folder: Path, name: str) -> ImageInfo:
    path = folder / name
    length, modified = _file_state(path)
    try:
        check_name(name)
        pixels = read_rgb(path)
    except ImageError as error:
        raise_system_error(error)
        return ImageInfo(name, length, modified, error=str(error))
    height, width = pixels.shape[:2]
    digest = hashlib.blake2b(f"{width}x{height}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    look = f"{perceptual_hash(pixels):016x}"
    return ImageInfo(name, length, modified, width, height, digest.hexdigest(), look)


def _file_state(path: Path) -> tuple[int, int]:
    """Return the size and time of modification."""
    with suppress(OSError):
        state = path.stat()
        return state.st_size, state.st_mtime_ns
    return -1, -1
