"""What of a recipe may change while a run is resumed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from upscale.errors import TrainingError
from upscale.files.printable import printable

FREE = r"name|notes|licence|data\.workers|(validation|logging|saving)(\..*)?"
"""Keys that change nothing of what is trained; with them, iterations of stages, and everything of
later stages."""

_SHOWN = 5


def check_unchanged(path: Path, before: str, now: str, place: int) -> None:
    """Refuse to resume with a recipe that would have given other weights.

    Args:
        path: of the state to resume.
        before: its recipe, as `to_yaml` writes it.
        now: the present one.
        place: of the state's stage.

    Raises:
        TrainingError: it names the keys that differ.
    """
    old, new = (dict(_flat("", yaml.load(text, yaml.BaseLoader))) for text in (before, now))
    changed = [
        f"{key} was {old.get(key, 'not there')} and is {new.get(key, 'not there')}"
        for key in dict.fromkeys((*old, *new))
        if old.get(key) != new.get(key) and not _is_free(key, place)
    ]
    if changed:
        more = f", and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise TrainingError(
            f"{printable(path)}: the recipe has changed since: {', '.join(changed[:_SHOWN])}{more}; "
            "change it back, take another folder, or begin anew with --restart"
        )


def _is_free(key: str, place: int) -> bool:
    stage = re.fullmatch(r"stages\.(\d+)\.(.*)", key)
    if stage:
        return int(stage[1]) > place or stage[2] == "iterations"
    return re.fullmatch(FREE, key) is not None


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401
    """Keys with dots, as `stages.0.batch`, and texts."""
    if isinstance(value, str):
        yield key, value
        return
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for name, each in inner:
        yield from _flat(f"{key}.{name}" if key else str(name), each)
