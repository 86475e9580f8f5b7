"""Limits on the memory of this process: control groups of containers and services, and ulimit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

UNLIMITED = 1 << 62
"""Bytes where no limit is set."""


@dataclass(frozen=True, slots=True)
class _Version:
    """The files of a version of control groups.

    Attributes:
        limits: Files with limits in bytes; version 2 stops at the first and slows down at the
            second.
        usage: File with the bytes in use.
        cache: Line of memory.stat with the bytes of the file cache that can be dropped.
    """

    limits: tuple[str, ...]
    usage: str
    cache: str


_VERSIONS = {
    "cgroup2": _Version(("memory.max", "memory.high"), "memory.current", "inactive_file"),
    "cgroup": _Version(("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
}
_PROC = Path("/proc/self")


def remaining_memory(proc: Path = _PROC) -> int:
    """Return the bytes that the limits on this process leave, `UNLIMITED` without limits.

    Args:
        proc: Folder of this process on Linux, which other systems do not have.
    """
    groups = (_remaining_in_group(version, folder) for version, folder in _groups(proc))
    return min((*groups, *_remaining_by_ulimit(), UNLIMITED))


def _groups(proc: Path) -> Iterator[tuple[_Version, Path]]:
    """Yield the control group of this process and all groups above it, of both versions."""
    try:
        mounts = (proc / "mountinfo").read_text(errors="surrogateescape").splitlines()
        groups = (proc / "cgroup").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    own = {"cgroup2": "/", "cgroup": "/"}
    for line in groups:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            own["cgroup2"] = path
        elif "memory" in controllers.split(","):
            own["cgroup"] = path
    for line in mounts:
        before, _, after = line.partition(" - ")
        kind, _, options = [*after.split(), "", "", ""][:3]
        is_memory = kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(","))
        if is_memory:
            root, mounted = (_unescaped(field) for field in before.split()[3:5])
            for folder in _from_own_to_top(own[kind], root, mounted):
                yield _VERSIONS[kind], folder


def _from_own_to_top(own: str, root: str, mounted: str) -> Iterator[Path]:
    """Yield the folders of a group and of those above it, as far as they are mounted.

    A container may see a part of the tree: `root` is the group that is mounted. If its own group is
    elsewhere, as in older containers, that mounted group is the one that limits it.
    """
    top = Path(mounted)
    try:
        relative = PurePosixPath(own).relative_to(root)
    except ValueError:
        relative = PurePosixPath()
    folder = top.joinpath(*(part for part in relative.parts if part != ".."))
    yield folder
    while folder != top:
        folder = folder.parent
        yield folder


def _unescaped(field: str) -> str:
    r"""Return a path of mountinfo, which writes a space as \040."""
    for char in " \t\n\\":
        field = field.replace(f"\\{ord(char):03o}", char)
    return field


def _remaining_in_group(version: _Version, folder: Path) -> int:
    """Return the bytes left in a group; the file cache that can be dropped counts as free."""
    limit = min((_number(folder / name) for name in version.limits), default=UNLIMITED)
    if limit >= UNLIMITED:
        return UNLIMITED
    try:
        used = int((folder / version.usage).read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return UNLIMITED
    pairs = (line.partition(" ") for line in lines)
    cache = next((int(value) for name, _, value in pairs if name == version.cache), 0)
    return max(limit - used + cache, 0)


def _number(path: Path) -> int:
    """Return the number in a file; without such a file or with "max", `UNLIMITED`."""
    try:
        return min(int(path.read_text()), UNLIMITED)
    except (OSError, ValueError):
        return UNLIMITED


def _remaining_by_ulimit() -> Iterator[int]:
    """Yield the bytes left of the address space and of the data segment, where they are limited."""
    with suppress(ImportError):  # Windows
        import resource

        used = psutil.Process().memory_info()
        for name, taken in (("RLIMIT_AS", used.vms), ("RLIMIT_DATA", getattr(used, "data", 0))):
            number = getattr(resource, name, None)
            limit = resource.RLIM_INFINITY if number is None else resource.getrlimit(number)[0]
            if limit != resource.RLIM_INFINITY:
                yield max(limit - taken, 0)
