"""Shared parts of `benchmarks.gpu`. Import this module before the project: see `MISSING`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import torch

from benchmarks import standins
from benchmarks.rows import NotRunError

MISSING = standins.install()
"""Packages that are not installed and were replaced by stand-ins."""

from upscale.engine.device import pick_device  # noqa: E402
from upscale.engine.loading import Model, load_model  # noqa: E402
from upscale.engine.upscaler import Upscaler  # noqa: E402
from upscale.jobs import benchmark  # noqa: E402
from upscale.models import RRDBSpec, Spec, SRVGGSpec, build  # noqa: E402

ROOT = Path(__file__).parents[1]
MEBIBYTE = 1 << 20
TINY_RRDB = RRDBSpec(blocks=1, features=8, growth=4)
TINY_SRVGG = SRVGGSpec(4, features=8, convolutions=2)


@dataclass(frozen=True)
class Bench:
    """The settings that all rows share, and the networks.

    Attributes:
        device: Device to test.
        small: Whether images are small, rounds few, and networks tiny.
    """

    device: str = "cuda"
    small: bool = False

    @cached_property
    def trained(self) -> dict[str, Model]:
        """The bundled networks: random weights cannot show whether precision suffices."""
        names = ("upscale-x4-fast", "upscale-x1")
        return {name: load_model(ROOT / "weights" / f"{name}.safetensors") for name in names}

    @cached_property
    def networks(self) -> dict[str, Model]:
        """The networks whose speed is measured: RRDBNet with 23 blocks, and a compact one.

        Weights do not change their speed.
        """
        if self.small:
            tiny = {"x2": RRDBSpec(unshuffle=2, blocks=1, features=8, growth=4), "x4": TINY_RRDB}
            models = {name: random_model(spec) for name, spec in tiny.items()}
            return {**models, "compact": random_model(TINY_SRVGG)}
        return {
            "x2": random_model(RRDBSpec(unshuffle=2)),
            "x4": random_model(RRDBSpec()),
            "compact": self.trained["upscale-x4-fast"],
        }

    @cached_property
    def peak_rates(self) -> benchmark.PeakRates:
        """The peak rates of the device."""
        sides = {pick_device(self.device).type: 64} if self.small else {}
        with patch.dict(benchmark._PRODUCT_SIDE, sides):
            return benchmark.measure_peak_rates(self.device)

    @property
    def rounds(self) -> int:
        """Number of runs per median."""
        return 1 if self.small else 3

    @property
    def is_cuda(self) -> bool:
        """Whether the device is a CUDA GPU."""
        return self.device.startswith("cuda")

    @property
    def half(self) -> str:
        """The precision whose speed is measured."""
        return "fp16" if self.is_cuda else "fp32"

    def need_cuda(self) -> None:
        """Raise NotRunError without CUDA."""
        if not self.is_cuda:
            raise NotRunError("needs CUDA")

    def image(self, width: int, height: int) -> np.ndarray:
        """Return the example image in a size, or smaller for a small run."""
        if self.small:
            width, height = (max(each // 80 * 2, 16) for each in (width, height))
        file = ROOT / "examples" / "kitten.jpg"
        return cv2.resize(cv2.imread(str(file))[:, :, ::-1], (width, height))

    def upscaler(
        self, model: Model, precision: str, tile: int | str = "auto", *, kernels: bool = True
    ) -> Upscaler:
        """Return our engine on the device."""
        return Upscaler(model, device=self.device, precision=precision, tile=tile, kernels=kernels)

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

    def peak(self, work: Callable[[], object]) -> float | None:
        """Return the peak device memory of a piece of work in MiB, None without CUDA."""
        if not self.is_cuda:
            return None
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_reserved() / MEBIBYTE

    @contextmanager
    def capped(self, mebibytes: float) -> Iterator[None]:
        """Limit the device memory of this process."""
        total = torch.cuda.get_device_properties(pick_device(self.device)).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(1.0, mebibytes * MEBIBYTE / total))
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)


def random_model(spec: Spec) -> Model:
    """Return a network with random weights that keep values in range."""
    generator = torch.Generator().manual_seed(0)
    network = build(spec).eval().requires_grad_(False)
    for parameter in network.parameters():
        spread = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return Model.from_network("random weights", network)


def levels(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the absolute differences of two uint8 images."""
    return np.abs(left.astype(int) - right)
