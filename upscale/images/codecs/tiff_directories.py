"""Directories of a TIFF file, one for each page, mask and reduced copy.

tifffile stops at a page that it cannot find and loops forever in a ring of pages, so pages are
counted here.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from tifffile import TiffFile, TiffPage

from upscale.images.codecs.base import MalformedError, UnsupportedError

_MAX_PAGES = 10_000
# tifffile leaves the resolution of the last page, two fractions, without a reference.
_SLACK_BYTES = 16
_RING = "its last page points back to an earlier one"
_BEYOND = "its list of pages goes on beyond the end of the file; further pages are missing"


def read_directories(
    file: BinaryIO, tiff: TiffFile, *, is_partial: bool
) -> tuple[list[TiffPage], tuple[str, ...]]:
    """Return the pages of all directories, and clauses on a last one with an invalid pointer.

    Args:
        file: The TIFF file.
        tiff: File as tifffile opened it.
        is_partial: Whether the pages before a missing one are enough.

    Raises:
        MalformedError: A page is missing.
        UnsupportedError: There are too many.
    """
    layout, seen = tiff.tiff, set[int]()
    position, note = 8 if layout.is_bigtiff else 4, None
    size = file.seek(0, 2)
    while (start := _number(file, position, layout.offsetformat)) != 0:
        if start is None:
            if not seen:
                raise MalformedError("is cut off")
            note = _BEYOND
            break
        if start in seen:
            note = _RING
            break
        tags = _number(file, start, layout.tagnoformat)
        after = start + layout.tagnosize + (tags or 0) * layout.tagsize
        if tags is None and seen and start >= size:
            note = _BEYOND
            break
        if is_partial and seen and after > size:
            break
        if tags is None:
            raise MalformedError("is cut off")
        seen.add(start)
        if len(seen) > _MAX_PAGES:
            raise UnsupportedError(f"has more than {_MAX_PAGES} pages, which is not supported")
        position = after
    pages = [tiff.pages.get(index).aspage() for index in range(len(seen))]
    if note == _BEYOND and _is_followed(file, pages):
        # The bytes belong to the page that is missing.
        if not is_partial:
            raise MalformedError("is cut off")
        note = None
    return pages, (note,) if note else ()


def _is_followed(file: BinaryIO, pages: list[TiffPage]) -> bool:
    """Return whether more bytes than a few, or than 0s, follow all that the pages refer to."""
    ends = [page.offset for page in pages]
    for page in pages:
        layout = page.parent.tiff
        ends.append(page.offset + layout.tagnosize + len(page.tags) * layout.tagsize)
        ends[-1] += layout.offsetsize
        ends += [tag.valueoffset + tag.valuebytecount for tag in page.tags]
        segments = zip(page.dataoffsets, page.databytecounts, strict=False)
        ends += [start + length for start, length in segments]
    file.seek(max(ends) + _SLACK_BYTES)
    return bool(file.read().strip(b"\0"))


def _number(file: BinaryIO, position: int, format: str) -> int | None:
    """Read a number at a position; None beyond the end of the file."""
    file.seek(position)
    data = file.read(struct.calcsize(format))
    return struct.unpack(format, data)[0] if len(data) == struct.calcsize(format) else None
