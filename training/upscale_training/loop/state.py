"""Saved states: folders that are either complete or absent.

    states/<stage>/00005000/
        state.json            information about the state
        ema.safetensors       the averaged weights, which `upscale -n` loads
        common.pt             networks, optimisers, scalers
        process-0.pt ...      per process: random states, pool, position in the data

A state is written under a name that starts with a dot, flushed to disk, and renamed (see
`upscale_training.loop.state_writer`). An old state is renamed to such a name before it is removed.
So every folder with a plain name is complete.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from upscale.checkpoints.pickles import check_archive
from upscale.errors import TrainingError
from upscale.files.atomic import replace_text
from upscale.files.error_mapping import one_line
from upscale.files.parse import parse_json
from upscale.files.printable import printable
from upscale.out_of_memory import is_out_of_memory
from upscale_training.data.sources import Listing
from upscale_training.loop.events import Scores
from upscale_training.loop.metrics import lower_is_better
from upscale_training.recipe import SavingSettings

VERSION = 1
WEIGHTS = "ema.safetensors"
COMMON = "common.pt"
_INFO = "state.json"
_JSON_KEYS = {"scores": "figures", "validated_step": "judged"}
"""Keys of state.json that differ from the attributes; states of earlier versions have them."""


@dataclass(frozen=True, slots=True)
class StateInfo:
    """Information about a state that is available without loading it.

    Attributes:
        stage: Name of the stage.
        step: Number of iterations done.
        processes: Number of processes of the run; each has a part.
        recipe: Recipe of the run, as `to_yaml` writes it.
        log_bytes: Size of the log when the state was saved.
        baseline: Scores of bicubic interpolation in validation.
        scores: Scores of the averaged weights in the last validation.
        validated_step: Step of that validation; None before the first one.
        images: Number and digest of the images of each source; None in states of earlier versions.
        changes: Changes of the recipe that were allowed so far, with their iterations.
        version: Version of this format.
    """

    stage: str
    step: int
    processes: int
    recipe: str
    log_bytes: int
    baseline: Scores | None = None
    scores: Scores | None = None
    validated_step: int | None = None
    images: tuple[Listing, ...] | None = None
    changes: tuple[str, ...] = ()
    version: int = VERSION

    def score(self, metric: str) -> float | None:
        """Return the mean of a metric over the validation sets; None without a validation."""
        if self.validated_step != self.step or not self.scores:
            return None
        values = [each[metric] for each in self.scores.values() if metric in each]
        return sum(values) / len(values) if values else None


@dataclass(frozen=True, slots=True)
class SavedState:
    """A state on disk.

    Attributes:
        path: Folder of the state.
        info: Information about the state.
    """

    path: Path
    info: StateInfo

    @property
    def weights(self) -> Path:
        """Path of the averaged weights."""
        return self.path / WEIGHTS

    def common(self) -> dict[str, Any]:
        """Read the part that all processes share.

        Raises:
            TrainingError: The file is damaged.
        """
        return read_part(self.path / COMMON)

    def own(self, rank: int) -> dict[str, Any]:
        """Read the part of one process; see `common`."""
        return read_part(self.path / f"process-{rank}.pt")


def saved_states(folder: Path) -> list[SavedState]:
    """Return the states of one stage, the oldest first.

    Raises:
        TrainingError: The information about a state is damaged.
    """
    if not folder.is_dir():
        return []
    paths = sorted(path for path in folder.iterdir() if path.name.isdigit())
    return [SavedState(path, _read_info(path)) for path in paths]


def remove_states(states: list[SavedState]) -> None:
    """Remove states; each disappears at once for other programs."""
    for state in states:
        renamed = state.path.with_name(f".{state.path.name}.old")
        state.path.rename(renamed)
        shutil.rmtree(renamed, ignore_errors=True)


def remove_stale_states(folder: Path) -> None:
    """Remove incomplete states that a killed run left while saving or removing."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name.startswith(".") and path.suffix in (".part", ".old"):
                shutil.rmtree(path, ignore_errors=True)


def superfluous(states: list[SavedState], settings: SavingSettings) -> list[SavedState]:
    """Return the states that are neither among the newest nor among the best.

    Of states with equal scores, the older one is better.

    Args:
        states: All states of a stage, the oldest first.
        settings: Number of states to keep.
    """
    scored = [state for state in states if state.info.score(settings.best_metric) is not None]
    scored.sort(key=lambda state: _cost(state.info, settings))
    kept = [*states[-settings.keep_last :], *scored[: settings.keep_best]]
    steps = {state.info.step for state in kept}
    return [state for state in states if state.info.step not in steps]


def is_among_best(info: StateInfo, states: list[SavedState], settings: SavingSettings) -> bool:
    """Return whether a state would be kept for its score, given the existing states."""
    if info.score(settings.best_metric) is None:
        return False
    better = [state for state in states if _cost(state.info, settings) <= _cost(info, settings)]
    return len(better) < settings.keep_best


def _cost(info: StateInfo, settings: SavingSettings) -> float:
    """Return a number that is lower for better states; infinite without a validation."""
    score = info.score(settings.best_metric)
    if score is None:
        return math.inf
    return score if lower_is_better(settings.best_metric) else -score


def read_part(path: Path) -> dict[str, Any]:
    """Read a `.pt` file of a state.

    Raises:
        TrainingError: The file is damaged.
    """
    try:
        check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many classes for damaged files
        raise TrainingError(
            f"{path}: damaged or missing ({one_line(error)}); remove the folder "
            f"{path.parent.name} to resume from the previous state"
        ) from error


@contextmanager
def damage_named(state: SavedState) -> Generator[None]:
    """Turn the errors of loading wrong contents into one line that names the state.

    Raises:
        TrainingError: The contents of the state do not fit.
    """
    try:
        yield
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        raise TrainingError(
            f"{printable(state.path)}: damaged, or of another network ({one_line(error)}); remove "
            f"the folder {state.path.name} to resume from the previous state"
        ) from error


def write_info(folder: Path, info: StateInfo) -> None:
    """Write the information about a state into its folder; an existing file is replaced."""
    values = {_JSON_KEYS.get(key, key): value for key, value in asdict(info).items()}
    replace_text(folder / _INFO, json.dumps(values, indent=1))


def _read_info(folder: Path) -> StateInfo:
    path = folder / _INFO
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
        if values["version"] != VERSION:
            raise TrainingError(f"{path}: written by another version of upscale; use that version")
        for name, key in _JSON_KEYS.items():
            values[name] = values.pop(key)
        return TypeAdapter(StateInfo).validate_python(values)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainingError(
            f"{path}: damaged or missing; remove the folder {folder.name} to resume from the "
            "previous state"
        ) from error
