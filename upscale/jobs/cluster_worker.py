"""What a worker of a cluster does: compute one image after another and return the encoded outputs.

It writes no files: outputs get their names in the process that the user started.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from upscale.errors import DeviceError
from upscale.jobs.batch import run_jobs
from upscale.jobs.events import JobResult
from upscale.jobs.image import ImageJob
from upscale.jobs.local import LocalExecutor
from upscale.jobs.networks import make_networks
from upscale.jobs.plan import Plan
from upscale.jobs.workers import AnyUpscaler
from upscale.options import EngineOptions, Options

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

    def prepare(self) -> str:
        """Load the network, and return the versions that all workers must share.

        Raises:
            UpscaleError: The network cannot be loaded, or the device not used.
        """
        self._upscaler = self._make(self._options.engine)
        return versions()

    def run(self, job: ImageJob, size: int) -> Encoded:
        """Compute an image, after `prepare`.

        Args:
            job: The job; its target is ignored.
            size: Size in bytes of the input, by which it is recognised on a shared drive.

        Raises:
            DeviceError: The device has stopped working.
        """
        if isinstance(job.source, Path) and not _is_visible(job.source, size):
            return Encoded(None)
        assert self._upscaler is not None
        upscaler, stream = self._upscaler, io.BytesIO()
        executor = LocalExecutor({"worker": lambda: upscaler}, self._options, stream, 1)
        plan = Plan((replace(job, target=None),))
        (result,) = run_jobs(plan, executor, lambda event: None)
        if not executor.is_usable:
            raise DeviceError(result.error or "the device has stopped working")
        return Encoded(result, stream.getvalue())


def versions() -> str:
    """Return the versions of the packages that determine an output."""
    return ", ".join(f"{name} {version(name)}" for name in ("upscale", "torch"))


def _is_visible(path: Path, size: int) -> bool:
    """Whether a file of the driver is on a drive that this machine shares."""
    try:
        return path.stat().st_size == size
    except OSError:
        return False
