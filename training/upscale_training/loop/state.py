"""Saved states: folders that are complete or absent.

    states/<stage>/00005000/
        state.json            what it is a state of
        ema.safetensors       the averaged weights, which `upscale -n` loads
        common.pt             networks, optimisers, scalers
        process-0.pt ...      of each process: random numbers, pool, place in the data

It is written under a name that begins with a dot, flushed to the disk, and renamed. An older one is
renamed to such a name before it is removed. So whatever has a plain name is whole.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from upscale.errors import CheckpointError, OutputError, TrainingError
from upscale.files.atomic import flush_to_disk, replace_text, sync_folder
from upscale.files.error_mapping import one_line
from upscale_training.loop.distributed import Processes
from upscale_training.loop.events import Figures
from upscale_training.loop.metrics import lower_is_better
from upscale_training.recipe import SavingSettings

VERSION = 1
WEIGHTS = "ema.safetensors"
_FACTS, _COMMON = "state.json", "common.pt"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a state without loading it.

    Attributes:
        stage: of the recipe.
        step: iterations done.
        processes: of the run; each has a part.
        recipe: of the run, as `to_yaml` writes it.
        log_bytes: size of the log when it was saved.
        baseline: what bicubic interpolation gets in validation.
        figures: what the averaged weights got at the last validation.
        judged: the step of that validation; None before the first one.
        version: of this format.
    """

    stage: str
    step: int
    processes: int
    recipe: str
    log_bytes: int
    baseline: Figures | None = None
    figures: Figures | None = None
    judged: int | None = None
    version: int = VERSION

    def figure(self, metric: str) -> float | None:
        """The mean of a metric over the validation sets; None where this step was not judged."""
        if self.judged != self.step or not self.figures:
            return None
        found = [each[metric] for each in self.figures.values() if metric in each]
        return sum(found) / len(found) if found else None


@dataclass(frozen=True, slots=True)
class SavedState:
    """A state on the disk."""

    path: Path
    facts: Facts

    @property
    def weights(self) -> Path:
        """The file of the averaged weights."""
        return self.path / WEIGHTS

    def common(self) -> dict[str, Any]:
        """Read what all processes share.

        Raises:
            TrainingError: it is damaged.
        """
        return _read(self.path / _COMMON)

    def own(self, rank: int) -> dict[str, Any]:
        """Read the part of one process; see `common`."""
        return _read(self.path / f"process-{rank}.pt")


def saved_states(folder: Path) -> list[SavedState]:
    """The states of one stage, the oldest first.

    Raises:
        TrainingError: what tells about one of them is damaged.
    """
    if not folder.is_dir():
        return []
    paths = sorted(path for path in folder.iterdir() if path.name.isdigit())
    return [SavedState(path, _read_facts(path)) for path in paths]


def write_state(
    folder: Path,
    facts: Facts,
    processes: Processes,
    *,
    write_weights: Callable[[Path], None],
    common: Callable[[], Mapping[str, Any]],
    own: Mapping[str, Any],
) -> SavedState:
    """Save a state; all processes call this together.

    If there is one of this step already (after an interrupt, or after resuming), only what is known
    of it is renewed.

    Args:
        folder: of the stage's states.
        facts: of this one.
        processes: of the run.
        write_weights: writes the averaged weights to a path, in the first process.
        common: gives what all processes share; asked for in the first.
        own: what belongs to this process.

    Raises:
        OutputError: it cannot be written; older ones are as they were.
    """
    target, draft = folder / f"{facts.step:08d}", folder / f".{facts.step:08d}.part"
    saved = SavedState(target, facts)
    there = processes.any(target.exists())
    try:
        if there:
            if processes.first:
                _write_facts(target / _FACTS, facts)
            processes.wait()
            return saved
        if processes.first:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
        processes.wait()
        _write(draft / f"process-{processes.rank}.pt", own)
        if processes.first:
            write_weights(draft / WEIGHTS)
            _write(draft / _COMMON, common())
            _write_facts(draft / _FACTS, facts)
        processes.wait()
        if processes.first:
            _commit(draft, target)
        processes.wait()
    except (OSError, CheckpointError) as error:
        if processes.first:
            shutil.rmtree(draft, ignore_errors=True)
        raise OutputError(
            f"{target}: cannot be saved ({one_line(error)}); make room and start again: the run "
            "goes on from the state before"
        ) from error
    return saved


def remove_states(states: list[SavedState]) -> None:
    """Remove states, each at once for all who look."""
    for state in states:
        gone = state.path.with_name(f".{state.path.name}.old")
        state.path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what a killed run has left of saving and removing."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name.startswith(".") and path.suffix in (".part", ".old"):
                shutil.rmtree(path, ignore_errors=True)


def superfluous(states: list[SavedState], settings: SavingSettings) -> list[SavedState]:
    """Those that are neither among the newest nor among the best; of equals, the older is better.

    Args:
        states: all of a stage, the oldest first.
        settings: how many stay.
    """
    judged = [state for state in states if state.facts.figure(settings.best_metric) is not None]
    judged.sort(key=lambda state: _badness(state.facts, settings))
    kept = [*states[-settings.keep_last :], *judged[: settings.keep_best]]
    steps = {state.facts.step for state in kept}
    return [state for state in states if state.facts.step not in steps]


def is_among_best(facts: Facts, states: list[SavedState], settings: SavingSettings) -> bool:
    """Whether a state would be kept for its figure, beside those that there are."""
    if facts.figure(settings.best_metric) is None:
        return False
    better = [
        state for state in states if _badness(state.facts, settings) <= _badness(facts, settings)
    ]
    return len(better) < settings.keep_best


def _badness(facts: Facts, settings: SavingSettings) -> float:
    """Lower is better; infinite where a state was not judged."""
    figure = facts.figure(settings.best_metric)
    if figure is None:
        return math.inf
    return figure if lower_is_better(settings.best_metric) else -figure


def _commit(draft: Path, target: Path) -> None:
    sync_folder(draft)
    draft.rename(target)
    sync_folder(target.parent)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with path.open("wb") as stream:
        torch.save(content, stream)
        flush_to_disk(stream)


def _read(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make torch raise nearly anything
        raise TrainingError(
            f"{path}: damaged or missing ({one_line(error)}); remove the folder "
            f"{path.parent.name} to go on from the state before"
        ) from error


def _write_facts(path: Path, facts: Facts) -> None:
    replace_text(path, json.dumps(asdict(facts), indent=1))


def _read_facts(folder: Path) -> Facts:
    path = folder / _FACTS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["version"] != VERSION:
            raise TrainingError(f"{path}: written by another version of upscale; use that one")
        return Facts(**found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path}: damaged or missing; remove the folder {folder.name} to go on from the state "
            "before"
        ) from error
