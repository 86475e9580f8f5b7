"""One stage of a run: its iterations, logs, validations and saved states."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from upscale.checkpoints import read_state_dict
from upscale.errors import TrainingError
from upscale.files.printable import printable
from upscale_training.data.patches import PatchDataset
from upscale_training.loop.distributed import Processes
from upscale_training.loop.events import (
    Changed,
    Event,
    Logged,
    Note,
    Saved,
    Scores,
    Stepped,
    Validated,
)
from upscale_training.loop.export import export
from upscale_training.loop.interrupts import Interrupts
from upscale_training.loop.meter import LossMeter
from upscale_training.loop.networks import Networks
from upscale_training.loop.pairs import PairLoader
from upscale_training.loop.randomness import random_state, seed_all, set_random_state
from upscale_training.loop.resume_check import Change, makes_other_pairs
from upscale_training.loop.run_log import RunLog
from upscale_training.loop.schedule import rate_factor
from upscale_training.loop.state import (
    SavedState,
    StateInfo,
    damage_named,
    is_among_best,
    remove_states,
    saved_states,
    superfluous,
)
from upscale_training.loop.state_writer import StateContent, StateWriter
from upscale_training.loop.step import TrainingStep
from upscale_training.loop.timing import Stopwatch
from upscale_training.loop.validation import Validation, ValidationResult
from upscale_training.loop.validation_images import write_image
from upscale_training.loop.watch import CollapseWatch
from upscale_training.recipe import Recipe
from upscale_training.recipe.writing import to_yaml

STATES, IMAGES = "states", "pictures"
"""Folders of a run, each with one folder per stage."""

_RESUMED = 7
"""Stream of random numbers of processes that resume a state of other ones."""

_LARGEST_PIXEL_LOSS = 1.0
"""Mean error of the whole range of an image: training has diverged."""


@dataclass(frozen=True, slots=True, eq=False)
class RunContext:
    """Objects that the stages of a run share.

    Attributes:
        recipe: Recipe of the run.
        folder: Folder of the run.
        processes: Processes of the run.
        dataset: Source of the patches.
        validation: Validation, or None.
        log: Log in the first process, or None in the others.
        interrupts: Requested interrupts.
    """

    recipe: Recipe
    folder: Path
    processes: Processes
    dataset: PatchDataset
    validation: Validation | None
    log: RunLog | None
    interrupts: Interrupts

    def emit(self, event: Event) -> None:
        """Emit an event in the first process."""
        if self.log is not None:
            self.log.emit(event)


class StageRun:
    """A stage that starts or resumes.

    Args:
        run: Run of the stage.
        stage_index: Index of the stage in the recipe.
        networks: Networks with initial weights.
        baseline: Scores of bicubic interpolation in validation.
    """

    def __init__(
        self, run: RunContext, stage_index: int, networks: Networks, baseline: Scores | None
    ) -> None:
        recipe, stage = run.recipe, run.recipe.stages[stage_index]
        self._run, self._stage, self._networks, self._baseline = run, stage, networks, baseline
        self._states = run.folder / STATES / stage.name
        self._watch, self._meter = Stopwatch(run.processes.device), LossMeter()
        self._pairs = PairLoader(recipe, stage, run.dataset, run.processes, self._watch)
        self._step = TrainingStep(stage, networks, run.processes, self._meter, self._watch)
        self._saving = recipe.saving_of(stage)
        self._writer = StateWriter(self._states, run.processes)
        self._scores: Scores | None = None
        self._validated: int | None = None
        self._changes: tuple[str, ...] = ()
        self._noted = set[str]()
        self._collapse = CollapseWatch()
        self._done = self._first = self._logged = 0
        self._started = time.perf_counter()

    def restore(self, saved: SavedState, changes: Sequence[Change] = ()) -> None:
        """Restore a saved state.

        Args:
            saved: The state.
            changes: Settings that have changed since then.

        Raises:
            TrainingError: The state is damaged.
        """
        info, rank = saved.info, self._run.processes.rank
        same_processes = info.processes == self._run.processes.world
        own = saved.own(rank if same_processes else 0)
        with damage_named(saved):
            self._networks.load_state_dict(saved.common(), read_state_dict(saved.weights))
            new_pool = not same_processes or any(makes_other_pairs(each) for each in changes)
            self._pairs.load_state_dict(own["pairs"], new_pool=new_pool)
            if same_processes:
                self._meter.load_state_dict(own["meter"], self._run.processes.device)
                set_random_state(own["random"])
            else:
                seed_all(self._run.recipe.seed, _RESUMED, info.step, rank)
        self._scores, self._validated = info.scores, info.validated_step
        self._changes = info.changes
        self._done = self._first = self._logged = info.step
        if changes:
            texts = tuple(map(str, changes))
            self._changes += tuple(f"after {info.step} iterations: {text}" for text in texts)
            self._run.emit(Changed(self._stage.name, info.step, texts))

    def train(self) -> None:
        """Run the remaining iterations.

        Raises:
            KeyboardInterrupt: An interrupt of any process was requested; a state is saved.
            TrainingError: Losses are not finite, or have diverged; the last state is kept.
            OutputError: A state cannot be saved; raised at the next save, or at the end.
        """
        with self._writer:
            if self._validate_if_due() or self._validated == self._stage.iterations:
                self._save()
            self._stop_if_interrupted()
            while self._done < self._stage.iterations:
                self._iterate()
                self._finish_save(wait=False)
                ended = self._done == self._stage.iterations
                if self._done % self._run.recipe.logging.every == 0 or ended:
                    self._log()
                better = self._validate_if_due()
                if self._done % self._run.recipe.saving.every == 0 or better or ended:
                    with self._watch.phase("saving", waiting=True):
                        self._save()
                self._stop_if_interrupted()
            self._finish_save()

    def _iterate(self) -> None:
        factor = rate_factor(self._stage.schedule, self._done, self._stage.iterations)
        self._networks.scale_learning_rates(factor)
        self._step([self._pairs.take() for _ in range(self._stage.accumulate)])
        self._done += 1
        self._run.emit(Stepped(self._stage.name, self._done, self._stage.iterations))

    def _log(self) -> None:
        """Emit the losses and the speed since the last log."""
        losses = self._checked_losses()
        self._meter.clear()
        for line in self._collapse.check(losses):
            self._run.emit(Note(f"{self._stage.name}, iteration {self._done}: {line}"))
        damaged = self._run.processes.gather(list(self._pairs.damaged))
        for line in dict.fromkeys(line for part in damaged for line in part):
            if line not in self._noted:
                self._run.emit(Note(line))
                self._noted.add(line)
        self._pairs.damaged.clear()
        elapsed, shares = self._watch.read()
        steps = self._done - self._logged
        self._logged = self._done
        patches = self._stage.batch * self._stage.accumulate * self._run.processes.world
        training = elapsed * (1 - shares.get("validation", 0) - shares.get("saving", 0))
        per_step = (time.perf_counter() - self._started) / (self._done - self._first)
        factor = rate_factor(self._stage.schedule, self._done - 1, self._stage.iterations)
        self._run.emit(
            Logged(
                self._stage.name,
                self._done,
                self._stage.iterations,
                losses,
                self._stage.optimiser.learning_rate * factor,
                images_per_second=steps * patches / max(training, 1e-9),
                seconds_left=(self._stage.iterations - self._done) * per_step,
                shares=shares,
            )
        )

    def _validate_if_due(self) -> bool:
        """Validate if it is due and not done; return whether the result is among the best."""
        validation, settings = self._run.validation, self._run.recipe.validation
        if validation is None or settings is None or self._validated == self._done:
            return False
        ended = self._done == self._stage.iterations
        if self._done == 0 or (self._done % settings.every and not ended):
            return False
        self._checked_losses()
        with self._watch.phase("validation", waiting=True):
            result = validation.validate(
                self._networks.average.network, lambda: self._run.interrupts.requested
            )
            if result is None:
                return False
            self._write_previews(result)
        self._scores, self._validated = result.scores, self._done
        self._run.emit(Validated(self._stage.name, self._done, result.scores))
        self._finish_save()  # the next line must not depend on how fast a disk is
        return is_among_best(self._info(0), saved_states(self._states), self._saving)

    def _write_previews(self, result: ValidationResult) -> None:
        if self._run.log is None:
            return
        title = f"{self._run.recipe.name}, {self._stage.name}, {self._done} iterations"
        folder = self._run.folder / IMAGES / self._stage.name / f"{self._done:08d}"
        for preview in result.previews:
            grid = preview.grid(title)
            write_image(grid, folder / f"{preview.set_name}-{preview.name}.png")
            self._run.log.add_image(f"{preview.set_name}/{preview.name}", grid, self._done)

    def _checked_losses(self) -> dict[str, float]:
        """Return the mean losses since the last log; stop if they or the weights are unusable."""
        losses = self._meter.means(self._run.processes)
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        pixel = self._stage.pixel
        if not bad and pixel and losses.get("pixel", 0) > _LARGEST_PIXEL_LOSS * pixel.weight:
            bad = ["pixel"]
        if bad:
            self._fail(f"the {bad[0]} loss is {losses[bad[0]]:g}")
        if self._run.processes.any(not self._networks.is_finite()):
            self._fail("weights are not finite")
        return losses

    def _fail(self, reason: str) -> NoReturn:
        self._finish_save()  # it is the state to start from
        states = saved_states(self._states)
        half = self._run.recipe.computing.precision == "fp16"
        advice = "a lower learning_rate" + (", or precision bf16 or fp32" if half else "")
        start = f", from {printable(states[-1].weights)} as start" if states else ""
        raise TrainingError(
            f"{self._stage.name}: {reason} at iteration {self._done}; the run has stopped, and "
            f"nothing after its last state is kept; start another run with {advice}{start}"
        )

    def _stop_if_interrupted(self) -> None:
        if self._run.processes.any(self._run.interrupts.requested):
            self._save()
            self._finish_save()
            raise KeyboardInterrupt

    def _save(self) -> None:
        """Start to save a state."""
        self._checked_losses()
        self._finish_save()
        size = 0 if self._run.log is None else self._run.log.flush()
        info = self._info(size)
        average = self._networks.average.network
        content = StateContent(
            average.state_dict(),
            self._networks.state_dict(),
            {
                "pairs": self._pairs.state_dict(),
                "meter": self._meter.state_dict(),
                "random": random_state(),
            },
        )
        self._writer.start(
            info,
            content,
            lambda path, weights: export(average, path, self._run.recipe, info, weights),
        )

    def _finish_save(self, *, wait: bool = True) -> None:
        """End a save, if all processes have written their parts or must be waited for.

        States that have become superfluous are then removed.
        """
        saved = self._writer.finish(wait=wait)
        if saved is None:
            return
        if self._run.processes.first:
            remove_states(superfluous(saved_states(self._states), self._saving))
        self._run.processes.wait()
        self._run.emit(Saved(self._stage.name, saved.info.step, saved.path))

    def _info(self, log_bytes: int) -> StateInfo:
        return StateInfo(
            self._stage.name,
            self._done,
            self._run.processes.world,
            to_yaml(self._run.recipe),
            log_bytes,
            self._baseline,
            self._scores,
            self._validated,
            self._run.dataset.listings,
            self._changes,
        )
