"""A whole run: the stages of a recipe in order, started or resumed."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import filelock

from upscale.checkpoints import read_state_dict
from upscale.engine.device import PRECISIONS
from upscale.errors import TrainingError, UsageError
from upscale.files.atomic import remove_stale_temporaries, replace_text
from upscale.files.printable import printable
from upscale.out_of_memory import is_out_of_memory
from upscale_training.data.patches import PatchDataset
from upscale_training.loop.distributed import Processes
from upscale_training.loop.events import (
    Baseline,
    Event,
    Exported,
    Listener,
    Note,
    Scores,
    StageStarted,
)
from upscale_training.loop.export import export, export_discriminator
from upscale_training.loop.initialisation import trained_generator
from upscale_training.loop.interrupts import Interrupts
from upscale_training.loop.networks import check_stage, make_networks
from upscale_training.loop.resume_check import Change, find_changes, image_notes
from upscale_training.loop.run_log import BOARDS, RunLog
from upscale_training.loop.stage import IMAGES, STATES, RunContext, StageRun
from upscale_training.loop.state import (
    SavedState,
    remove_stale_states,
    remove_states,
    saved_states,
    superfluous,
)
from upscale_training.loop.validation import Validation
from upscale_training.recipe import Recipe
from upscale_training.recipe.writing import to_yaml

LOCK = ".lock"
"""File in the folder of every run."""


def ignore(event: Event) -> None:
    """Ignore an event."""


def train(
    recipe: Recipe,
    folder: Path,
    *,
    device: str = "auto",
    resume: bool = True,
    allow_changes: bool = False,
    stage: str | None = None,
    events: Listener = ignore,
) -> tuple[Path, ...]:
    """Train a recipe, or resume its training.

    Under torchrun every process calls this, with a folder that all of them can access. An interrupt
    (Ctrl-C, SIGTERM or SIGHUP, where these raise KeyboardInterrupt) waits for the end of the
    iteration and saves a state first.

    Args:
        recipe: Recipe to train.
        folder: Folder of the run for states, log, images and exported files.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        resume: Whether to resume from the newest state; otherwise states of these stages are
            removed.
        allow_changes: Whether to resume although settings have changed that lead to other weights.
        stage: Name of the only stage to train; None for all stages.
        events: Function that receives all events, in the first process.

    Returns:
        The exported files, one per trained stage.

    Raises:
        UsageError: The recipe has no such stage.
        TrainingError: The run cannot start, resume or end; the message says what to do.
        UpscaleError: A file cannot be read or written, or the device is not available.
        KeyboardInterrupt: The run was interrupted; a state is saved.

    Example:
        >>> import numpy as np
        >>> from upscale_training.data import write_png
        >>> from upscale_training.recipe import (
        ...     DataSettings, DegradationRecipe, LoggingSettings, OptimiserSettings,
        ...     RRDBNetSettings, Source, Stage,
        ... )
        >>> photo = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        >>> write_png(photo, Path("photos/1.png"))
        >>> recipe = Recipe(
        ...     name="tiny",
        ...     network=RRDBNetSettings(features=2, blocks=1, growth=2),
        ...     data=DataSettings((Source(Path("photos")),), patch=16, margin=0, workers=0),
        ...     stages=(Stage("psnr", 1, OptimiserSettings(1e-3), batch=1),),
        ...     degradation=DegradationRecipe("classical", pool=0),
        ...     logging=LoggingSettings(tensorboard=False),
        ... )
        >>> [path.name for path in train(recipe, Path("run"), device="cpu")]
        ['tiny-psnr.safetensors']
    """
    indices = _stage_indices(recipe, stage)
    processes = Processes(device, recipe.computing.precision)
    with _locked(folder, processes), Interrupts() as interrupts, _memory_advice(recipe):
        if processes.first:
            _remove_superfluous(recipe, folder)
        processes.wait()
        trainer = _Trainer(recipe, folder, processes, interrupts)
        trainer.prepare(indices, resume=resume, allow_changes=allow_changes)
        processes.wait()
        if processes.first and not resume:
            _remove_stages(recipe, folder, indices[0])
        processes.wait()
        log = None
        if processes.first:
            _write_recipe(recipe, folder)
            log = _open_log(recipe, folder, events)
        try:
            trainer.open(log)
            return tuple(trainer.train(index) for index in indices)
        finally:
            if log is not None:
                log.close()


class _Trainer:
    """The stages of a run; everything that can be wrong is found by `prepare`."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        processes: Processes,
        interrupts: Interrupts,
    ) -> None:
        self._recipe, self._folder, self._processes = recipe, folder, processes
        self._interrupts = interrupts
        self._log: RunLog | None = None
        self._notes: list[str] = []
        self._changes: dict[int, tuple[Change, ...]] = {}
        self._run: RunContext | None = None

    def prepare(self, indices: Sequence[int], *, resume: bool, allow_changes: bool) -> None:
        """Read or list all files that the run needs, and check that it can resume.

        This is done before states are removed, and before the first of a million iterations.

        Raises:
            UpscaleError: A file is missing or unusable, or the recipe has changed.
        """
        newest = {
            index: _newest(self._folder, self._recipe.stages[index].name) if resume else None
            for index in indices
        }
        left = [index for index, saved in newest.items() if not self._is_finished(saved, index)]
        if left and newest[left[0]] is None:
            self._previous(left[0])
        for index in left:
            check_stage(self._recipe, index, fresh=newest[index] is None)
        dataset = self._dataset() if left else None
        for index, saved in newest.items():
            if saved is not None:
                _check_iterations(self._recipe, self._folder, index, saved)
        started = [index for index, saved in newest.items() if saved is not None]
        for index in started[-1:]:  # its recipe says how the stages before it ended
            self._check_unchanged(index, dataset, allow_changes)
        if dataset is not None:
            self._run = self._make_run(dataset)

    def open(self, log: RunLog | None) -> None:
        """Start to log, in the first process, with what `prepare` has noted."""
        self._log = log
        if self._run is not None:
            self._run = replace(self._run, log=log)
        for line in self._notes:
            self._emit(Note(line))
        self._notes.clear()

    def train(self, index: int) -> Path:
        """Train the remaining iterations of one stage, and export its weights."""
        stage = self._recipe.stages[index]
        saved = _newest(self._folder, stage.name)
        if not self._is_finished(saved, index):
            self._train(index, saved)
            saved = _newest(self._folder, stage.name)
        assert saved is not None, "a stage ends with a state"
        path = self._folder / f"{self._recipe.name}-{stage.name}.safetensors"
        if self._processes.first:
            weights = read_state_dict(saved.weights)
            network = trained_generator(self._recipe.network.spec, weights)
            dtype = PRECISIONS[self._recipe.saving.export]
            export(network.to(dtype), path, self._recipe, saved.info)
            if self._recipe.stages[index].gan is not None:
                discriminator = saved.common()["judge"]["network"]
                export_discriminator(discriminator, path, self._recipe, saved.info)
        self._processes.wait()
        self._emit(Exported(stage.name, path))
        return path

    def _is_finished(self, saved: SavedState | None, index: int) -> bool:
        if saved is None:
            return False
        info = saved.info
        validated = self._recipe.validation is None or info.validated_step == info.step
        return validated and info.step == self._recipe.stages[index].iterations

    def _train(self, index: int, saved: SavedState | None) -> None:
        stage = self._recipe.stages[index]
        before = saved or self._previous(index)
        start = None if saved else before.weights if before else self._recipe.start
        networks, notes = make_networks(self._recipe, index, self._processes, start)
        for line in notes:
            self._emit(Note(line))
        run = self._run
        assert run is not None, "prepared, because iterations are left"
        baseline = self._baseline(run, before.info.baseline if before else None)
        stage_run = StageRun(run, index, networks, baseline)
        step = saved.info.step if saved else 0
        if saved is not None:
            stage_run.restore(saved, self._changes.get(index, ()))
        if self._log is not None and self._recipe.logging.tensorboard:
            self._log.open_board(self._folder / BOARDS / stage.name, step)
        self._emit(StageStarted(stage.name, step, stage.iterations))
        stage_run.train()

    def _previous(self, index: int) -> SavedState | None:
        """Return the last state of the previous stage; None for the first stage."""
        if index == 0:
            return None
        stage = self._recipe.stages[index - 1]
        saved = _newest(self._folder, stage.name)
        if saved is None or saved.info.step != stage.iterations:
            done = f"{saved.info.step} of {stage.iterations} iterations" if saved else "no state"
            raise TrainingError(
                f"{printable(self._folder)}: {self._recipe.stages[index].name} starts from the "
                f"weights of {stage.name}, which has {done}; train that stage first"
            )
        return saved

    def _check_unchanged(self, index: int, dataset: PatchDataset | None, allow: bool) -> None:
        recipe, saved = self._recipe, _newest(self._folder, self._recipe.stages[index].name)
        assert saved is not None, "only stages that have started are checked"
        info, known = saved.info, saved.info.images or ()
        # Without a data set, no iteration is left, and it does not matter where the images are.
        listings = known if dataset is None else dataset.listings
        same = [old == new for old, new in zip(known, listings, strict=False)]
        changes = find_changes(
            saved.path, info.recipe, to_yaml(recipe), index, same_images=same, allow=allow
        )
        self._changes[index] = changes
        self._notes += image_notes(info.images, listings, changes)
        if dataset is not None and info.processes != self._processes.world:
            self._notes.append(
                f"{printable(saved.path)}: was saved by {info.processes} processes, not "
                f"{self._processes.world}; the pool of pairs and the random numbers start anew"
            )

    def _dataset(self) -> PatchDataset:
        recipe = self._recipe
        return PatchDataset(recipe.data, recipe.seed, recipe.network.scale)

    def _make_run(self, dataset: PatchDataset) -> RunContext:
        recipe, processes = self._recipe, self._processes
        validation = None
        if recipe.validation is not None:
            validation = Validation(recipe, processes, self._note)
        return RunContext(
            recipe, self._folder, processes, dataset, validation, self._log, self._interrupts
        )

    def _baseline(self, run: RunContext, known: Scores | None) -> Scores | None:
        """Return the scores of bicubic interpolation; new ones are emitted."""
        if run.validation is None or run.validation.matches(known):
            return known
        scores = run.validation.baseline()
        self._emit(Baseline(scores))
        return scores

    def _note(self, line: str) -> None:
        """Emit a note, or keep it until there is a log."""
        if self._log is None:
            self._notes.append(line)
        else:
            self._emit(Note(line))

    def _emit(self, event: Event) -> None:
        if self._log is not None:
            self._log.emit(event)


