"""Small runs for tests, and a program that does one and kills itself where it is events.

    python -m tests.training.loop.runs RECIPE FOLDER

Moments are the iterations, and before and after whatever makes something last on a disk. It prints
how many there were.

    python -m tests.training.loop.runs RECIPE FOLDER --kill 3+12 40

A run in FOLDER/0 that is killed at moment 3, gone on with and killed at moment 12 of that, and then
left to end; one in FOLDER/1 that is killed at moment 40, and so on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from upscale_training.data.pixels import write_png
from upscale_training.loop import Event, Stepped, train
from upscale_training.recipe import (
    DataSettings,
    DegradationRecipe,
    DiscriminatorSettings,
    GanSettings,
    LoggingSettings,
    OptimiserSettings,
    Recipe,
    RRDBNetSettings,
    SavingSettings,
    Source,
    Stage,
    ValidationSet,
    ValidationSettings,
)
from upscale_training.recipe.reading import read_recipe
from upscale_training.recipe.writing import to_yaml

ROOT = Path(__file__).parents[3]


def make_images(folder: Path, count: int = 5, side: int = 48) -> Path:
    """Images with edges, slopes and noise."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    for number in range(count):
        colours = random.uniform(0, 255, (2, 3))
        angle, place = random.uniform(0, np.pi), random.uniform(side / 4, 3 * side / 4)
        edge = (rows * np.sin(angle) + columns * np.cos(angle) > place)[..., None]
        slope = (rows / side)[..., None] * random.uniform(-60, 60, 3)
        noise = random.normal(0, 6, (side, side, 3))
        pixels = np.where(edge, colours[0], colours[1]) + slope + noise
        write_png(pixels.clip(0, 255).astype(np.uint8), folder / f"{number}.png")
    return folder


def tiny(images: Path, **changes) -> Recipe:
    """A recipe of two stages that takes seconds."""
    adam = OptimiserSettings(1e-3)
    discriminator = DiscriminatorSettings(features=4)
    settings = {
        "name": "tiny",
        "network": RRDBNetSettings(features=4, blocks=2, growth=2),
        "data": DataSettings((Source(images),), patch=16, margin=4, workers=0),
        "degradation": DegradationRecipe(pool=6),
        "stages": (
            Stage("psnr", 6, adam, batch=2, ema=0.9),
            Stage("gan", 5, adam, batch=2, ema=0.9, gan=GanSettings(discriminator=discriminator)),
        ),
        "validation": ValidationSettings((ValidationSet(images),), every=4, images=1),
        "logging": LoggingSettings(every=2),
        "saving": SavingSettings(every=3),
    }
    return Recipe(**(settings | changes))


def one_stage(images: Path, stage: Stage | None = None, **changes) -> Recipe:
    """A recipe of one stage, without validation, pool or TensorBoard."""
    plain = {
        "stages": (stage or Stage("psnr", 3, OptimiserSettings(1e-3), batch=2, ema=0.9),),
        "degradation": DegradationRecipe(pool=0),
        "validation": None,
        "logging": LoggingSettings(every=1, tensorboard=False),
    }
    return tiny(images, **(plain | changes))


def longer(recipe: Recipe, place: int, iterations: int) -> Recipe:
    """The same with another number of iterations of a stage."""
    stages = list(recipe.stages)
    stages[place] = replace(stages[place], iterations=iterations)
    return replace(recipe, stages=tuple(stages))


def collected(recipe: Recipe, folder: Path, **options) -> list[Event]:
    """Train, and return what was events."""
    events: list[Event] = []
    train(recipe, folder, device="cpu", events=events.append, **options)
    return events


def start(recipe: Recipe, folder: Path, *arguments: str, processes: int = 1):
    """Start this program, under torchrun if there shall be several processes."""
    file = folder.with_name(f"{folder.name}.yaml")
    file.write_text(to_yaml(recipe))
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*(launcher if processes > 1 else []), "-m", "tests.training.loop.runs"]
    return subprocess.Popen(
        [sys.executable, *command, str(file), str(folder), *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process) -> str:
    """Wait for a program, and return what it printed."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def check_same(one, other) -> None:
    """Nested values are equal, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            check_same(value, other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for value, counterpart in zip(one, other, strict=True):
            check_same(value, counterpart)
    else:
        assert one == other


def main() -> None:
    """Train, and die where events."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill", nargs="*")
    arguments = parser.parse_args()
    recipe, folder = read_recipe(arguments.recipe), arguments.folder
    if arguments.kill is None:
        print(watched_run(recipe, folder))
        return
    for number, kills in enumerate(arguments.kill):
        for moment in [int(each) for each in kills.split("+")]:
            in_a_fork(lambda: watched_run(recipe, folder / str(number), moment))  # noqa: B023
        assert in_a_fork(lambda: watched_run(recipe, folder / str(number))) == 0  # noqa: B023


def in_a_fork(work) -> int:
    """Run in a copy of this process, which has imported everything; how it ended."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status


def watched_run(recipe: Recipe, folder: Path, kill: int = -1) -> int:
    """Train, and die at a moment; how many there were."""
    moments = 0

    def pass_moment() -> None:
        nonlocal moments
        if moments == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        moments += 1

    for owner, name in ((os, "fsync"), (Path, "rename"), (Path, "replace"), (shutil, "rmtree")):
        watch(owner, name, pass_moment)

    def listen(event: Event) -> None:
        if isinstance(event, Stepped):
            pass_moment()

    train(recipe, folder, device="cpu", events=listen)
    return moments


def watch(owner: object, name: str, pass_moment) -> None:
    """Have a function called before and after another one."""
    function = getattr(owner, name)

    def watched(*arguments, **options):
        pass_moment()
        result = function(*arguments, **options)
        pass_moment()
        return result

    setattr(owner, name, watched)


if __name__ == "__main__":
    main()
