"""Too many open files, and other failures of the system, are never taken for a damaged image."""

from __future__ import annotations

import errno
from pathlib import Path

import cv2
import numpy as np
import pytest
from upscale_training.data import scan
from upscale_training.data.patches import PatchDataset
from upscale_training.degraded_sample import find_sampler
from upscale_training.loop.distributed import Processes
from upscale_training.loop.validation import Validation
from upscale_training.recipe import DataSettings, Source, ValidationSet, ValidationSettings
from upscale_training.test_set import find_images, write_set

from tests.training.loop.runs import one_stage
from upscale.errors import UpscaleError

NAMES = ("0.png", "1.png", "2.png")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder of three images, of which the second cannot be opened."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in NAMES:
        pixels = np.random.default_rng(1).integers(0, 256, (48, 48, 3)).astype(np.uint8)
        assert cv2.imwrite(str(folder / name), pixels)
    opened = Path.open

    def refuse(self: Path, *args, **settings):
        if self.name == NAMES[1]:
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(self, *args, **settings)

    monkeypatch.setattr(Path, "open", refuse)
    return folder


def read_patches(folder: Path, _: Path) -> None:
    found = PatchDataset(DataSettings((Source(folder),), patch=16, margin=0), 1, 4)
    for number in range(3):
        found[number]


def scan_folder(folder: Path, _: Path) -> None:
    # `scan` itself reads in other processes.
    scan._read_info(folder, NAMES[1])


def write_test_set(folder: Path, target: Path) -> None:
    list(write_set(target, find_images([folder], target), find_sampler("classical", scale=2)))


def validate(folder: Path, _: Path) -> None:
    settings = ValidationSettings(sets=(ValidationSet(folder, chain="classical"),))
    recipe = one_stage(folder, validation=settings)
    Validation(recipe, Processes("cpu", "fp32"), print).baseline()


@pytest.mark.parametrize("work", [read_patches, scan_folder, write_test_set, validate])
def test_image_that_the_system_fails_to_open_is_not_damaged(work, folder, tmp_path):
    with pytest.raises(UpscaleError, match=r"1\.png: cannot be read \(Too many open files\)"):
        work(folder, tmp_path / "target")
