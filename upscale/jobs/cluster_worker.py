"""What a worker of a cluster does: compute one image after another and return the encoded outputs.

It writes no files: outputs get their names in the process that the user started.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from upscale.errors import DeviceError
from upscale.jobs.batch import run_jobs
from upscale.jobs.cluster_pool import versions
from upscale.jobs.events import JobResult
from upscale.jobs.face_models import find_face_models
from upscale.jobs.faces import FaceFactory, make_enhancer
from upscale.jobs.image import ImageJob
from upscale.jobs.local import LocalExecutor
from upscale.jobs.networks import make_networks
from upscale.jobs.plain_resize import PlainResize
from upscale.jobs.plan import Plan
from upscale.jobs.workers import AnyUpscaler
from upscale.options import EngineOptions, Options

if TYPE_CHECKING:
    from upscale.faces.enhancer import FaceEnhancer

MakeUpscaler = Callable[[EngineOptions], AnyUpscaler]


@dataclass(frozen=True, slots=True)
class Encoded:
    """The result of a job, and the content of its output; None if the input is not visible here."""

    result: JobResult | None
    content: bytes = b""


class ImageWorker:
    """Compute images in a process of a cluster.

    Args:
        options: Options of the command.
        make: Function that loads the network.
    """

    def __init__(self, options: Options, make: MakeUpscaler | None = None) -> None:
        # One thread reads and writes: nothing is written here, and the driver looks ahead.
        self._options = replace(options, run=replace(options.run, jobs=1))
        self._make = make or make_networks
        self._upscaler: AnyUpscaler | None = None
        self._faces: FaceFactory | None = None
        self._turn = Lock()

    def prepare(self) -> dict[str, str]:
        """Load the networks, and return the versions that all workers must share.

        Raises:
            UpscaleError: A network cannot be loaded, or the device not used.
        """
        is_resize = self._options.faces.faces_only
        self._upscaler = PlainResize() if is_resize else self._make(self._options.engine)
        self._faces = worker_faces(self._options)
        return versions()

    def run(self, job: ImageJob, version: tuple[int, int] | None) -> Encoded:
        """Compute an image, after `prepare`.

        Two threads may call it: while one of them reads or encodes, the other one computes.

        Args:
            job: The job; its target is ignored.
            version: Result of `version_of` where the input is, by which a shared drive is
                recognised; None if the job contains its input.

        Raises:
            DeviceError: The device has stopped working.
        """
        if isinstance(job.source, Path) and not _is_visible(job.source, version):
            return Encoded(None)
        assert self._upscaler is not None
        upscaler, stream = self._upscaler, io.BytesIO()
        devices = {self._options.engine.device: lambda: upscaler}
        executor = LocalExecutor(
            devices, self._options, stream, 1, faces=self._faces, turn=self._turn
        )
        plan = Plan((replace(job, target=None),))
        (result,) = run_jobs(plan, executor, lambda event: None)
        if not executor.is_usable:
            raise DeviceError(result.error or "the device has stopped working")
        return Encoded(result, stream.getvalue())

    def end(self) -> None:
        """Do nothing: there is nothing to clear away."""


def worker_faces(options: Options) -> FaceFactory | None:
    """Return the factory of what restores faces in a worker, made once; None to restore none.

    Raises:
        CheckpointError: There is no such network for faces.
    """
    if not options.faces.is_on:
        return None
    models = find_face_models(options.faces)

    @cache
    def make(device: str) -> FaceEnhancer:
        return make_enhancer(options.faces, replace(options.engine, device=device), models)

    return make


def version_of(path: Path) -> tuple[int, int]:
    """Return the size of a file in bytes, and the time of its last change in nanoseconds.

    Raises:
        OSError: The file cannot be reached.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _is_visible(path: Path, version: tuple[int, int] | None) -> bool:
    """Whether a file of the driver is on a drive that this machine shares."""
    try:
        return version_of(path) == version
    except OSError:
        return False
