"""A whole run: the stages of a recipe, one after the other, begun or gone on with."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import filelock

from upscale.checkpoints import read_state_dict
from upscale.engine.device import PRECISIONS
from upscale.errors import TrainingError, UsageError
from upscale.files.atomic import remove_stale_temporaries, replace_text
from upscale.files.printable import printable
from upscale.models import build
from upscale.tiling.interfaces import is_out_of_memory
from upscale_training.data.patches import PatchDataset
from upscale_training.loop.distributed import Processes
from upscale_training.loop.events import (
    Baseline,
    Event,
    Exported,
    Figures,
    Listener,
    Note,
    StageStarted,
)
from upscale_training.loop.export import export
from upscale_training.loop.interrupts import Interrupts
from upscale_training.loop.networks import make_networks
from upscale_training.loop.resume_check import check_unchanged
from upscale_training.loop.run_log import BOARDS, Records
from upscale_training.loop.stage import IMAGES, STATES, Run, StageRun
from upscale_training.loop.state import (
    Facts,
    SavedState,
    remove_states,
    saved_states,
    superfluous,
    sweep,
)
from upscale_training.loop.validation import Validation
from upscale_training.recipe import Recipe
from upscale_training.recipe.writing import to_yaml

LOCK = ".lock"
"""What the folder of a run has from its first moment on."""


def ignore(event: Event) -> None:
    """Listen to nothing."""


def train(
    recipe: Recipe,
    folder: Path,
    *,
    device: str = "auto",
    resume: bool = True,
    stage: str | None = None,
    events: Listener = ignore,
) -> tuple[Path, ...]:
    """Train what a recipe says, or go on with it.

    Under torchrun every process calls this; the folder is one that all of them see. An interrupt
    (Ctrl-C, SIGTERM or SIGHUP, where these raise KeyboardInterrupt) waits for the present
    iteration and saves a state first.

    Args:
        recipe: what to train.
        folder: of the run: states, log, images and exported files.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        resume: go on from the newest state; otherwise what is there of these stages is removed.
        stage: the only one to train; all of them by default.
        events: is told of everything that happens, in the first process.

    Returns:
        The exported files, one a stage that was trained.

    Raises:
        UsageError: the recipe has no such stage.
        TrainingError: the run cannot begin, go on or end; the message says what to do.
        UpscaleError: a file cannot be read or written, or the device is not there.
        KeyboardInterrupt: it was interrupted; the state is saved.
    """
    places = _places(recipe, stage)
    processes = Processes(device, recipe.computing.precision)
    with _alone(folder, processes), Interrupts() as interrupts, _memory_explained(recipe):
        if processes.first:
            _tidy(recipe, folder, places[0], resume)
        processes.wait()
        for place in places:
            _check_resumable(recipe, folder, place, processes)
        records = None
        if processes.first:
            _keep_recipe(recipe, folder)
            records = _records(recipe, folder, events)
        try:
            trainer = _Trainer(recipe, folder, processes, records, interrupts)
            return tuple(trainer.train(place) for place in places)
        finally:
            if records is not None:
                records.close()


class _Trainer:
    """The stages of a run; what they share is made for the first that has work to do."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        processes: Processes,
        records: Records | None,
        interrupts: Interrupts,
    ) -> None:
        self._recipe, self._folder, self._processes = recipe, folder, processes
        self._records, self._interrupts = records, interrupts
        self._run: Run | None = None

    def train(self, place: int) -> Path:
        """Train one stage, or what is left of it, and write its file."""
        stage = self._recipe.stages[place]
        saved = _newest(self._folder, stage.name)
        if saved is None or not self._finished(saved.facts, place):
            self._train(place, saved)
            saved = _newest(self._folder, stage.name)
        assert saved is not None, "a stage ends with a state"
        path = self._folder / f"{self._recipe.name}-{stage.name}.safetensors"
        if self._processes.first:
            network = build(self._recipe.network.spec, read_state_dict(saved.weights))
            dtype = PRECISIONS[self._recipe.saving.export]
            export(network.to(dtype), path, self._recipe, saved.facts)
        self._processes.wait()
        self._tell(Exported(stage.name, path))
        return path

    def _finished(self, facts: Facts, place: int) -> bool:
        judged = self._recipe.validation is None or facts.judged == facts.step
        return judged and facts.step == self._recipe.stages[place].iterations

    def _train(self, place: int, saved: SavedState | None) -> None:
        stage = self._recipe.stages[place]
        before = saved or self._previous(place)
        start = None if saved else before.weights if before else self._recipe.start
        networks, notes = make_networks(self._recipe, place, self._processes, start)
        for line in notes:
            self._tell(Note(line))
        run = self._run = self._run or self._make_run()
        baseline = self._baseline(run, before.facts.baseline if before else None)
        stage_run = StageRun(run, place, networks, baseline)
        step = saved.facts.step if saved else 0
        if saved is not None:
            stage_run.restore(saved)
        if self._records is not None and self._recipe.logging.tensorboard:
            self._records.open_board(self._folder / BOARDS / stage.name, step)
        self._tell(StageStarted(stage.name, step, stage.iterations))
        stage_run.train()

    def _previous(self, place: int) -> SavedState | None:
        """The state that the stage before has ended with; None for the first."""
        if place == 0:
            return None
        stage = self._recipe.stages[place - 1]
        saved = _newest(self._folder, stage.name)
        if saved is None or saved.facts.step != stage.iterations:
            done = f"{saved.facts.step} of {stage.iterations} iterations" if saved else "no state"
            raise TrainingError(
                f"{printable(self._folder)}: {self._recipe.stages[place].name} begins with what "
                f"{stage.name} ends with, of which there is {done}; train that first"
            )
        return saved

    def _make_run(self) -> Run:
        recipe, processes = self._recipe, self._processes
        dataset = PatchDataset(recipe.data, recipe.seed, recipe.network.scale)
        validation = None
        if recipe.validation is not None:
            validation = Validation(recipe, processes, lambda line: self._tell(Note(line)))
        return Run(
            recipe, self._folder, processes, dataset, validation, self._records, self._interrupts
        )

    def _baseline(self, run: Run, known: Figures | None) -> Figures | None:
        """What bicubic interpolation gets, told once for the same sets and metrics."""
        if run.validation is None or run.validation.measures(known):
            return known
        figures = run.validation.baseline()
        self._tell(Baseline(figures))
        return figures

    def _tell(self, event: Event) -> None:
        if self._records is not None:
            self._records.tell(event)


