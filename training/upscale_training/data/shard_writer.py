"""Pack images into shards: tar archives in WebDataset's layout, each with an index."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import tarfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from upscale.errors import OutputError, TrainingError
from upscale.files.atomic import flush_to_disk, temporary_file
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale_training.data.index import publish_text
from upscale_training.data.lmdb import PNG_SIZE, key_of
from upscale_training.data.parallel import (
    check_apart,
    claim_folder,
    map_parallel,
    release_folder,
    split_clashes,
)
from upscale_training.data.pixels import png_of, read_rgb
from upscale_training.data.shards import (
    INDEX_SUFFIX,
    INDEX_VERSION,
    SUFFIX,
    Member,
    read_members,
)

_NAME = re.compile(r"shard-(\d{6,})\.tar")
_PNG, _JSON = ".png", ".json"


def build_shards(
    source: Path, names: Sequence[str], target: Path, jobs: int, *, size: int
) -> Generator[tuple[str, bool | Exception]]:
    """Write shards of images, and yield for each if it was added now or by an earlier run.

    An image becomes `KEY.png`, 8-bit RGB as training uses it, and `KEY.json` with its `name`,
    `width` and `height`. Shards appear when they are complete. An interrupted run resumes with the
    shard that it was writing when it is repeated, and gives the same shards.

    Args:
        source: Folder of the images.
        names: Names of images, relative to the folder.
        target: New folder, or the folder of an interrupted run.
        jobs: Number of processes.
        size: Number of bytes from which on a shard is complete.

    Raises:
        UsageError: The target is inside the source.
        OutputError: The target contains something else, or cannot be written.
        TrainingError: No image could be read, or a shard in the target is damaged.
    """
    check_apart(source, target)
    claim_folder(target, source, {"made": "shards", "size": size})
    unique, clashes = split_clashes(names)
    yield from clashes.items()
    number, present = _finished(target)
    yield from ((name, False) for name in unique if key_of(name) in present)
    missing = [name for name in unique if key_of(name) not in present]
    with closing(map_parallel(partial(_encode, source), missing, jobs)) as images:
        written = len(present)
        for image in images:
            rest = chain([image], images)
            try:
                for name, result in _write_shard(_path(target, number), rest, size):
                    written += result is True
                    yield name, result
            except OSError as error:
                path = printable(_path(target, number))
                raise OutputError(f"{path}: cannot be written ({one_line(error)})") from error
            number += 1
    if not written:
        release_folder(target)
        raise TrainingError(f"{printable(source)}: no image could be read, so there are no shards")


def _write_shard(
    path: Path, images: Iterator[tuple[str, bytes | Exception]], size: int
) -> Generator[tuple[str, bool | Exception]]:
    """Write images into one shard until it is full; without any, there is no shard."""
    with ExitStack() as stack:
        temporary, file = stack.enter_context(temporary_file(path.parent))
        members: list[Member] = []
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for name, content in images:
                if isinstance(content, Exception):
                    yield name, content
                    continue
                for suffix, part in ((_PNG, content), (_JSON, _description(name, content))):
                    members.append(_add(archive, file, key_of(name) + suffix, part))
                yield name, True
                if file.tell() >= size:
                    break
        if members:
            _publish(temporary, file, path)
            _write_index(path, members)


def _add(archive: tarfile.TarFile, file: BinaryIO, name: str, content: bytes) -> Member:
    """Add a file without owner and time, so that equal images give equal shards."""
    header = tarfile.TarInfo(name)
    header.size, header.mode = len(content), 0o444
    archive.addfile(header, io.BytesIO(content))
    blocks = -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return Member(name, file.tell() - blocks, len(content))


def _publish(temporary: Path, file: BinaryIO, path: Path) -> None:
    flush_to_disk(file)
    if os.name == "nt":
        file.close()
    temporary.replace(path)


def _write_index(shard: Path, members: Sequence[Member]) -> None:
    """Write the index of a shard whose files come in pairs, as DALI's wds2idx does."""
    lines = [f"{INDEX_VERSION} {len(members) // 2}"]
    for pair in zip(members[::2], members[1::2], strict=True):
        fields = [
            f"{each.name.rpartition('.')[2]} {each.start} {each.size} {each.name}" for each in pair
        ]
        lines.append(" ".join(fields))
    text = "".join(f"{line}\n" for line in lines)
    publish_text(shard.with_suffix(INDEX_SUFFIX), text, overwrite=True)


def _finished(target: Path) -> tuple[int, set[str]]:
    """Return the number of the next shard, and the keys of all images in finished ones."""
    present: set[str] = set()
    number = 0
    for path in sorted(target.iterdir()):
        if match := _NAME.fullmatch(path.name):
            members = read_members(str(path))
            if not path.with_suffix(INDEX_SUFFIX).exists():  # interrupted just before it
                _write_index(path, members)
            present.update(each.name.removesuffix(_PNG) for each in members if each.is_image)
            number = int(match[1]) + 1
    return number, present


def _path(target: Path, number: int) -> Path:
    return target / f"shard-{number:06}{SUFFIX}"


def _description(name: str, png: bytes) -> bytes:
    width, height = struct.unpack(">II", png[PNG_SIZE])
    return json.dumps({"name": name, "width": width, "height": height}).encode()


def _encode(source: Path, name: str) -> bytes:
    return png_of(read_rgb(source / name))
