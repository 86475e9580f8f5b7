"""Basicsr's own readers and writers of data sets, which tests take as oracles."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import pytest


def load_official() -> SimpleNamespace:
    """Return basicsr's `FileClient`, `LmdbMaker` and functions that list data sets."""
    files, lmdb, listing = (
        _load(name) for name in ("utils/file_client", "utils/lmdb_util", "data/data_util")
    )
    return SimpleNamespace(
        FileClient=files.FileClient,
        LmdbMaker=lmdb.LmdbMaker,
        paths_from_lmdb=listing.paths_from_lmdb,
        paired_paths_from_lmdb=listing.paired_paths_from_lmdb,
        paired_paths_from_meta_info_file=listing.paired_paths_from_meta_info_file,
    )


def _load(name: str) -> ModuleType:
    """Load a module by its path, with stand-ins for what else it imports (and does not need)."""
    package = importlib.util.find_spec("basicsr")
    if package is None or not package.submodule_search_locations:
        pytest.skip("basicsr is not installed (the README's test command installs it)")
    [folder] = package.submodule_search_locations
    spec = importlib.util.spec_from_file_location(name.replace("/", "_"), f"{folder}/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    stand_ins = {
        "tqdm": _stand_in("tqdm", tqdm=None),
        "basicsr": _stand_in("basicsr"),
        "basicsr.data": _stand_in("basicsr.data"),
        "basicsr.data.transforms": _stand_in("basicsr.data.transforms", mod_crop=None),
        "basicsr.utils": _stand_in("basicsr.utils", img2tensor=None, scandir=None),
    }
    with patch.dict(sys.modules, stand_ins):
        spec.loader.exec_module(module)
    return module


def _stand_in(name: str, **attributes: object) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(attributes)
    return module
