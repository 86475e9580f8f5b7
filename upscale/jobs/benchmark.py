"""Benchmarks: peak rates of a device, throughput of networks, and faster settings."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from upscale.engine.choices import Precision
from upscale.engine.device import PRECISIONS, pick_device, pick_precision, precision_name
from upscale.engine.loading import Model, load_model
from upscale.engine.upscaler import Upscaler
from upscale.errors import DeviceError, MemoryExhaustedError

ROUNDS = 3
_PRODUCT_SIDE = {"cpu": 1536, "cuda": 8192, "mps": 4096, "xpu": 4096}
_COPY_BYTES = 1 << 28
_PROBE_SIDE, _MIN_SIDE, _MAX_SIDE = 48, 96, 1536
_RUN_SECONDS = 2.0
_COUNTED_SIDE = 16
_OTHER_TILES = (64, 128, 256, 512)

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class PeakRates:
    """The measured peak rates of a device.

    Attributes:
        products: Peak FLOP/s of a large matrix product, by precision.
        copied: Bandwidth of a large copy in the device's memory, in bytes read and written per
            second.
    """

    products: dict[str, float]
    copied: float


@dataclass(frozen=True, slots=True)
class Setting:
    """The precision and the tile that a network is timed with, as for `Upscaler`."""

    precision: str
    tile: int | Literal["auto"]


@dataclass(frozen=True, slots=True)
class Throughput:
    """The throughput of a network with a setting.

    Attributes:
        setting: Setting that was timed.
        seconds: Median time of all rounds in seconds per megapixel of output.
        spread: Ratio of the slowest to the fastest round.
        rate: FLOP/s, counted for direct convolution.
        gain: Speed relative to the default setting, the median of the ratios round by round.
        furthest: Largest difference from the image of the default setting, in levels of 255.
        within: Share of values that differ from it by at most one level.
    """

    setting: Setting
    seconds: float
    spread: float
    rate: float
    gain: float
    furthest: int
    within: float


@dataclass(frozen=True, slots=True)
class ModelBench:
    """The benchmark of a network.

    Attributes:
        model: Name of the model.
        scale: Scale of the model.
        operations: FLOP per input pixel, counted for direct convolution.
        side: Side of the square test image in pixels.
        kernels: Name of the convolution kernels of the default setting.
        throughputs: Throughput of the default setting, followed by the others.
    """

    model: str
    scale: int
    operations: float
    side: int
    kernels: str
    throughputs: tuple[Throughput, ...]

    @property
    def fastest(self) -> Throughput:
        """The throughput with the largest gain; the default one if none gains."""
        return max(self.throughputs, key=lambda each: each.gain)


def measure_peak_rates(device_name: str) -> PeakRates:
    """Measure the peak rates of a device in each precision that it supports.

    Raises:
        DeviceError: The device is not available.
    """
    device = pick_device(device_name)
    side = _PRODUCT_SIDE[device.type]
    products: dict[str, float] = {}
    for name in _precisions(device):
        matrix = torch.rand(side, side, device=device).to(PRECISIONS[name])
        products[name] = 2 * side**3 / _best(lambda matrix=matrix: matrix @ matrix, device)
    source = torch.empty(_COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    source.fill_(1)
    copied = 2 * _COPY_BYTES / _best(lambda: target.copy_(source), device)
    return PeakRates(products, copied)


def bench(name: str, device_name: str = "auto", rounds: int = ROUNDS) -> ModelBench:
    """Time a network with its default setting and with others, in turn.

    Args:
        name: Model name or checkpoint file.
        device_name: Device, as for `Upscaler`.
        rounds: Number of times that each setting is timed.

    Raises:
        CheckpointError: There is no such model, or its file cannot be used.
        DeviceError: The device is not available.
    """
    device, model = pick_device(device_name), load_model(name)

    def upscaler(setting: Setting) -> Upscaler:
        return Upscaler(model, device=device_name, precision=setting.precision, tile=setting.tile)

    side = _fitting_side(upscaler(_default(device)), model.channels)
    settings = [_default(device), *_others(device, side)]
    upscalers = [upscaler(each) for each in settings]
    runs = _timed(upscalers, _image(side, model.channels), rounds)
    return ModelBench(
        model=model.name,
        scale=model.scale,
        operations=operations(model),
        side=side,
        kernels=upscalers[0].kernels_name,
        throughputs=tuple(
            _throughput(setting, own, runs[0], model, side)
            for setting, own in zip(settings, runs, strict=True)
            if own.seconds
        ),
    )


def _default(device: torch.device) -> Setting:
    return Setting(precision_name(pick_precision("auto", device)), "auto")


def _others(device: torch.device, side: int) -> Iterator[Setting]:
    """Yield the settings other than the default for an image of that side."""
    default = _default(device).precision
    for precision in _precisions(device):
        if precision != default:
            yield Setting(precision, "auto")
    for tile in _OTHER_TILES:
        if tile < side:
            yield Setting(default, tile)


def _precisions(device: torch.device) -> list[Precision]:
    supported: list[Precision] = []
    for name in PRECISIONS:
        try:
            pick_precision(name, device)
        except DeviceError:
            continue
        supported.append(name)
    return supported


@dataclass(slots=True)
class _Runs:
    """Times of one setting in seconds, none if it ran out of memory, and its output image."""

    seconds: list[float]
    pixels: np.ndarray


def _timed(upscalers: Sequence[Upscaler], image: np.ndarray, rounds: int) -> list[_Runs]:
    """Time upscalers in turn, after a warm-up round."""
    runs = [_Runs([], image) for _ in upscalers]
    for number in range(rounds + 1):
        for upscaler, own in zip(upscalers, runs, strict=True):
            started = time.perf_counter()
            with suppress(MemoryExhaustedError):
                own.pixels = upscaler.upscale(image)
                if number:
                    own.seconds.append(time.perf_counter() - started)
    return runs


def _throughput(
    setting: Setting, own: _Runs, default: _Runs, model: Model, side: int
) -> Throughput:
    middle = statistics.median(own.seconds)
    levels = np.abs(own.pixels.astype(np.int16) - default.pixels)
    ratios = [a / b for a, b in zip(default.seconds, own.seconds, strict=False)]
    return Throughput(
        setting=setting,
        seconds=middle / ((side * model.scale) ** 2 / 1e6),
        spread=max(own.seconds) / min(own.seconds),
        rate=operations(model) * side**2 / middle,
        gain=statistics.median(ratios),
        furthest=int(levels.max()),
        within=float((levels <= 1).mean()),
    )


def _fitting_side(upscaler: Upscaler, channels: int) -> int:
    """Return the side of an image that takes about two seconds."""
    image = _image(_PROBE_SIDE, channels)
    upscaler.upscale(image)
    started = time.perf_counter()
    upscaler.upscale(image)
    seconds = time.perf_counter() - started
    side = round(_PROBE_SIDE * (_RUN_SECONDS / seconds) ** 0.5 / 16) * 16
    return min(max(side, _MIN_SIDE), _MAX_SIDE)


def _image(side: int, channels: int) -> np.ndarray:
    """Return smooth shapes with noise as a (side, side, channels) uint8 image."""
    rows, columns = np.mgrid[:side, :side] / side
    noise = np.random.default_rng(0).normal(0, 12, (side, side, channels))
    waves = np.sin(20 * rows[..., None] + 9 * columns[..., None] + np.arange(channels))
    return np.clip(128 + 80 * waves + noise, 0, 255).astype(np.uint8)


def operations(model: Model) -> float:
    """Return the FLOP per input pixel, counted for direct convolution."""
    image = torch.zeros(1, model.channels, _COUNTED_SIDE, _COUNTED_SIDE)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.network(image)
    return counter.get_total_flops() / _COUNTED_SIDE**2


def _best(work: Work, device: torch.device) -> float:
    """Return the shortest time of a few runs in seconds, which gives the peak rate."""
    times: list[float] = []
    for _ in range(5):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
