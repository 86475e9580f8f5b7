"""What workers of test_cluster.py load in place of a network."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.jobs.conftest import NearestUpscaler
from upscale.errors import CheckpointError
from upscale.jobs.networks import make_networks

POISON, FATAL_ONCE, SLOW = 13, 17, 19
"""Widths of images: one kills each worker, one the first worker that gets it, one takes long."""


class Fragile(NearestUpscaler):
    def run(self, array, **options):
        width = array.shape[1]
        if width == POISON or (width == FATAL_ONCE and is_first("killed")):
            os._exit(1)
        time.sleep(0.5 if width == SLOW else 0.005)
        return super().run(array, **options)


def is_first(name):
    """Whether no process asked this before, in the folder that the test named."""
    try:
        (Path(os.environ["CLUSTER_TEST_FOLDER"]) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def fragile(engine):
    return Fragile()


def broken(engine):
    raise CheckpointError("net.pth: is damaged; download it again")


class FatalOnce:
    """A network of which one worker dies in the middle of a segment."""

    def __init__(self, upscaler):
        self._upscaler, self._runs = upscaler, 0

    def __getattr__(self, name):
        return getattr(self._upscaler, name)

    def run_tensor(self, image, *, size=None):
        self._runs += 1
        if self._runs == 6 and is_first("video"):
            os._exit(1)
        return self._upscaler.run_tensor(image, size=size)


def fatal_once(engine):
    return FatalOnce(make_networks(engine))
