"""Devices at work: each has a thread of its own and computes one image at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from upscale.errors import DeviceError
from upscale.jobs.image import ImageUpscaler

UpscalerFactory = Callable[[], ImageUpscaler]
Devices = Mapping[str, UpscalerFactory]
"""How the upscaler of each device is made; the names are the user's, as `cuda:1`."""

T = TypeVar("T")

_MARKS = ("CUDA error", "cuDNN error", "CUDNN_STATUS", "CUBLAS_STATUS")
"""What torch's messages hold when the device, not the image, is at fault."""


class Worker:
    """One device; `failure` is set when it can compute nothing more."""

    def __init__(self, device: str, factory: UpscalerFactory) -> None:
        self.device = device
        self.failure: DeviceError | None = None
        self._factory = factory
        self._upscaler: ImageUpscaler | None = None
        self._thread = ThreadPoolExecutor(1, f"upscale-{device}")
        self._work: Future[Any] | None = None

    @property
    def is_free(self) -> bool:
        """Whether it can take an image now."""
        return self.failure is None and (self._work is None or self._work.done())

    def prepare(self) -> None:
        """Make the upscaler, once.

        Raises:
            UpscaleError: The model or the device cannot be used.
        """
        if self._upscaler is None:
            self._upscaler = self._factory()

    def start(self, compute: Callable[[ImageUpscaler], T]) -> Future[T]:
        """Compute in this device's thread; `prepare` must have been called."""
        work = self._thread.submit(self._guarded, compute)
        self._work = work
        return work

    def _guarded(self, compute: Callable[[ImageUpscaler], T]) -> T:
        assert self._upscaler is not None
        try:
            return compute(self._upscaler)
        except DeviceError as error:
            self.failure = error
            raise
        except RuntimeError as error:
            if not any(mark in str(error) for mark in _MARKS):
                raise
            reason = str(error).partition("\n")[0]
            self.failure = DeviceError(
                f"{self.device} has stopped working ({reason}): repeat with --skip-existing"
            )
            raise self.failure from error

    def close(self) -> None:
        """Wait for what is being computed, and end the thread."""
        self._thread.shutdown()
