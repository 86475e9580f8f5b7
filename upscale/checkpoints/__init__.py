"""Checkpoint files, named models and where they live.

Importing this package does not import torch; what reads tensors does, when it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from upscale.checkpoints.cache import (
    CACHE_VARIABLE,
    Presence,
    cache_root,
    imported_names,
    is_present,
)
from upscale.checkpoints.catalog_entries import CatalogEntry, catalog, known_name
from upscale.checkpoints.files import read_metadata

if TYPE_CHECKING:
    from upscale.checkpoints.blending import blend
    from upscale.checkpoints.community import CommunityModel, load_community
    from upscale.checkpoints.download import OFFLINE_VARIABLE, ByteProgress
    from upscale.checkpoints.resolving import (
        ImportedModel,
        Resolved,
        import_checkpoint,
        imported_models,
        locate,
        remove_imported,
        resolve,
    )
    from upscale.checkpoints.state_dicts import read_state_dict, write_safetensors

__all__ = [
    "CACHE_VARIABLE",
    "OFFLINE_VARIABLE",
    "ByteProgress",
    "CatalogEntry",
    "CommunityModel",
    "ImportedModel",
    "Presence",
    "Resolved",
    "blend",
    "cache_root",
    "catalog",
    "import_checkpoint",
    "imported_models",
    "imported_names",
    "is_present",
    "known_name",
    "load_community",
    "locate",
    "read_metadata",
    "read_state_dict",
    "remove_imported",
    "resolve",
    "write_safetensors",
]

_LATER = {
    "blend": "blending",
    "CommunityModel": "community",
    "load_community": "community",
    "OFFLINE_VARIABLE": "download",
    "ByteProgress": "download",
    "read_state_dict": "state_dicts",
    "write_safetensors": "state_dicts",
    "ImportedModel": "resolving",
    "Resolved": "resolving",
    "import_checkpoint": "resolving",
    "imported_models": "resolving",
    "locate": "resolving",
    "remove_imported": "resolving",
    "resolve": "resolving",
}
"""Names whose modules import torch or requests, and those modules."""


def __getattr__(name: str) -> object:
    """Import the module that defines `name`, and torch with it where it needs that."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
