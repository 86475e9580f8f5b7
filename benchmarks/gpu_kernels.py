"""The part of `benchmarks.gpu` about convolutions: the Triton kernel compared with torch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_bench import Bench, photograph, random_model
from upscale.engine.device import precision_name
from upscale.engine.loading import Model
from upscale.jobs.benchmark import PeakRates, operations
from upscale.kernels import KernelMissingError, triton_conv
from upscale.kernels.autotune import agree, kernel_seconds
from upscale.kernels.triton_conv import Autotuner, TileConfig, triton_layer
from upscale.models import RRDBSpec, SRVGGSpec
from upscale.models.layers import Layer, LayerRun, torch_layer

ODD = (37, 123)
"""Rows and columns that are not multiples of a block."""


@dataclass(frozen=True)
class Kind:
    """A kind of layer: the channels of its maps, and the fields of `Layer`."""

    name: str
    channels: tuple[int, ...]
    outputs: int
    padding: int = 1
    upsample: int = 1
    slope: float | str = 1.0
    scale: float = 1.0
    residuals: int = 0

    def layer(self, device: str, dtype: torch.dtype) -> Layer:
        """Return a layer of this kind with random weights."""
        generator = torch.Generator().manual_seed(0)
        inputs = sum(self.channels)
        convolution = torch.nn.Conv2d(inputs, self.outputs, 3, padding=1).requires_grad_(False)
        for parameter in convolution.parameters():
            values = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(values / (9 * inputs) ** 0.5)
        convolution = convolution.to(device, dtype, memory_format=torch.channels_last)
        slopes = torch.rand(self.outputs, generator=generator).to(device, dtype)
        slope = slopes if isinstance(self.slope, str) else self.slope
        return Layer(convolution, self.padding, self.upsample, slope, self.scale)

    def tensors(
        self, rows: int, columns: int, device: str, dtype: torch.dtype
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return random maps and residuals."""
        edge = 2 * self.padding - 2
        height, width = rows * self.upsample + edge, columns * self.upsample + edge
        maps = [random_map(each, rows, columns, device, dtype) for each in self.channels]
        return maps, [random_map(self.outputs, height, width, device, dtype)] * self.residuals


KINDS = (
    Kind("first", (3,), 64),
    Kind("first of x2", (12,), 64),
    Kind("dense 1", (64,), 32, slope=0.2),
    Kind("dense 2", (64, 32), 32, slope=0.2),
    Kind("dense 3", (64, 64), 32, slope=0.2),
    Kind("dense 4", (64, 96), 32, slope=0.2),
    Kind("dense 5", (64, 128), 64, scale=0.2, residuals=1),
    Kind("dense 5, last", (64, 128), 64, scale=0.2, residuals=2),
    Kind("body", (64,), 64, residuals=1),
    Kind("doubling", (64,), 64, upsample=2, slope=0.2),
    Kind("high resolution", (64,), 64, slope=0.2),
    Kind("last", (64,), 3),
    Kind("compact", (64,), 64, slope="each"),
    Kind("compact, last", (64,), 48),
    Kind("without padding", (64, 32), 32, padding=0, slope=0.2),
)


def random_map(channels: int, rows: int, columns: int, device: str, dtype: torch.dtype) -> Tensor:
    """Return a random channels-last map."""
    values = torch.rand(1, rows, columns, channels, device=device) - 0.5
    return values.to(dtype).permute(0, 3, 1, 2)


def autotuner_of(bench: Bench) -> Autotuner | None:
    """Return the autotuner of the device, or None with a printed reason."""
    if not bench.is_cuda:
        print("the Triton kernel: not run (needs CUDA)")
        return None
    try:
        triton_conv.layer_maker(torch.device("cuda", 0), torch.float16)
        return triton_conv.autotuner(torch.device("cuda", 0))
    except KernelMissingError as error:
        print(f"the Triton kernel: not run ({error})")
        return None


def check_layers(bench: Bench) -> bool:
    """Check each kind of layer with each tile config against torch in fp32."""
    autotuner = autotuner_of(bench)
    if autotuner is None:
        return True
    good, count = True, 0
    for dtype, configs in (
        (torch.float16, autotuner.configs),
        (torch.bfloat16, autotuner.configs[:1]),
    ):
        for kind in KINDS:
            run = triton_layer(autotuner, kind.layer(bench.device, dtype))
            for config in (
                config for config in autotuner.fitting_configs(run) if config in configs
            ):
                fault = fault_of(bench, kind, config, run, dtype)
                count += 1
                if fault is not None:
                    print(f"{kind.name}, {precision_name(dtype)}, {config}: {fault}")
                    good = False
    print(f"the Triton kernel: {count} layers of {ODD[1]}x{ODD[0]} compared with torch in fp32")
    return good


@torch.inference_mode()
def fault_of(
    bench: Bench, kind: Kind, config: TileConfig, run: LayerRun, dtype: torch.dtype
) -> str | None:
    """Return the fault of a kind of layer with a tile config, or None."""
    maps, residuals = kind.tensors(*ODD, bench.device, dtype)
    expected = in_single(kind.layer(bench.device, dtype))(
        [x.float() for x in maps], [x.float() for x in residuals]
    )
    result = run.empty(maps[0]).fill_(torch.nan)
    try:
        run.launch(config, maps, residuals, result)
        bench.wait()
    except Exception as error:  # compiler errors, or too little memory
        return f"failed: {error}"
    if agree(result, expected.to(dtype)):
        return None
    return f"differs by up to {(result.float() - expected).abs().max():.3g}"


