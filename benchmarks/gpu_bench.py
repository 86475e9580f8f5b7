"""Shared parts of `benchmarks.gpu`. Import this module before the project: see `MISSING`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks import standins

MISSING = standins.install()
"""Packages that are not installed and were replaced by stand-ins."""

from upscale import Upscaler  # noqa: E402
from upscale.engine.loading import Model  # noqa: E402
from upscale.models import Spec, build  # noqa: E402

EXAMPLE = Path(__file__).parents[1] / "examples" / "kitten.jpg"
MODEL = "realesrgan-x4plus"
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Bench:
    """The settings that all checks share.

    Attributes:
        device: Device to test.
        model: Model to test.
        small: Whether images are small and rounds few.
        minutes: Time after which no new row starts.
        started: Start of the benchmark.
    """

    device: str
    model: Model
    small: bool
    minutes: float = 7.5
    started: float = field(default_factory=time.perf_counter)

    def has_time(self, row: str) -> bool:
        """Return whether there is time for one more row, and print a line if not."""
        left = self.minutes * 60 - (time.perf_counter() - self.started)
        if left <= 0:
            print(f"{row}: not run (the {self.minutes:g} minutes are over)", flush=True)
        return left > 0

    @property
    def rounds(self) -> int:
        """Number of runs per median."""
        return 1 if self.small else 3

    @property
    def is_cuda(self) -> bool:
        """Whether the device is a CUDA GPU."""
        return self.device.startswith("cuda")

    def upscaler(
        self,
        precision: str,
        tile: int | str = 0,
        *,
        model: Model | None = None,
        kernels: bool = True,
    ) -> Upscaler:
        """Return our engine on the device."""
        return Upscaler(
            model or self.model,
            device=self.device,
            precision=precision,
            tile=tile,
            kernels=kernels,
        )

    def seconds(self, work: Callable[[], object]) -> float:
        """Return the median time of a piece of work after a warm-up run."""
        work()
        times = []
        for _ in range(self.rounds):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    def wait(self) -> None:
        """Wait for the device."""
        if self.is_cuda:
            torch.cuda.synchronize()

    def peak(self, work: Callable[[], object]) -> float:
        """Return the peak device memory of a piece of work in MiB, nan without CUDA."""
        if not self.is_cuda:
            return float("nan")
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_reserved() / MEBIBYTE


def random_model(spec: Spec) -> Model:
    """Return a network with random weights that keep values in range."""
    generator = torch.Generator().manual_seed(0)
    network = build(spec).eval().requires_grad_(False)
    for parameter in network.parameters():
        spread = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return Model.from_network("random weights", network)


def photograph(width: int, height: int) -> np.ndarray:
    """Return the example image in any size."""
    return cv2.resize(cv2.imread(str(EXAMPLE))[:, :, ::-1], (width, height))