def _stage_indices(recipe: Recipe, stage: str | None) -> list[int]:
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


def _remove_superfluous(recipe: Recipe, folder: Path) -> None:
    """Remove incomplete and superfluous states of a run that was killed."""
    for stage in recipe.stages:
        states = _states(folder, stage.name)
        remove_stale_states(states)
        remove_states(superfluous(saved_states(states), recipe.saving_of(stage)))


def _remove_stages(recipe: Recipe, folder: Path, first: int) -> None:
    """Remove all states from a stage on, the last stage first: no stage loses its start."""
    for stage in reversed(recipe.stages[first:]):
        remove_states(saved_states(_states(folder, stage.name)))
        for kind in (BOARDS, IMAGES):
            shutil.rmtree(folder / kind / stage.name, ignore_errors=True)


def _check_iterations(recipe: Recipe, folder: Path, index: int, saved: SavedState) -> None:
    stage, info = recipe.stages[index], saved.info
    key = f"stages.{index}.iterations"
    if info.step > stage.iterations:
        raise TrainingError(
            f"{printable(saved.path)}: {info.step} iterations are done, more than the "
            f"{stage.iterations} of {key}; increase it, or start over with --restart"
        )
    later = [each.name for each in recipe.stages[index + 1 :] if _newest(folder, each.name)]
    if info.step < stage.iterations and later:
        raise TrainingError(
            f"{printable(saved.path)}: {later[0]} has started from {stage.name} after {info.step} "
            f"iterations; set {key} to {info.step}, or start over with --restart"
        )


