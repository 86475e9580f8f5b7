"""Memory and states of a training process, measured for one process and multiplied for more.

    python -m benchmarks.training_memory                     # the second stage of real-esrgan-x4
    python -m benchmarks.training_memory --processes 8 --workers 5 --batch 12 --images 20000

The networks have their full size. Optimisers take one step of zero gradients, after which they hold
everything that they will ever hold. The state is written as in training. Readers are started as in
training, on links to one photograph, and their memory is read (on Linux) after they have
filled their queue. Nothing is measured on a GPU.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from upscale_training.data.patches import PatchDataset, batches
from upscale_training.loop.distributed import Processes
from upscale_training.loop.export import export
from upscale_training.loop.networks import Networks, make_networks
from upscale_training.loop.state import StateInfo
from upscale_training.loop.state_writer import StateContent, StateWriter
from upscale_training.recipe import Recipe, Source
from upscale_training.recipe.reading import read_recipe
from upscale_training.recipes import bundled

PHOTO = Path(__file__).parents[1] / "tests/data/photos/scenes/city.webp"
SHARED = Path("/dev/shm")
MEGABYTE = 1e6
PREFETCH = 2
"""Batches that torch's loader reads ahead for each worker."""


@dataclass(frozen=True)
class Reading:
    """Memory of the readers of one process, in bytes.

    Attributes:
        private: Memory of one worker that no other process shares.
        shared: Memory of all workers in /dev/shm.
    """

    private: int
    shared: int


def prepared(arguments: argparse.Namespace, folder: Path) -> Recipe:
    """Return the recipe with links to a photograph as its data."""
    recipe = read_recipe(bundled()[arguments.recipe], ["stages.1.perceptual=null"])
    photos = folder / "photos"
    photos.mkdir()
    for number in range(arguments.images):
        os.link(PHOTO, photos / f"{number:07d}.webp")
    stages = tuple(replace(each, batch=arguments.batch) for each in recipe.stages)
    data = replace(recipe.data, sources=(Source(photos),), workers=arguments.workers)
    return replace(recipe, data=data, stages=stages)


def step_of_zeros(networks: Networks) -> None:
    """Let all optimisers allocate their running means."""
    for trained in (networks.generator, networks.discriminator):
        if trained is not None:
            for parameter in trained.network.parameters():
                parameter.grad = torch.zeros_like(parameter)
            trained._optimiser.step()  # pyright: ignore[reportPrivateUsage]


def write(recipe: Recipe, networks: Networks, processes: Processes, folder: Path) -> dict[str, int]:
    """Write a state as training does; return the sizes of its files in bytes."""
    pool, patch = recipe.degradation.pool, recipe.data.patch
    sides = patch // recipe.network.scale, patch
    low, high = (torch.zeros(pool, 3, side, side, dtype=torch.uint8) for side in sides)
    own: dict[str, Any] = {"pairs": {"pool": {"low": low, "high": high}}}
    average = networks.average.network
    content = StateContent(average.state_dict(), networks.state_dict(), own)
    info = StateInfo(recipe.stages[-1].name, 1, 1, "", 0)
    writer = StateWriter(folder, processes)
    writer.start(info, content, lambda path, weights: export(average, path, recipe, info, weights))
    saved = writer.finish()
    assert saved is not None, "a state was started"
    return {file.name: file.stat().st_size for file in saved.path.iterdir()}


def readers(recipe: Recipe) -> Reading:
    """Start the readers of one process, and measure them with full queues."""
    known, used = set(psutil.Process().children()), shared_bytes()
    dataset = PatchDataset(recipe.data, recipe.seed, recipe.network.scale)
    loader = batches(dataset, batch=recipe.stages[-1].batch, first=0, workers=recipe.data.workers)
    held = [next(loader) for _ in range(PREFETCH * recipe.data.workers)]
    del held
    next(loader)
    started = [each for each in psutil.Process().children() if each not in known]
    # Another process is the tracker of multiprocessing.
    workers = [each for each in started if "spawn_main" in " ".join(each.cmdline())]
    private = [each.memory_full_info().uss for each in workers]
    return Reading(sum(private) // len(private), shared_bytes() - used)


def shared_bytes() -> int:
    """Return the used part of /dev/shm."""
    status = os.statvfs(SHARED)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def table(recipe: Recipe, sizes: dict[str, int], reading: Reading, processes: int) -> list[str]:
    """Return the rows of a table in MB: measured for one process, and for all."""
    workers, batch = recipe.data.workers, recipe.stages[-1].batch
    queue = PREFETCH * workers * batch * 3 * recipe.data.side**2
    whole, own = sum(sizes.values()), sizes["process-0.pt"]
    state = whole + (processes - 1) * own
    kept = recipe.saving.keep_last + recipe.saving.keep_best
    rows = [
        (
            "readers, private memory",
            reading.private * workers,
            reading.private * workers * processes,
        ),
        ("readers, shared memory (/dev/shm)", reading.shared, reading.shared * processes),
        ("the same, by the formula", queue, queue * processes),
        ("copy of a state while it is written", whole, state),
        ("state on disk", whole, state),
        (f"{kept} states and the one that is written", whole * (kept + 1), state * (kept + 1)),
    ]
    lines = [f"| MB | 1 process | {processes} processes |", "|---|---|---|"]
    numbers = ((title, one / MEGABYTE, all_ / MEGABYTE) for title, one, all_ in rows)
    return [*lines, *(f"| {title} | {one:,.0f} | {all_:,.0f} |" for title, one, all_ in numbers)]


def main() -> None:
    """Measure one process, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="real-esrgan-x4")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--workers", type=int, default=5)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--images", type=int, default=2000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        recipe = prepared(arguments, Path(name))
        processes = Processes("cpu", "fp32")
        networks, _ = make_networks(recipe, len(recipe.stages) - 1, processes, None)
        step_of_zeros(networks)
        sizes = write(recipe, networks, processes, Path(name) / "states")
        print({file: f"{size / MEGABYTE:.1f} MB" for file, size in sorted(sizes.items())})
        reading = readers(recipe)
        print(f"one reader: {reading.private / MEGABYTE:.0f} MB")
        print(*table(recipe, sizes, reading, arguments.processes), sep="\n")


if __name__ == "__main__":
    main()
