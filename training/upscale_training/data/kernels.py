"""Estimate the kernel of every image of a folder, one file for each."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
import torch

from upscale.errors import ImageError
from upscale.files.atomic import write_atomically
from upscale.files.printable import printable
from upscale_training.data.derive import DeriveResult
from upscale_training.data.index import stem_of
from upscale_training.data.parallel import map_into_folder
from upscale_training.data.pixels import read_rgb
from upscale_training.kernel_gan import EstimateSettings, estimate_kernel


def estimate_kernels(
    settings: EstimateSettings, source: Path, names: Sequence[str], target: Path, jobs: int
) -> Generator[tuple[str, DeriveResult | Exception]]:
    """Write the kernel of each image to `NAME.npy`, and yield the result of each image.

    Existing files are kept, so an interrupted run resumes when it is repeated. The result for an
    image depends on its name and the seed, not on the other images.

    Args:
        settings: Scale, length and seed of the estimates.
        source: Folder of the images.
        names: Names of images, relative to the folder.
        target: New folder, or the folder of an interrupted run.
        jobs: Number of processes.

    Raises:
        UsageError: The target is inside the source.
        OutputError: The target contains something else, or cannot be created.
    """
    kept = {key: value for key, value in asdict(settings).items() if key != "device"}
    work = partial(_estimate, settings, source, target)
    claim = {"made": "kernels", **kept}
    return map_into_folder(work, names, source, target, settings=claim, jobs=jobs)


def _estimate(settings: EstimateSettings, source: Path, target: Path, name: str) -> DeriveResult:
    file = target / f"{stem_of(name)}.npy"
    if file.exists():
        return DeriveResult(kept=1)
    torch.set_num_threads(1)  # processes work beside each other
    image = read_rgb(source / name)
    seed = crc32(f"{settings.seed} {stem_of(name)}".encode())
    try:
        kernel = estimate_kernel(image, replace(settings, seed=seed))
    except ImageError as error:
        raise ImageError(f"{printable(source / name)}: {error}") from error
    write_atomically(file, lambda stream: np.save(stream, kernel.astype(np.float32)))
    return DeriveResult(written=1)
