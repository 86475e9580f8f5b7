"""Workers: each device computes one image at a time in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from upscale.errors import DeviceError, MemoryExhaustedError
from upscale.jobs.auto import AutoUpscaler
from upscale.jobs.image import ImageUpscaler
from upscale.jobs.trained import TrainedUpscaler
from upscale.out_of_memory import is_out_of_memory

AnyUpscaler = ImageUpscaler | AutoUpscaler | TrainedUpscaler
UpscalerFactory = Callable[[], AnyUpscaler]
Devices = Mapping[str, UpscalerFactory]
"""Factory of each device's upscaler, by the user's name of the device (`cuda:1`)."""

T = TypeVar("T")

# Parts of the messages of RuntimeErrors with which torch reports a device failure. All other
# RuntimeErrors concern the image alone, and so does memory that runs out.
_DEVICE_FAILURES = ("CUDA error", "cuDNN error", "CUDNN_STATUS", "CUBLAS_STATUS")


class Worker:
    """A device and its thread.

    Attributes:
        device: Name of the device.
        failure: Error that retired the device, None while it works.
    """

    def __init__(self, device: str, factory: UpscalerFactory) -> None:
        self.device = device
        self.failure: DeviceError | None = None
        self._factory = factory
        self._upscaler: AnyUpscaler | None = None
        self._thread = ThreadPoolExecutor(1, f"upscale-{device}")
        self._current: Future[Any] | None = None

    @property
    def is_free(self) -> bool:
        """Whether the worker can take an image now."""
        return self.failure is None and (self._current is None or self._current.done())

    def prepare(self) -> None:
        """Create the upscaler if that has not been done.

        Raises:
            UpscaleError: The model or the device cannot be used.
        """
        if self._upscaler is None:
            self._upscaler = self._factory()

    def start(self, compute: Callable[[AnyUpscaler], T]) -> Future[T]:
        """Run `compute` in the worker's thread; call `prepare` first."""
        future = self._thread.submit(self._run, compute)
        self._current = future
        return future

    def _run(self, compute: Callable[[AnyUpscaler], T]) -> T:
        assert self._upscaler is not None
        try:
            return compute(self._upscaler)
        except DeviceError as error:
            self.failure = error
            raise
        except RuntimeError as error:
            _raise_if_out_of_memory(self.device, error)
            if not any(text in str(error) for text in _DEVICE_FAILURES):
                raise
            reason = str(error).partition("\n")[0]
            self.failure = DeviceError(
                f"{self.device} has stopped working ({reason}): "
                "run the same command again with --skip-existing"
            )
            raise self.failure from error

    def close(self) -> None:
        """Wait for the current computation and end the thread."""
        self._thread.shutdown()


def _raise_if_out_of_memory(device: str, error: RuntimeError) -> None:
    if is_out_of_memory(error):
        raise MemoryExhaustedError(
            f"{device}: not enough memory for this image: close other programs, or use a smaller "
            "--tile"
        ) from error