def _write_recipe(recipe: Recipe, folder: Path) -> None:
    """Write the recipe with all defaults to the folder of the run."""
    remove_stale_temporaries(folder)
    replace_text(folder / "recipe.yaml", to_yaml(recipe))


def _open_log(recipe: Recipe, folder: Path, events: Listener) -> RunLog:
    newest = [_newest(folder, stage.name) for stage in recipe.stages]
    size = max((saved.info.log_bytes for saved in newest if saved), default=0)
    return RunLog(folder, size, events)


@contextmanager
def _locked(folder: Path, processes: Processes) -> Generator[None]:
    """Lock the folder against other runs."""
    if not processes.first:
        yield
        return
    lock = folder / LOCK
    try:
        if folder.exists() and not lock.exists() and any(folder.iterdir()):
            raise TrainingError(
                f"{printable(folder)}: contains files of something else; use another folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(lock, timeout=0):
            yield
    except filelock.Timeout as error:
        raise TrainingError(
            f"{printable(folder)}: another run uses this folder; wait for it, or use another folder"
        ) from error


@contextmanager
def _memory_advice(recipe: Recipe) -> Generator[None]:
    """Name the settings to reduce when memory runs out."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        batches = ", ".join(str(stage.batch) for stage in recipe.stages)
        raise TrainingError(
            f"out of memory with batch {batches} of patch {recipe.data.patch}: reduce "
            "stages.N.batch and increase stages.N.accumulate accordingly, reduce data.patch, or "
            "set computing.checkpoint_activations or computing.precision bf16"
        ) from error
