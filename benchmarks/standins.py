"""Stand-ins for packages that read and write files, where a benchmark has no files and they lack.

A machine with a GPU may hold torch and little else. `install` is called before the project is
imported; what is installed is never replaced.
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
    """Finds the named packages and everything in them."""

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
    """A class that has every attribute."""

    def __getattr__(cls, name: str) -> object:
        return _named(name)


def _named(name: str) -> object:
    """A class to inherit from or to except, where the name looks like one; anything, elsewhere."""
    if name.startswith("__"):
        raise AttributeError(name)
    return _Anything(name, (Exception,), {}) if name[0].isupper() else MagicMock(name=name)


def install() -> tuple[str, ...]:
    """Stand in for packages that are not installed, and name them."""
    missing = tuple(name for name in PACKAGES if importlib.util.find_spec(name) is None)
    if missing:
        sys.meta_path.append(_StandIns(missing))
    return missing
