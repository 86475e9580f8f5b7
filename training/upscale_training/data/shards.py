"""Find and read images in shards: tar archives in WebDataset's layout, in folders or object stores.

An image is read by its position in the archive, so that any sample can be read at any time. The
positions come from the archive's headers, or from an index next to it, `NAME.idx`, in the format of
NVIDIA DALI's wds2idx, which spares reading the whole archive.
"""

from __future__ import annotations

import importlib
import posixpath
import re
import tarfile
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from upscale.errors import DependencyError, ImageError, TrainingError
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale.images import is_image_name
from upscale_training.data.names import PackedNames

SUFFIX = ".tar"
INDEX_SUFFIX = ".idx"
INDEX_VERSION = "v1.2"

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_FIELDS = 4
"""Fields of a file in an index: extension, first byte, number of bytes, name."""

_THREADS = 16
"""Number of shards whose indices are fetched at a time; an object store answers slowly."""

_MOST_SHARDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a shard.

    Attributes:
        name: Name in the archive.
        start: Position of its first byte.
        size: Number of bytes.
    """

    name: str
    start: int
    size: int

    @property
    def is_image(self) -> bool:
        """Whether the name is that of an image; hidden files are none."""
        path = PurePosixPath(self.name)
        return not path.name.startswith(".") and is_image_name(Path(path))


def find_shards(location: str | Path) -> list[str]:
    """Return the shards of a location, without opening them.

    Args:
        location: Folder of tar files, or a tar file; a path, or an address that fsspec knows.
            `{000..099}` stands for all numbers of a range.

    Returns:
        Paths or addresses; those of a folder are sorted.

    Raises:
        TrainingError: A folder cannot be read, or contains no tar files.
        DependencyError: A package for this kind of address is not installed.

    Example:
        >>> find_shards("s3://bucket/train-{08..10}.tar")[0::2]
        ['s3://bucket/train-08.tar', 's3://bucket/train-10.tar']
    """
    found: list[str] = []
    for place in _expanded(str(location)):
        found += [place] if place.endswith(SUFFIX) else _in_folder(place)
    return found


def index_shards(shards: Sequence[str]) -> tuple[PackedNames, NDArray[np.int64]]:
    """Return the images of shards, in the order of the shards and of their files.

    Args:
        shards: Paths or addresses.

    Returns:
        The names of the N images, and an array of shape (N, 3): for each the index of its shard,
        its first byte, and its number of bytes.

    Raises:
        TrainingError: A shard cannot be read, or is no uncompressed tar archive.
        DependencyError: A package for this kind of address is not installed.
    """
    parts = array("q")

    def names() -> Iterator[str]:
        with ThreadPoolExecutor(_THREADS) as pool:
            for number, members in enumerate(pool.map(read_members, shards)):
                for member in members:
                    if member.is_image:
                        parts.extend((number, member.start, member.size))
                        yield member.name

    packed = PackedNames.of(names())
    return packed, np.array(parts, np.int64).reshape(-1, 3)


def read_members(shard: str) -> list[Member]:
    """Return the files in a shard, from its index if there is one.

    Args:
        shard: Path or address.

    Raises:
        TrainingError: It cannot be read, or is no uncompressed tar archive.
        DependencyError: A package for this kind of address is not installed.
    """
    system, path = _file_system(shard)
    try:
        size = system.info(path)["size"]
        index = path.removesuffix(SUFFIX) + INDEX_SUFFIX
        members = parse_index(system.cat_file(index)) if system.exists(index) else None
        if members is None:
            with system.open(path, "rb") as file:
                return list(_members_of(file))
    except tarfile.TarError as error:
        raise TrainingError(
            f"{printable(shard)}: is no complete, uncompressed tar archive ({one_line(error)}); "
            "create it again"
        ) from error
    except Exception as error:
        _fail(shard, error)
    end = max((member.start + member.size for member in members), default=0)
    if size is not None and end > size:
        raise TrainingError(
            f"{printable(shard)}: has {size} bytes, and its index, {INDEX_SUFFIX}, names {end}; "
            "copy the shard again, or remove the index"
        )
    return members


def read_part(shard: str, start: int, size: int) -> bytes:
    """Read a part of a shard, by one request if it is in an object store.

    Args:
        shard: Path or address.
        start: Position of the first byte.
        size: Number of bytes.

    Raises:
        ImageError: The shard is too short.
        TrainingError: The shard cannot be reached; the sample must not become another one.
    """
    system, path = _file_system(shard)
    try:
        content = system.cat_file(path, start, start + size)
    except Exception as error:
        _fail(shard, error)
    if len(content) != size:
        raise ImageError(f"{printable(shard)}: ends before byte {start + size}; copy it again")
    return content


def parse_index(content: bytes) -> list[Member] | None:
    r"""Parse an index; None if it has another format, or names with spaces.

    Example:
        >>> parse_index(b"v1.2 1\npng 512 70 a.png json 1536 20 a.json\n")[1]
        Member(name='a.json', start=1536, size=20)
    """
    version, *lines = content.decode("utf-8", "surrogateescape").split("\n")
    if not version.startswith(f"{INDEX_VERSION} "):
        return None
    members: list[Member] = []
    for line in lines:
        fields = line.split(" ") if line else []
        if len(fields) % _FIELDS:
            return None
        for _, start, size, name in zip(*[iter(fields)] * _FIELDS, strict=True):
            if not (start.isdecimal() and size.isdecimal()):
                return None
            members.append(Member(name, int(start), int(size)))
    return members


def _members_of(file: BinaryIO) -> Iterator[Member]:
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            cast(Any, archive).members = []  # it would keep them all
            if member.isreg() and not member.issparse():
                yield Member(member.name, member.offset_data, member.size)


def _expanded(text: str) -> list[str]:
    """Return a text for each number of its ranges, with as many digits as the first number has."""
    match = _RANGE.search(text)
    if match is None:
        return [text]
    first, last = match.groups()
    if not int(first) <= int(last) < int(first) + _MOST_SHARDS:
        raise TrainingError(
            f"{printable(text)}: {match[0]} is no range; write for example {{0..9}}"
        )
    numbers = (f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1))
    ends = _expanded(text[match.end() :])
    return [f"{text[: match.start()]}{number}{end}" for number in numbers for end in ends]


def _in_folder(location: str) -> list[str]:
    system, path = _file_system(location)
    try:
        names = [posixpath.basename(each) for each in system.ls(path, detail=False)]
    except Exception as error:
        _fail(location, error)
    shards = sorted(name for name in names if name.endswith(SUFFIX) and not name.startswith("."))
    if not shards:
        raise TrainingError(
            f"{printable(location)}: contains no {SUFFIX} files; name a folder of shards, or shards"
        )
    return [f"{location.rstrip('/')}/{name}" for name in shards]


def _file_system(location: str) -> tuple[Any, str]:
    """Return the file system of fsspec for a location, and the path in it."""
    try:
        return importlib.import_module("fsspec.core").url_to_fs(location)
    except ImportError as error:
        missing = (error.name or "").startswith("fsspec")
        advice = 'run: pip install "upscale[shards]"' if missing else one_line(error)
        raise DependencyError(
            f"{printable(location)}: needs a package that is not installed; {advice}"
        ) from error
    except Exception as error:
        _fail(location, error)


def _fail(location: str, error: Exception) -> NoReturn:
    # File systems of fsspec raise errors of their own libraries: boto, aiohttp and others.
    raise TrainingError(f"{printable(location)}: cannot be read ({one_line(error)})") from error
