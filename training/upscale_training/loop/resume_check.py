"""Compare a recipe with that of a saved state, to resume a run only as its user expects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from upscale.errors import TrainingError
from upscale.files.printable import printable
from upscale_training.data.sources import Listing
from upscale_training.recipe.nodes import compose
from upscale_training.recipe.reading import build_recipe
from upscale_training.recipe.writing import to_yaml

FREE = r"name|notes|licence|data\.workers|(validation|logging|saving)(\..*)?"
"""Keys that may change because they do not affect the weights, besides the iterations of stages and
all keys of later stages."""

FIXED = (
    r"network\..*"
    r"|stages\.\d+\.(gan\.)?optimiser\.kind"
    r"|stages\.\d+\.gan\.discriminator\.(kind|features)"
)
"""Keys that decide which tensors a state has, so that no run can resume with others."""

_SOURCES = r"data\.sources\.(\d+)\.(path|low|index|shards)"
_FILES = (
    r"start|stages\.\d+\.(perceptual\.backbone|dists\.(backbone|weights)|gan\.discriminator\.start)"
)
"""Keys of files, which are the same file if their names are equal."""

_ABSENT = "not there"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that differs from that of a saved state.

    Attributes:
        key: Dotted key.
        old: Value in the state.
        new: Present value.

    Example:
        >>> print(Change("stages.0.batch", "4", "8"))
        stages.0.batch was 4 and is 8
    """

    key: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.key} was {self.old} and is {self.new}"


def find_changes(
    path: Path,
    before: str,
    now: str,
    stage_index: int,
    *,
    same_images: Sequence[bool] = (),
    allow: bool = False,
) -> tuple[Change, ...]:
    """Return the changes that lead to other weights than the recipe of a saved state.

    Args:
        path: Path of the state to resume.
        before: Recipe of the state, as `to_yaml` writes it.
        now: Present recipe, as `to_yaml` writes it.
        stage_index: Index of the stage of the state.
        same_images: Whether each source lists the images of the state, wherever they are.
        allow: Whether such changes are wanted; those of `FIXED` are impossible.

    Raises:
        TrainingError: Keys have changed; the message names them.
    """
    name = f"{printable(path)}: the saved recipe"
    complete = to_yaml(build_recipe(compose(before, name)))  # with keys that are new since then
    old, new = (dict(_flat("", compose(text, name).to_python())) for text in (complete, now))
    changes = tuple(
        Change(key, old.get(key, _ABSENT), new.get(key, _ABSENT))
        for key in dict.fromkeys((*old, *new))
        if old.get(key) != new.get(key)
    )
    changes = tuple(change for change in changes if not _is_free(change, stage_index, same_images))
    fixed = [change for change in changes if _is_fixed(change)]
    if fixed:
        raise TrainingError(
            f"{printable(path)}: the recipe has changed: {_shown(fixed)}; the saved networks do "
            "not fit; change it back, use another folder, or start over with --restart"
        )
    if changes and not allow:
        raise TrainingError(
            f"{printable(path)}: the recipe has changed: {_shown(changes)}; change it back, resume "
            "with --allow-changes, use another folder, or start over with --restart"
        )
    return changes


def image_notes(
    before: Sequence[Listing] | None, now: Sequence[Listing], changes: Sequence[Change]
) -> list[str]:
    """Return a note for each source whose images differ, though its settings do not."""
    if before is None or len(before) != len(now):
        return []
    changed = {change.key for change in changes}
    return [
        f"data.sources.{index}: the images have changed, from {old.images} to {new.images}; "
        "samples differ from here on"
        for index, (old, new) in enumerate(zip(before, now, strict=True))
        if old != new and not any(key.startswith(f"data.sources.{index}.") for key in changed)
    ]


def makes_other_pairs(change: Change) -> bool:
    """Return whether pairs made before a change are not like those made after it."""
    return change.key.startswith(("degradation.", "data.patch", "data.margin"))


def _shown(changes: Sequence[Change]) -> str:
    more = f", and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return ", ".join(map(str, changes[:_SHOWN])) + more


def _is_free(change: Change, stage_index: int, same_images: Sequence[bool]) -> bool:
    stage = re.fullmatch(r"stages\.(\d+)\.(.*)", change.key)
    if stage and (int(stage[1]) > stage_index or stage[2] == "iterations"):
        return True
    if source := re.fullmatch(_SOURCES, change.key):
        index = int(source[1])
        return index < len(same_images) and same_images[index]
    if re.fullmatch(_FILES, change.key):
        return change.old != _ABSENT and _name(change.old) == _name(change.new)
    return re.fullmatch(FREE, change.key) is not None


def _is_fixed(change: Change) -> bool:
    # A discriminator that appears or disappears is none that changes.
    return _ABSENT not in (change.old, change.new) and bool(re.fullmatch(FIXED, change.key))


def _name(path: str) -> str:
    return PurePath(path.replace("\\", "/")).name


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401
    """Yield dotted keys, for example `stages.0.batch`, with their texts."""
    if not isinstance(value, dict | list):
        yield key, str(value)
        return
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for name, each in inner:
        yield from _flat(f"{key}.{name}" if key else str(name), each)
