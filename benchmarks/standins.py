"""Stand-ins for missing packages that read and write files, for benchmarks that use no files.

A machine with a GPU may have little more than torch. Call `install` before the project is
imported; installed packages are never replaced.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from unittest.mock import MagicMock

PACKAGES = ("av", "imagecodecs", "platformdirs", "filelock", "requests", "tifffile")


class _StandIns(MetaPathFinder, Loader):
    """Import hook for the named packages and all their submodules."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = packages

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in self._packages:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__getattr__"] = _named


class _Anything(type):
    """A class with every attribute."""

    def __getattr__(cls, name: str) -> object:
        return _named(name)


def _named(name: str) -> object:
    """Return an exception class for a name in title case, and a mock otherwise."""
    if name.startswith("__"):
        raise AttributeError(name)
    return _Anything(name, (Exception,), {}) if name[0].isupper() else MagicMock(name=name)


def install() -> tuple[str, ...]:
    """Install stand-ins for packages that are not installed, and return their names."""
    missing = tuple(name for name in PACKAGES if importlib.util.find_spec(name) is None)
    if missing:
        sys.meta_path.append(_StandIns(missing))
    return missing
