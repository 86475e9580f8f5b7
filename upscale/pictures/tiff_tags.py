"""The directories of TIFF files and EXIF blocks: read with distrust, packed anew."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from upscale.pictures.decoded import MalformedError

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 2, 3, 4, 5, 7, 16
_LATER = {13: 4, 16: 8, 17: 8, 18: 8}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, **_LATER}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MAX_PAGES = 10_000
_MAX_COUNT = 50_000_000


@dataclass(frozen=True, slots=True)
class Dialect:
    """How numbers are laid out.

    Attributes:
        order: Byte order, `<` or `>`.
        big: Big TIFF, whose offsets have 8 bytes instead of 4.
    """

    order: str
    big: bool = False

    def number(self, data: bytes, place: int, form: str) -> int:
        """One number of a struct format; MalformedError beyond the end."""
        if place + struct.calcsize(self.order + form) > len(data):
            raise MalformedError("is cut off")
        return struct.unpack_from(self.order + form, data, place)[0]

    @property
    def word(self) -> str:
        """The struct format of an offset."""
        return "Q" if self.big else "I"

    @property
    def word_size(self) -> int:
        """The bytes of an offset."""
        return 8 if self.big else 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag's values as stored: their type, how many, and their bytes.

    An entry that cannot be read has type 0 and no values: missing is not the same as damaged.
    """

    kind: int
    count: int
    body: memoryview | bytes


Directory = dict[int, Entry]


@dataclass(frozen=True, slots=True)
class Tags:
    """A directory with the byte order that its values need."""

    entries: Directory
    dialect: Dialect

    def numbers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The integers of a tag, or the default where it is missing.

        Raises:
            MalformedError: It holds no integers, or is missing and has no default.
        """
        entry = self.entries.get(tag)
        if entry is None and default:
            return default
        form = _INTEGERS.get(entry.kind) if entry else None
        if entry is None or form is None or not 0 < entry.count <= _MAX_COUNT:
            raise MalformedError("is damaged or cut off")
        return struct.unpack(f"{self.dialect.order}{entry.count}{form}", entry.body)

    def number(self, tag: int, default: int | None = None) -> int:
        """The first integer of a tag."""
        return self.numbers(tag, () if default is None else (default,))[0]

    def hint(self, tag: int, default: int) -> int:
        """The first integer of a tag that the pixels do not depend on."""
        try:
            return self.number(tag, default)
        except MalformedError:
            return default

    def content(self, tag: int) -> bytes | None:
        """The bytes of a tag; None when it is missing or empty."""
        entry = self.entries.get(tag)
        return bytes(entry.body) or None if entry else None

    def ratio(self, tag: int) -> float | None:
        """The first rational of a tag; None when it is missing or not above 0."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind != RATIONAL or entry.count < 1:
            return None
        above, below = struct.unpack_from(self.dialect.order + "II", entry.body)
        return above / below if above and below else None


def start(data: bytes) -> tuple[Dialect, int]:
    """The dialect, and where the first directory is."""
    dialect = Dialect("<" if data[:2] == b"II" else ">", 43 in data[2:4])
    return dialect, dialect.number(data, 8 if dialect.big else 4, dialect.word)


def pages(data: bytes) -> Iterator[Tags]:
    """The tags of each page; the first page must be whole, damage in a later one ends the walk."""
    dialect, place = start(data)
    seen: set[int] = set()
    while place and place not in seen and len(seen) < _MAX_PAGES:
        try:
            entries, following = directory(data, place, dialect)
        except MalformedError:
            if not seen:
                raise
            return
        yield Tags(entries, dialect)
        seen.add(place)
        place = following
    if not seen:
        raise MalformedError("is damaged")


def directory(data: bytes, place: int, dialect: Dialect) -> tuple[Directory, int]:
    """The entries of one directory, and where the next directory is."""
    head, step = (8, 20) if dialect.big else (2, 12)
    end = place + head + dialect.number(data, place, "Q" if dialect.big else "H") * step
    if end > len(data):
        raise MalformedError("is cut off")
    found: Directory = {}
    for at in range(place + head, end, step):
        found.setdefault(dialect.number(data, at, "H"), _entry(data, at, dialect))
    last = end + dialect.word_size > len(data)
    return found, 0 if last else dialect.number(data, end, dialect.word)


def _entry(data: bytes, at: int, dialect: Dialect) -> Entry:
    """One entry; an empty one when its values lie outside the file or have no known type."""
    kind = dialect.number(data, at + 2, "H")
    count = dialect.number(data, at + 4, dialect.word)
    place = at + 4 + dialect.word_size
    size = _SIZES.get(kind, 0) * count
    if size > dialect.word_size:
        place = dialect.number(data, place, dialect.word)
    if not size or place + size > len(data):
        return Entry(0, 0, b"")
    return Entry(kind, count, memoryview(data)[place : place + size])


def packed(entries: Mapping[int, Entry], place: int, dialect: Dialect) -> bytes:
    """A directory without a next one, and its values behind it, to stand at an offset."""
    head, step = (8, 20) if dialect.big else (2, 12)
    parts = [struct.pack(dialect.order + ("Q" if dialect.big else "H"), len(entries))]
    values: list[bytes] = []
    free = place + head + step * len(entries) + dialect.word_size
    for tag, entry in sorted(entries.items()):
        body = bytes(entry.body)
        parts.append(struct.pack(f"{dialect.order}HH{dialect.word}", tag, entry.kind, entry.count))
        if len(body) <= dialect.word_size:
            parts.append(body.ljust(dialect.word_size, b"\0"))
            continue
        parts.append(struct.pack(dialect.order + dialect.word, free))
        values.append(body + b"\0" * (len(body) % 2))
        free += len(values[-1])
    return b"".join((*parts, bytes(dialect.word_size), *values))


def integers(dialect: Dialect, kind: int, *values: int) -> Entry:
    """An entry of BYTE, SHORT, LONG or LONG8 values."""
    body = struct.pack(f"{dialect.order}{len(values)}{_INTEGERS[kind]}", *values)
    return Entry(kind, len(values), body)
