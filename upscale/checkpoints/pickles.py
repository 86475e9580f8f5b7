"""Check pickles of torch checkpoints before torch reads them.

torch unpickles only tensors and plain values, but trusts the sizes in a file: a checkpoint of 400
bytes can make it allocate gigabytes, or read beyond the end of a record. Here the instructions of a
pickle are followed without creating its objects. Calls other than those that build tensors are
refused, and every size is compared with the bytes that are in the file.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

MAX_PICKLE_BYTES = 1 << 25
"""The pickle of a network with 1,000 tensors has about 150,000 bytes."""

MAX_INSTRUCTIONS = 1_000_000
"""A tensor takes about 35 instructions."""

MAX_CALLS = 100_000
MAX_ITEMS = 1_000_000
"""Largest number of items in all arguments of calls, which a call may copy."""

MAX_TUPLE = 1000
"""Largest number of items in a tuple and the tuples in it, which Python hashes each time anew."""

MAX_AXES = 16

_LEGACY_PICKLES = 5
"""Magic number, version, system, the object, and the keys of its storages."""

_STORAGES = {
    "UntypedStorage": 1,
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}
"""Bytes of an element by the name of the storage's class."""

_TYPES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2fnuz": 1,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint64": 8,
    "uint32": 4,
    "uint16": 2,
    "uint8": 1,
    "bool": 1,
}
"""Bytes of an element by the name of torch's type."""

_CONTAINERS = frozenset({"collections.OrderedDict", "collections.Counter"})
_PLAIN_CALLS = frozenset({"torch.Size", "torch.device"})
_REBUILDS = frozenset({"torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3"})
_PARAMETER = "torch._utils._rebuild_parameter"

_Lengths = Mapping[str, int]
"""Length of the record of each storage in an archive, by its key."""


class PickleError(Exception):
    """A pickle that must not be loaded; the message lacks the name of the file."""


def check_archive(path: Path) -> None:
    """Check a zip archive that `torch.save` has written.

    The archive must be one that every reader understands in the same way, because torch reads it
    with another library than this function.

    Args:
        path: Checkpoint file that starts with a zip header.

    Raises:
        PickleError: The file is damaged, compressed, or not safe to load.
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            lengths = _record_lengths(archive, size)
            root = archive.infolist()[0].filename.partition("/")[0]
            with archive.open(f"{root}/data.pkl") as stream:
                content = stream.read(MAX_PICKLE_BYTES + 1)
    except KeyError:
        raise PickleError("a zip archive, not a torch checkpoint; extract it") from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError) as error:
        raise PickleError("damaged archive; download it again") from error
    prefix = f"{root}/data/"
    storages = {
        name.removeprefix(prefix): length
        for name, length in lengths.items()
        if name.startswith(prefix)
    }
    _check_pickles(content, size, storages, 1)


def check_legacy(path: Path) -> None:
    """Check a file in the format that `torch.save` wrote before torch 1.6: pickles, then data.

    Args:
        path: Checkpoint file.

    Raises:
        PickleError: The file is damaged, or not safe to load.
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        content = stream.read(MAX_PICKLE_BYTES + 1)
    _check_pickles(content, size, None, _LEGACY_PICKLES)


def _record_lengths(archive: zipfile.ZipFile, size: int) -> dict[str, int]:
    """Return the lengths of all records, after checks of the archive's structure."""
    records = archive.infolist()
    if sum(record.file_size for record in records) > size:
        raise PickleError("a compressed archive, not a torch checkpoint; extract it")
    names = {record.filename.lower() for record in records}
    plain = all(record.compress_type == zipfile.ZIP_STORED for record in records)
    # Data before the first record, or a comment at the end, let readers disagree about the content.
    starts = min((record.header_offset for record in records), default=1)
    if not plain or starts != 0 or archive.comment or len(names) != len(records):
        raise PickleError("not an archive as torch writes it; save it again with torch")
    return {record.filename: record.file_size for record in records}


