"""Check that a recipe has not changed in a way that prevents resuming a run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from upscale.errors import TrainingError
from upscale.files.printable import printable

FREE = r"name|notes|licence|data\.workers|(validation|logging|saving)(\..*)?"
"""Keys that may change because they do not affect the weights, besides the iterations of stages and
all keys of later stages."""

_SHOWN = 5


def check_unchanged(path: Path, before: str, now: str, stage_index: int) -> None:
    """Raise an error for a recipe that would have led to other weights than a saved state.

    Args:
        path: Path of the state to resume.
        before: Recipe of the state, as `to_yaml` writes it.
        now: Present recipe, as `to_yaml` writes it.
        stage_index: Index of the stage of the state.

    Raises:
        TrainingError: Keys have changed; the message names them.
    """
    old, new = (dict(_flat("", yaml.load(text, yaml.BaseLoader))) for text in (before, now))
    changed = [
        f"{key} was {old.get(key, 'not there')} and is {new.get(key, 'not there')}"
        for key in dict.fromkeys((*old, *new))
        if old.get(key) != new.get(key) and not _is_free(key, stage_index)
    ]
    if changed:
        more = f", and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise TrainingError(
            f"{printable(path)}: the recipe has changed: {', '.join(changed[:_SHOWN])}{more}; "
            "change it back, use another folder, or start over with --restart"
        )


def _is_free(key: str, stage_index: int) -> bool:
    stage = re.fullmatch(r"stages\.(\d+)\.(.*)", key)
    if stage:
        return int(stage[1]) > stage_index or stage[2] == "iterations"
    return re.fullmatch(FREE, key) is not None


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401
    """Yield dotted keys, for example `stages.0.batch`, with their texts."""
    if isinstance(value, str):
        yield key, value
        return
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for name, each in inner:
        yield from _flat(f"{key}.{name}" if key else str(name), each)
