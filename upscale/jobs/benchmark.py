"""What a machine does: its own ceiling, a network's pace under it, and settings that are faster."""

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

from upscale.engine.device import PRECISIONS, pick_device, pick_precision, precision_name
from upscale.engine.loading import Model, load_model
from upscale.engine.upscaler import Upscaler
from upscale.errors import DeviceError, MemoryExhaustedError

ROUNDS = 3
_PRODUCT_SIDE = {"cpu": 1536, "cuda": 8192, "mps": 4096}
_COPY_BYTES = 1 << 28
_TRIAL_SIDE, _LEAST_SIDE, _MOST_SIDE = 48, 96, 1536
_RUN_SECONDS = 2.0
_COUNTED_SIDE = 16
_OTHER_TILES = (64, 128, 256, 512)

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class PeakRates:
    """What a device can do at the very most.

    Attributes:
        products: operations a second of a large matrix product, by precision.
        copied: bytes a second of a large copy within the device's memory, read and written.
    """

    products: dict[str, float]
    copied: float


@dataclass(frozen=True, slots=True)
class Setting:
    """How a network is run; `tile` is a side in pixels, 0 for none, or `auto`."""

    precision: str
    tile: int | Literal["auto"]


@dataclass(frozen=True, slots=True)
class Throughput:
    """How fast a network is with a setting.

    Attributes:
        setting: which.
        seconds: for a megapixel of output, the median of all rounds.
        spread: the slowest round over the fastest.
        rate: operations a second, counted as a direct convolution does them.
        gain: how many times as fast as the default setting, paired round by round; the median.
        furthest: the largest difference to the default setting's image, in levels of 255.
        within: share of values at most one level from it.
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
    """All that was found of a network.

    Attributes:
        model: its name.
        scale: its own.
        operations: for each pixel of input: multiplications and additions.
        side: of the square images that it was timed with.
        kernels: what computed its convolutions with the default setting.
        paces: the default setting first, then the others.
    """

    model: str
    scale: int
    operations: float
    side: int
    kernels: str
    paces: tuple[Throughput, ...]

    @property
    def fastest(self) -> Throughput:
        """The setting with the largest gain; the default one where none gains."""
        return max(self.paces, key=lambda pace: pace.gain)


def ceiling(device_name: str) -> PeakRates:
    """Measure what a device can do, in each precision that it computes in.

    Raises:
        DeviceError: It is not there.
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
        name: Of the model, or a file.
        device_name: As for `Upscaler`.
        rounds: How often each setting is timed.

    Raises:
        CheckpointError: There is no such model.
        DeviceError: There is no such device.
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
        paces=tuple(
            _pace(setting, own, runs[0], model, side)
            for setting, own in zip(settings, runs, strict=True)
            if own.seconds
        ),
    )


def _default(device: torch.device) -> Setting:
    return Setting(precision_name(pick_precision("auto", device)), "auto")


def _others(device: torch.device, side: int) -> Iterator[Setting]:
    """What else there is for an image of that side."""
    default = _default(device).precision
    for precision in _precisions(device):
        if precision != default:
            yield Setting(precision, "auto")
    for tile in _OTHER_TILES:
        if tile < side:
            yield Setting(default, tile)


def _precisions(device: torch.device) -> list[str]:
    found: list[str] = []
    for name in PRECISIONS:
        try:
            pick_precision(name, device)
        except DeviceError:
            continue
        found.append(name)
    return found


@dataclass(slots=True)
class _Runs:
    """Seconds of one setting's rounds, and the image that it made; none where it does not fit."""

    seconds: list[float]
    pixels: np.ndarray


def _timed(upscalers: Sequence[Upscaler], image: np.ndarray, rounds: int) -> list[_Runs]:
    """Time upscalers in turn, after a round to warm up."""
    runs = [_Runs([], image) for _ in upscalers]
    for number in range(rounds + 1):
        for upscaler, own in zip(upscalers, runs, strict=True):
            began = time.perf_counter()
            with suppress(MemoryExhaustedError):
                own.pixels = upscaler.upscale(image)
                if number:
                    own.seconds.append(time.perf_counter() - began)
    return runs


def _pace(setting: Setting, own: _Runs, default: _Runs, model: Model, side: int) -> Throughput:
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
    """The side of an image that takes about two seconds."""
    image = _image(_TRIAL_SIDE, channels)
    upscaler.upscale(image)
    began = time.perf_counter()
    upscaler.upscale(image)
    seconds = time.perf_counter() - began
    side = round(_TRIAL_SIDE * (_RUN_SECONDS / seconds) ** 0.5 / 16) * 16
    return min(max(side, _LEAST_SIDE), _MOST_SIDE)


def _image(side: int, channels: int) -> np.ndarray:
    """Smooth shapes with noise upon them: (side, side, channels), uint8."""
    rows, columns = np.mgrid[:side, :side] / side
    noise = np.random.default_rng(0).normal(0, 12, (side, side, channels))
    waves = np.sin(20 * rows[..., None] + 9 * columns[..., None] + np.arange(channels))
    return np.clip(128 + 80 * waves + noise, 0, 255).astype(np.uint8)


def operations(model: Model) -> float:
    """Multiplications and additions for each pixel of input, as a direct convolution does them."""
    image = torch.zeros(1, model.channels, _COUNTED_SIDE, _COUNTED_SIDE)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.network(image)
    return counter.get_total_flops() / _COUNTED_SIDE**2


def _best(work: Work, device: torch.device) -> float:
    """The least seconds of a few runs: a ceiling is what is possible."""
    found: list[float] = []
    for _ in range(5):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        found.append(time.perf_counter() - began)
    return min(found[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
