"""What the parts of `benchmarks.gpu` share. Import it before the project: see `MISSING`."""

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
"""Packages that are not installed, and for which there are stand-ins from now on."""

from upscale import Upscaler  # noqa: E402
from upscale.engine.loading import Model  # noqa: E402
from upscale.models import RRDBSpec, SRVGGSpec, build  # noqa: E402

EXAMPLE = Path(__file__).parents[1] / "examples" / "kitten.jpg"
MODEL = "realesrgan-x4plus"
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Bench:
    """What all checks share."""

    device: str
    model: Model
    small: bool
    minutes: float = 7.5
    began: float = field(default_factory=time.perf_counter)

    def has_time(self, row: str) -> bool:
        """Whether there is time for one more row; says so if there is none."""
        left = self.minutes * 60 - (time.perf_counter() - self.began)
        if left <= 0:
            print(f"{row}: not run (the {self.minutes:g} minutes are over)", flush=True)
        return left > 0

    @property
    def rounds(self) -> int:
        """Runs that a median is taken of."""
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
        """Our engine on the bench's device."""
        return Upscaler(
            model or self.model,
            device=self.device,
            precision=precision,
            tile=tile,
            kernels=kernels,
        )

    def seconds(self, work: Callable[[], object]) -> float:
        """Median time of a piece of work after one run to warm up."""
        work()
        found = []
        for _ in range(self.rounds):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            found.append(time.perf_counter() - started)
        return statistics.median(found)

    def wait(self) -> None:
        """Let the device finish."""
        if self.is_cuda:
            torch.cuda.synchronize()

    def peak(self, work: Callable[[], object]) -> float:
        """The most device memory that a piece of work takes, in MiB; nan where nothing tells."""
        if not self.is_cuda:
            return float("nan")
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_reserved() / MEBIBYTE


def random_model(spec: RRDBSpec | SRVGGSpec) -> Model:
    """A network with random weights, which keep values in range."""
    generator = torch.Generator().manual_seed(0)
    network = build(spec).eval().requires_grad_(False)
    for parameter in network.parameters():
        spread = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return Model("random weights", network, network.scale, 3, True, spec.describe())


def photograph(width: int, height: int) -> np.ndarray:
    """An image of the example's content and any size."""
    return cv2.resize(cv2.imread(str(EXAMPLE))[:, :, ::-1], (width, height))
