"""Recipes as YAML text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from upscale_training.recipe.nodes import dump
from upscale_training.recipe.settings import Recipe


def to_yaml(recipe: Recipe, *, bare: bool = False) -> str:
    """Write a recipe with all its defaults as YAML that `read_recipe` reads.

    Args:
        recipe: Recipe to write; its paths must be absolute to mean the same in any folder.
        bare: Whether to write paths without their folders, for text that is published.
    """
    return dump(_to_python(recipe, bare))


def _to_python(value: Any, bare: bool) -> Any:  # noqa: ANN401  # whatever settings hold
    if isinstance(value, Path):
        return value.name if bare else str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [_to_python(each, bare) for each in value]
    if not is_dataclass(value):
        return value
    return {one.name: _to_python(getattr(value, one.name), bare) for one in fields(value)}