def _check_pickles(content: bytes, size: int, lengths: _Lengths | None, pickles: int) -> None:
    stream = io.BytesIO(content[:MAX_PICKLE_BYTES])
    machine = _Machine(size, lengths)
    try:
        for _ in range(pickles):
            machine.run(stream)
    except PickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, EOFError) as error:
        if len(content) > MAX_PICKLE_BYTES:
            raise PickleError("its list of tensors is too long for a network") from error
        raise PickleError("damaged or truncated; download it again") from error


# --- the values of a pickle --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Global:
    """A function or class; its name contains the module."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class _Tuple:
    """A tuple; `weight` is the number of items in it and in its tuples."""

    items: tuple[object, ...] = ()
    weight: int = 1


@dataclass(slots=True, eq=False)
class _Container:
    """A list, set or dictionary, of which only the number of items matters."""

    items: int = 0
    attributes: bool = False


@dataclass(frozen=True, slots=True)
class _Storage:
    """The memory of tensors: its length, and that of an element, in bytes."""

    length: int
    element: int


class _Opaque:
    """Any other object, such as a tensor."""


_OPAQUE = _Opaque()
_CONSTANTS: Mapping[str, object] = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": _Tuple(),
}
_ARGUMENTS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"}
)


class _Machine:
    """Follows the instructions of pickles with stand-ins for their objects."""

    def __init__(self, size: int, lengths: _Lengths | None) -> None:
        self._size = size
        self._lengths = lengths
        self._storages: dict[str, _Storage] = {}
        self._stored = 0
        self._instructions = 0
        self._calls = 0
        self._items = 0
        self._stack: list[object] = []
        self._marks: list[list[object]] = []
        self._memo: dict[int, object] = {}
        self._steps: dict[str, Callable[[], object]] = {
            "MARK": self._mark,
            "TUPLE": lambda: self._push_tuple(self._pop_mark()),
            "TUPLE1": lambda: self._push_tuple(self._pop(1)),
            "TUPLE2": lambda: self._push_tuple(self._pop(2)),
            "TUPLE3": lambda: self._push_tuple(self._pop(3)),
            "APPEND": lambda: self._fill(self._pop(1)),
            "APPENDS": lambda: self._fill(self._pop_mark()),
            "SETITEM": lambda: self._fill(self._pop(2)),
            "SETITEMS": lambda: self._fill(self._pop_mark()),
            "BUILD": self._build,
            "REDUCE": self._call,
            "BINPERSID": self._load_storage,
        }

    def run(self, stream: BinaryIO) -> None:
        """Follow one pickle up to its end."""
        self._stack, self._marks, self._memo = [], [], {}
        for name, argument in _instructions(stream):
            self._instructions += 1
            if self._instructions > MAX_INSTRUCTIONS:
                raise PickleError("its list of tensors is too long for a network")
            self._step(name, argument)

    def _step(self, name: str, argument: object) -> None:
        if name in _ARGUMENTS:
            self._stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[cast(int, argument)] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[cast(int, argument)])
        elif name == "GLOBAL":
            self._stack.append(_known_global(str(argument)))
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"):
            self._stack.append(_Container())
        elif name in self._steps:
            self._steps[name]()
        elif name not in ("PROTO", "STOP"):
            raise _unsafe(f"the pickle instruction {name}")

    def _pop(self, count: int) -> list[object]:
        if count > len(self._stack):
            raise IndexError
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _pop_mark(self) -> list[object]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _push_tuple(self, items: list[object]) -> None:
        weight = 1 + sum(item.weight if isinstance(item, _Tuple) else 1 for item in items)
        if weight > MAX_TUPLE:
            raise _unsafe("large tuples")
        self._stack.append(_Tuple(tuple(items), weight))

    def _fill(self, items: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, _Container):
            raise TypeError
        target.items += len(items)

    def _build(self) -> None:
        """Set attributes, which only the dictionaries of `Module.state_dict` have."""
        state, target = self._pop(1)[0], self._stack[-1]
        if not isinstance(target, _Container) or not target.attributes:
            raise _unsafe("an object with attributes")
        self._count_items(state)

    def _call(self) -> None:
        function, arguments = self._pop(2)
        if not isinstance(function, _Global) or not isinstance(arguments, _Tuple):
            raise TypeError
        self._calls += 1
        if self._calls > MAX_CALLS:
            raise PickleError("its list of tensors is too long for a network")
        for value in arguments.items:
            self._count_items(value)
        self._stack.append(self._result(function.name, arguments.items))

    def _result(self, function: str, arguments: tuple[object, ...]) -> object:
        if function in _CONTAINERS:
            return _Container(attributes=True)
        if function in _PLAIN_CALLS:
            return arguments[0] if function == "torch.Size" else _OPAQUE
        if function in _REBUILDS:
            _check_view(arguments)
            return _OPAQUE
        if function == _PARAMETER and arguments[0] is _OPAQUE:
            return _OPAQUE
        raise _unsafe(function)

    def _count_items(self, value: object) -> None:
        """Count what a call may copy, since one object can be copied many times."""
        if isinstance(value, _Container):
            self._items += value.items
        elif isinstance(value, str):
            self._items += len(value)
        if self._items > MAX_ITEMS:
            raise PickleError("copies its content too often; save it again with torch")

    def _load_storage(self) -> None:
        """Replace the description of a storage by its length, compared with the file."""
        kind, storage, key, _, count, *_ = _items(self._pop(1)[0])
        if not isinstance(storage, _Global) or kind != "storage":
            raise TypeError
        element = _STORAGES.get(storage.name.rpartition(".")[2])
        if element is None:
            raise PickleError("has tensors of a type that is not supported")
        loaded = _Storage(_whole(count) * element, element)
        if self._storages.setdefault(str(key), loaded) is loaded:
            self._stored += loaded.length
        available = self._size if self._lengths is None else self._lengths.get(str(key), 0)
        if loaded.length > available or self._stored > self._size:
            raise PickleError("its tensors are larger than the file")
        if self._storages[str(key)] != loaded:
            raise PickleError("describes its data in two ways; save it again with torch")
        self._stack.append(loaded)


def _instructions(stream: BinaryIO) -> Iterator[tuple[str, object]]:
    for instruction, argument, _ in pickletools.genops(stream):
        yield instruction.name, argument


def _known_global(argument: str) -> _Global:
    """Return the object that a pickle names, if it has a use in a checkpoint."""
    name = argument.replace(" ", ".", 1)
    module, _, last = name.rpartition(".")
    is_storage = last in _STORAGES and module in ("torch", "torch.storage", "torch.cuda")
    is_type = module == "torch" and last in _TYPES
    if is_storage or is_type or name in _CONTAINERS | _PLAIN_CALLS | _REBUILDS | {_PARAMETER}:
        return _Global(name)
    raise _unsafe(name)


def _check_view(arguments: tuple[object, ...]) -> None:
    """Check that a tensor lies in its storage."""
    storage, offset, shape, strides, *rest = arguments
    if not isinstance(storage, _Storage):
        raise TypeError
    element = storage.element
    if len(rest) > 2 and isinstance(rest[2], _Global):  # the type, in _rebuild_tensor_v3
        element = _TYPES[rest[2].name.rpartition(".")[2]]
    sides = [_whole(side) for side in _items(shape)]
    steps = [_whole(step) for step in _items(strides)]
    last = sum((side - 1) * step for side, step in zip(sides, steps, strict=True))
    if len(sides) > MAX_AXES or (
        all(sides) and (_whole(offset) + last + 1) * element > storage.length
    ):
        raise PickleError("its tensors are larger than the file")


def _items(value: object) -> tuple[object, ...]:
    if not isinstance(value, _Tuple):
        raise TypeError
    return value.items


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise PickleError("its tensors are larger than the file")
    return value


def _unsafe(name: str) -> PickleError:
    return PickleError(
        f"contains objects other than tensors ({name[:60]}), which are not loaded because they "
        "could run code; use a .safetensors file"
    )
