"""One stage of a run: its iterations, and what is told and kept of them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from upscale.checkpoints import read_state_dict
from upscale.errors import TrainingError
from upscale.files.printable import printable
from upscale_training.data.patches import PatchDataset
from upscale_training.loop.distributed import Processes
from upscale_training.loop.events import Event, Figures, Logged, Note, Saved, Stepped, Validated
from upscale_training.loop.export import export
from upscale_training.loop.interrupts import Interrupts
from upscale_training.loop.meter import Meter
from upscale_training.loop.networks import Networks
from upscale_training.loop.pairs import Pairs
from upscale_training.loop.randomness import random_state, set_random_state
from upscale_training.loop.run_log import Records
from upscale_training.loop.schedule import rate_factor
from upscale_training.loop.state import (
    Facts,
    SavedState,
    is_among_best,
    remove_states,
    saved_states,
    superfluous,
    write_state,
)
from upscale_training.loop.step import Step
from upscale_training.loop.timing import Stopwatch
from upscale_training.loop.validation import Validation, ValidationResult
from upscale_training.loop.validation_images import write_image
from upscale_training.recipe import Recipe
from upscale_training.recipe.writing import to_yaml

STATES, IMAGES = "states", "pictures"
"""Folders of a run, with one a stage in each."""

_LARGEST_PIXEL_LOSS = 1.0
"""A mean error of an image's whole range: a network that gives this has come apart."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What the stages of a run share.

    Attributes:
        recipe: of the run.
        folder: of the run.
        processes: of the run.
        dataset: what patches come from.
        validation: the held-out images, or None.
        records: takes events, in the first process.
        interrupts: whether to end.
    """

    recipe: Recipe
    folder: Path
    processes: Processes
    dataset: PatchDataset
    validation: Validation | None
    records: Records | None
    interrupts: Interrupts

    def tell(self, event: Event) -> None:
        """Pass an event on, in the first process."""
        if self.records is not None:
            self.records.tell(event)


class StageRun:
    """A stage that begins or goes on.

    Args:
        run: of which it is a part.
        place: of the stage in the recipe.
        networks: as they begin.
        baseline: what bicubic interpolation gets in validation.
    """

    def __init__(self, run: Run, place: int, networks: Networks, baseline: Figures | None) -> None:
        recipe, stage = run.recipe, run.recipe.stages[place]
        self._run, self._stage, self._networks, self._baseline = run, stage, networks, baseline
        self._states = run.folder / STATES / stage.name
        self._watch, self._meter = Stopwatch(run.processes.device), Meter()
        self._pairs = Pairs(recipe, stage, run.dataset, run.processes, self._watch)
        self._learn = Step(stage, networks, run.processes, self._meter, self._watch)
        self._figures: Figures | None = None
        self._judged: int | None = None
        self._done = self._first = self._logged = 0
        self._began = time.perf_counter()

    def restore(self, saved: SavedState) -> None:
        """Go on from a state.

        Raises:
            TrainingError: it is damaged.
        """
        device, own = self._run.processes.device, saved.own(self._run.processes.rank)
        self._networks.load_state_dict(saved.common(), read_state_dict(saved.weights))
        self._pairs.load_state_dict(own["pairs"])
        self._meter.load_state_dict(own["meter"], device)
        set_random_state(own["random"])
        facts = saved.facts
        self._figures, self._judged = facts.figures, facts.judged
        self._done = self._first = self._logged = facts.step

    def train(self) -> None:
        """Do the iterations that are left.

        Raises:
            KeyboardInterrupt: this process, or another one, was to end; a state is saved.
            TrainingError: losses are not finite, or have exploded; the last state is kept.
            OutputError: a state cannot be saved.
        """
        if self._judge_if_due() or self._judged == self._stage.iterations:
            self._save()
        self._heed_interrupts()
        while self._done < self._stage.iterations:
            self._iterate()
            ended = self._done == self._stage.iterations
            if self._done % self._run.recipe.logging.every == 0 or ended:
                self._log()
            better = self._judge_if_due()
            if self._done % self._run.recipe.saving.every == 0 or better or ended:
                with self._watch.phase("saving", waiting=True):
                    self._save()
            self._heed_interrupts()

    def _iterate(self) -> None:
        factor = rate_factor(self._stage.schedule, self._done)
        self._networks.set_rate(factor)
        self._learn([self._pairs.take() for _ in range(self._stage.accumulate)])
        self._done += 1
        self._run.tell(Stepped(self._stage.name, self._done, self._stage.iterations))

    def _log(self) -> None:
        """Tell of the iterations since the last time."""
        losses = self._sound_losses()
        self._meter.clear()
        damaged = self._run.processes.gather(list(self._pairs.damaged))
        for line in dict.fromkeys(line for share in damaged for line in share):
            self._run.tell(Note(line))
        self._pairs.damaged.clear()
        passed, shares = self._watch.read()
        steps = self._done - self._logged
        self._logged = self._done
        patches = self._stage.batch * self._stage.accumulate * self._run.processes.world
        upscale_training = passed * (1 - shares.get("validation", 0) - shares.get("saving", 0))
        each = (time.perf_counter() - self._began) / (self._done - self._first)
        factor = rate_factor(self._stage.schedule, self._done - 1)
        self._run.tell(
            Logged(
                self._stage.name,
                self._done,
                self._stage.iterations,
                losses,
                self._stage.optimiser.learning_rate * factor,
                images_per_second=steps * patches / max(upscale_training, 1e-9),
                seconds_left=(self._stage.iterations - self._done) * each,
                shares=shares,
            )
        )

    def _judge_if_due(self) -> bool:
        """Validate, where it is due and not done; tell whether the result is among the best."""
        validation, settings = self._run.validation, self._run.recipe.validation
        if validation is None or settings is None or self._judged == self._done:
            return False
        ended = self._done == self._stage.iterations
        if self._done == 0 or (self._done % settings.every and not ended):
            return False
        self._sound_losses()
        with self._watch.phase("validation", waiting=True):
            found = validation.judge(
                self._networks.average.network, lambda: self._run.interrupts.asked
            )
            if found is None:
                return False
            self._show(found)
        self._figures, self._judged = found.figures, self._done
        self._run.tell(Validated(self._stage.name, self._done, found.figures))
        return is_among_best(self._facts(0), saved_states(self._states), self._run.recipe.saving)

    def _show(self, found: ValidationResult) -> None:
        """Write the images of a validation."""
        if self._run.records is None:
            return
        title = f"{self._run.recipe.name}, {self._stage.name}, {self._done} iterations"
        folder = self._run.folder / IMAGES / self._stage.name / f"{self._done:08d}"
        for image in found.shown:
            grid = image.grid(title)
            write_image(grid, folder / f"{image.place}-{image.name}.png")
            self._run.records.show(f"{image.place}/{image.name}", grid, self._done)

    def _sound_losses(self) -> dict[str, float]:
        """The mean losses since the last log, if they and the weights are sound."""
        losses = self._meter.means(self._run.processes)
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        pixel = self._stage.pixel
        if not bad and pixel and losses.get("pixel", 0) > _LARGEST_PIXEL_LOSS * pixel.weight:
            bad = ["pixel"]
        if bad:
            self._fail(f"the {bad[0]} loss is {losses[bad[0]]:g}")
        if self._run.processes.any(not self._networks.sound()):
            self._fail("weights are not finite")
        return losses

    def _fail(self, what: str) -> NoReturn:
        states = saved_states(self._states)
        half = self._run.recipe.computing.precision == "fp16"
        advice = "a lower learning_rate" + (", or precision bf16 or fp32" if half else "")
        start = f", from {printable(states[-1].weights)} as start" if states else ""
        raise TrainingError(
            f"{self._stage.name}: {what} at iteration {self._done}, so the run has ended and "
            f"nothing after its last state is kept; begin another one with {advice}{start}"
        )

    def _heed_interrupts(self) -> None:
        if self._run.processes.any(self._run.interrupts.asked):
            self._save()
            raise KeyboardInterrupt

    def _save(self) -> None:
        """Save a state, then remove those that it makes superfluous."""
        self._sound_losses()
        size = 0 if self._run.records is None else self._run.records.settled()
        facts = self._facts(size)
        average = self._networks.average.network
        own = {
            "pairs": self._pairs.state_dict(),
            "meter": self._meter.state_dict(),
            "random": random_state(),
        }
        saved = write_state(
            self._states,
            facts,
            self._run.processes,
            write_weights=lambda path: export(average, path, self._run.recipe, facts),
            common=self._networks.state_dict,
            own=own,
        )
        if self._run.processes.first:
            kept = self._run.recipe.saving
            remove_states(superfluous(saved_states(self._states), kept))
        self._run.processes.wait()
        self._run.tell(Saved(self._stage.name, self._done, saved.path))

    def _facts(self, log_bytes: int) -> Facts:
        return Facts(
            self._stage.name,
            self._done,
            self._run.processes.world,
            to_yaml(self._run.recipe),
            log_bytes,
            self._baseline,
            self._figures,
            self._judged,
        )
