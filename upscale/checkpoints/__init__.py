"""Checkpoint files, the catalogue of models, and the cache.

Importing this package does not import torch; functions that read tensors import it on access.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from upscale.checkpoints.attribution import (
    attribution,
    forbids_commercial_use,
    joint_attribution,
)
from upscale.checkpoints.cache import (
    CACHE_VARIABLE,
    Availability,
    availability,
    cache_root,
    imported_names,
)
from upscale.checkpoints.catalog_entries import (
    FACE_OPTIONS,
    CatalogEntry,
    Kind,
    catalog,
    face_catalog,
    face_entries,
    known_face_entry,
    known_name,
    named_scale,
    withdrawal,
)
from upscale.checkpoints.files import read_metadata

if TYPE_CHECKING:
    from upscale.checkpoints.blending import blend
    from upscale.checkpoints.community import CommunityModel, load_community
    from upscale.checkpoints.download import OFFLINE_VARIABLE, ByteProgress
    from upscale.checkpoints.face_networks import FaceNetwork, load_face_network
    from upscale.checkpoints.face_tools import load_face_detector, load_face_parser
    from upscale.checkpoints.resolving import (
        ImportedModel,
        ResolvedModel,
        import_checkpoint,
        imported_models,
        locate,
        remove_imported,
        resolve,
        similar_names,
    )
    from upscale.checkpoints.state_dicts import read_state_dict, write_safetensors

__all__ = [
    "CACHE_VARIABLE",
    "FACE_OPTIONS",
    "OFFLINE_VARIABLE",
    "Availability",
    "ByteProgress",
    "CatalogEntry",
    "CommunityModel",
    "FaceNetwork",
    "ImportedModel",
    "Kind",
    "ResolvedModel",
    "attribution",
    "availability",
    "blend",
    "cache_root",
    "catalog",
    "face_catalog",
    "face_entries",
    "forbids_commercial_use",
    "import_checkpoint",
    "imported_models",
    "imported_names",
    "joint_attribution",
    "known_face_entry",
    "known_name",
    "load_community",
    "load_face_detector",
    "load_face_network",
    "load_face_parser",
    "locate",
    "named_scale",
    "read_metadata",
    "read_state_dict",
    "remove_imported",
    "resolve",
    "similar_names",
    "withdrawal",
    "write_safetensors",
]

_LAZY = {
    "blend": "blending",
    "CommunityModel": "community",
    "load_community": "community",
    "FaceNetwork": "face_networks",
    "load_face_network": "face_networks",
    "load_face_detector": "face_tools",
    "load_face_parser": "face_tools",
    "OFFLINE_VARIABLE": "download",
    "ByteProgress": "download",
    "read_state_dict": "state_dicts",
    "write_safetensors": "state_dicts",
    "ImportedModel": "resolving",
    "ResolvedModel": "resolving",
    "import_checkpoint": "resolving",
    "imported_models": "resolving",
    "locate": "resolving",
    "remove_imported": "resolving",
    "resolve": "resolving",
    "similar_names": "resolving",
}
"""Exported names whose modules import torch or requests, and these modules."""


def __getattr__(name: str) -> object:
    """Import the module that defines `name`."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
