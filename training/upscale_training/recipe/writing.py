"""Recipes as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from upscale_training.degradation.steps import STEPS
from upscale_training.recipe.nodes import dump
from upscale_training.recipe.settings import Recipe

_NAME_OF: dict[type, str] = {kind: name for name, kind in STEPS.items()}


def to_yaml(recipe: Recipe, *, bare: bool = False) -> str:
    """Write everything that a recipe says, the defaults too, as `read_recipe` reads it.

    Args:
        recipe: with absolute paths, if it shall mean the same wherever the text is put.
        bare: write paths without their folders, for text that is given away.
    """
    return dump(_plain(recipe, bare))


def _plain(value: Any, bare: bool) -> Any:  # noqa: ANN401  # whatever settings hold
    if isinstance(value, Path):
        return value.name if bare else str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [_plain(each, bare) for each in value]
    if not is_dataclass(value):
        return value
    named = {"do": _NAME_OF[type(value)]} if type(value) in _NAME_OF else {}
    return named | {one.name: _plain(getattr(value, one.name), bare) for one in fields(value)}