def in_single(layer: Layer) -> LayerRun:
    """Return the layer computed by torch in fp32."""
    half = layer.convolution
    convolution = torch.nn.Conv2d(half.in_channels, half.out_channels, 3, padding=1)
    convolution.to(half.weight.device).load_state_dict(half.state_dict())
    slope = layer.slope.float() if isinstance(layer.slope, Tensor) else layer.slope
    return torch_layer(replace(layer, convolution=convolution, slope=slope))


def check_images(bench: Bench) -> bool:
    """Check that images with kernels are as close to fp32 as images with torch."""
    image, good = photograph(64, 48) if bench.small else photograph(500, 333), True
    for name, model in networks(bench):
        started = time.perf_counter()
        upscaler = bench.upscaler("auto", "auto", model=model)
        used = upscaler.kernels_name
        bench.wait()
        seconds = time.perf_counter() - started
        plain = bench.upscaler("auto", "auto", model=model, kernels=False)
        exact = bench.upscaler("fp32", "auto", model=model, kernels=False).upscale(image)
        mine, other = (np.abs(each.upscale(image).astype(int) - exact)
                       for each in (upscaler, plain))  # fmt: skip
        reason = upscaler._runner.selected(upscaler._dtype).reason
        print(
            f"convolutions of {name}: {used}{f' ({reason})' if reason else ''}, selected in "
            f"{seconds:.1f} s; within a level of fp32 on {(mine <= 1).mean():.4%} of values, "
            f"torch's on {(other <= 1).mean():.4%}"
        )
        good &= bool(mine.mean() <= 1.5 * other.mean() + 0.01)
    return good


def print_layers(bench: Bench, peak: PeakRates) -> None:
    """Print milliseconds of each kind of layer with torch and with each tile config."""
    autotuner = autotuner_of(bench)
    configs = () if autotuner is None else autotuner.configs
    dtype = torch.float16 if autotuner is not None or bench.is_cuda else torch.float32
    side = 16 if bench.small else 512
    names = [f"{config.pixels}x{config.channels}, {config.stages} stages" for config in configs]
    print(f"\nlayers on {side}x{side}, {precision_name(dtype)}: ms each; share of peak")
    print(
        f"| layer | torch | {''.join(f'{name} | ' for name in names)}torch, share | best, share |"
    )
    print(f"|---|---|{'---|' * (len(names) + 2)}")
    for kind in KINDS:
        if not bench.has_time(kind.name):
            continue
        times = list(layer_seconds(bench, kind, autotuner, configs, dtype, side))
        work = 18 * sum(kind.channels) * kind.outputs * (side * kind.upsample) ** 2
        shares = [work / each / peak.products[precision_name(dtype)]
                  for each in (times[0], min(times))]  # fmt: skip
        row = [f"{each * 1e3:.3f}" for each in times] + [f"{share:.1%}" for share in shares]
        print(f"| {kind.name} | {' | '.join(row)} |", flush=True)


@torch.inference_mode()
def layer_seconds(
    bench: Bench,
    kind: Kind,
    autotuner: Autotuner | None,
    configs: Sequence[TileConfig],
    dtype: torch.dtype,
    side: int,
) -> Iterator[float]:
    """Yield seconds of a kind of layer with torch and with each tile config; inf on failure."""
    layer = kind.layer(bench.device, dtype)
    maps, residuals = kind.tensors(side, side, bench.device, dtype)
    plain = torch_layer(layer)
    target = random_map(kind.outputs, *plain(maps, residuals).shape[2:], bench.device, dtype)
    seconds = kernel_seconds if bench.is_cuda else bench.seconds
    yield seconds(lambda: plain(maps, residuals, target))
    for config in configs:
        run = triton_layer(autotuner, layer)
        try:
            fits = config in autotuner.fitting_configs(run)
            work = partial(run.launch, config, maps, residuals, target)
            yield seconds(work) if fits else float("inf")
        except Exception:  # compiler errors, or too little memory
            yield float("inf")


def networks(bench: Bench) -> Iterator[tuple[str, Model]]:
    """Yield names and networks."""
    yield f"x4, 23 blocks, {bench.model.name}", bench.model
    yield "x2, 23 blocks, random weights", random_model(RRDBSpec(unshuffle=2))
    yield "x4, compact, random weights", random_model(SRVGGSpec())


def print_images(bench: Bench, peak: PeakRates) -> None:
    """Print seconds of an image with and without kernels, by tile."""
    width, height = (64, 48) if bench.small else (1920, 1080)
    precision = "fp16" if bench.is_cuda else "fp32"
    print(f"\nimages of {width}x{height}, {precision}, from array to array")
    print("| network | tile | convolutions | s | torch's s | ratio | share of peak |")
    print("|---|---|---|---|---|---|---|")
    image = photograph(width, height)
    for name, model in networks(bench):
        work = operations(model) * width * height
        for tile in ("auto", 512, 256, 0):
            if not bench.has_time(f"{name}, tile {tile}"):
                continue
            fast, plain = (
                bench.upscaler(precision, tile, model=model, kernels=each) for each in (True, False)
            )
            mine, other = (bench.seconds(lambda one=one: one.upscale(image))
                           for one in (fast, plain))  # fmt: skip
            print(
                f"| {name} | {tile} | {fast.kernels_name} | {mine:.3f} | {other:.3f} "
                f"| {other / mine:.2f} | {work / mine / peak.products[precision]:.1%} |",
                flush=True,
            )