def _places(recipe: Recipe, stage: str | None) -> list[int]:
    names = [each.name for each in recipe.stages]
    if stage is None:
        return list(range(len(names)))
    if stage not in names:
        raise UsageError(f"--stage {stage}: the recipe has {', '.join(names)}")
    return [names.index(stage)]


def _states(folder: Path, stage: str) -> Path:
    return folder / STATES / stage


def _newest(folder: Path, stage: str) -> SavedState | None:
    states = saved_states(_states(folder, stage))
    return states[-1] if states else None


def _tidy(recipe: Recipe, folder: Path, first: int, resume: bool) -> None:
    """Remove what killed runs have left; if nothing is gone on with, also what was reached."""
    for states in (_states(folder, stage.name) for stage in recipe.stages):
        sweep(states)
        remove_states(superfluous(saved_states(states), recipe.saving))
    for stage in () if resume else reversed(recipe.stages[first:]):  # none without its start
        remove_states(saved_states(_states(folder, stage.name)))
        for kind in (BOARDS, IMAGES):
            shutil.rmtree(folder / kind / stage.name, ignore_errors=True)


def _check_resumable(recipe: Recipe, folder: Path, place: int, processes: Processes) -> None:
    stage, saved = recipe.stages[place], _newest(folder, recipe.stages[place].name)
    if saved is None:
        return
    facts = saved.facts
    check_unchanged(saved.path, facts.recipe, to_yaml(recipe), place)
    key = f"stages.{place}.iterations"
    if facts.step > stage.iterations:
        raise TrainingError(
            f"{printable(saved.path)}: {facts.step} iterations are done, more than the "
            f"{stage.iterations} of {key}; raise it, or begin anew with --restart"
        )
    later = [each.name for each in recipe.stages[place + 1 :] if _newest(folder, each.name)]
    if facts.step < stage.iterations and later:
        raise TrainingError(
            f"{printable(saved.path)}: {later[0]} has begun with what {stage.name} reached after "
            f"{facts.step} iterations; set {key} to that, or begin anew with --restart"
        )
    if facts.processes != processes.world:
        raise TrainingError(
            f"{printable(saved.path)}: is of a run of {facts.processes} processes, not "
            f"{processes.world}; start as many, or begin anew with --restart"
        )


def _keep_recipe(recipe: Recipe, folder: Path) -> None:
    """Write down what is trained, with every default."""
    remove_stale_temporaries(folder)
    replace_text(folder / "recipe.yaml", to_yaml(recipe))


def _records(recipe: Recipe, folder: Path, events: Listener) -> Records:
    newest = [_newest(folder, stage.name) for stage in recipe.stages]
    size = max((saved.facts.log_bytes for saved in newest if saved), default=0)
    return Records(folder, size, events)


@contextmanager
def _alone(folder: Path, processes: Processes) -> Generator[None]:
    """Keep other runs out of the folder."""
    if not processes.first:
        yield
        return
    lock = folder / LOCK
    try:
        if folder.exists() and not lock.exists() and any(folder.iterdir()):
            raise TrainingError(
                f"{printable(folder)}: holds files that are not of a training; take another folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(lock, timeout=0):
            yield
    except filelock.Timeout as error:
        raise TrainingError(
            f"{printable(folder)}: another run is at work here; wait for it, or take another folder"
        ) from error


@contextmanager
def _memory_explained(recipe: Recipe) -> Generator[None]:
    """Say which numbers to lower when memory runs out."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        batches = ", ".join(str(stage.batch) for stage in recipe.stages)
        raise TrainingError(
            f"out of memory with batch {batches} of patch {recipe.data.patch}: lower "
            "stages.N.batch and raise stages.N.accumulate as much, lower data.patch, or set "
            "computing.checkpoint_activations or computing.precision bf16"
        ) from error
