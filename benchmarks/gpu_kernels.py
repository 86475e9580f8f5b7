"""The part of `benchmarks.gpu` about convolutions: each candidate compared with torch."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_bench import ROOT, Bench
from benchmarks.rows import NotRunError, Values, WrongError
from upscale.engine.device import PRECISIONS
from upscale.kernels import KernelMissingError, triton_conv
from upscale.kernels.autotune import agree, kernel_seconds
from upscale.kernels.tile_configs import Card
from upscale.kernels.triton_conv import Kernels, KernelUse, triton_layer
from upscale.models.layers import Layer, LayerRun, torch_layer

ODD = (37, 123)
"""Rows and columns that are not multiples of a block."""

EVEN = (16, 16)
"""Rows and columns for which Triton compiles the same code as for large images."""

Launch = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor], object]
"""Function that computes a layer of maps and residuals into a target."""


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

    def arguments(
        self, rows: int, columns: int, device: str, dtype: torch.dtype
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Return random maps and residuals, and a target for the result."""
        edge = 2 * self.padding - 2
        size = rows * self.upsample + edge, columns * self.upsample + edge
        maps = [random_map(each, rows, columns, device, dtype) for each in self.channels]
        residuals = [random_map(self.outputs, *size, device, dtype)] * self.residuals
        return maps, residuals, random_map(self.outputs, *size, device, dtype)


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


def candidates(kind: Kind, dtype: torch.dtype, device: str) -> dict[str, Launch]:
    """Return what the autotuner chooses from for a kind of layer, by name.

    Raises:
        NotRunError: There are no kernels for this device.
    """
    try:
        card = triton_conv.card_of(torch.device(device), dtype)
        kernels = triton_conv.load_kernels()
    except (KernelMissingError, AssertionError, RuntimeError) as error:
        raise NotRunError(f"no kernels: {error}") from error
    return _launches(kind, dtype, device, card, kernels)


def _launches(
    kind: Kind, dtype: torch.dtype, device: str, card: Card, kernels: Kernels
) -> dict[str, Launch]:
    run: Any = triton_layer(KernelUse(kernels), kind.layer(device, dtype))
    maps, residuals, _ = kind.arguments(*EVEN, device, dtype)
    return {
        f"{each.rows} x {each.pixels} pixels, {each.channels} channels, {each.stages} stages": (
            partial(run.launch, each)
        )
        for each in card.configs(run.shape(maps, residuals))
    }


def compile_kernels(bench: Bench) -> Values:
    """Compile all kernels that later rows need, in parallel; Triton keeps them on disk."""
    bench.need_cuda()
    jobs = [(kind, name, bench.device) for name in ("fp16", "bf16") for kind in KINDS]
    started = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(len(jobs), os.cpu_count() or 1), context) as pool:
        results = [result for each in pool.map(_compile, jobs) for result in each]
    faults = [fault for fault in results if fault]
    values: Values = {"kernels": len(results), "s": time.perf_counter() - started}
    if faults:
        raise WrongError(f"{len(faults)} failed: {'; '.join(faults)}"[:2000], values)
    return values


class _CompileOnly:
    """A Triton function that is compiled for its arguments and not launched."""

    def __init__(self, function: Any) -> None:  # noqa: ANN401
        self._function = function

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., object]:
        return partial(self._function.warmup, grid=grid)


def _compile(job: tuple[Kind, str, str]) -> list[str]:
    """Compile the kernels of a kind of layer; return a text for each, empty without a fault."""
    kind, precision, device = job
    dtype, results = PRECISIONS[precision], list[str]()
    card, kernels = triton_conv.card_of(torch.device(device), dtype), triton_conv.load_kernels()
    functions = {each.name: _CompileOnly(getattr(kernels, each.name)) for each in fields(kernels)}
    kernels = replace(kernels, **functions)
    for name, launch in _launches(kind, dtype, device, card, kernels).items():
        fault = ""
        for size in (ODD, EVEN):
            try:
                launch(*kind.arguments(*size, device, dtype))
            except Exception as error:
                fault = f"{kind.name}, {precision}, {name}: {type(error).__name__}: {error}"
        results.append(" ".join(fault.split()))
    return results


@torch.inference_mode()
def check_layer(bench: Bench, kind: Kind) -> Values:
    """Check each candidate for a kind of layer against torch in fp32."""
    values: Values = {}
    for precision in ("fp16", "bf16"):
        dtype = PRECISIONS[precision]
        for name, launch in candidates(kind, dtype, bench.device).items():
            fault = _fault_of(bench, kind, launch, dtype)
            values[f"{precision}, {name}"] = fault or "right"
    faults = [f"{name}: {fault}" for name, fault in values.items() if fault != "right"]
    if faults:
        raise WrongError("; ".join(faults)[:2000], values)
    return values


def _fault_of(bench: Bench, kind: Kind, launch: Launch, dtype: torch.dtype) -> str | None:
    """Return the fault of a candidate, or None."""
    maps, residuals, target = kind.arguments(*ODD, bench.device, dtype)
    expected = _in_single(kind.layer(bench.device, dtype))(
        [x.float() for x in maps], [x.float() for x in residuals]
    )
    target.fill_(torch.nan)
    try:
        launch(maps, residuals, target)
        bench.wait()
    except Exception as error:  # compiler errors, or too little memory
        return " ".join(f"failed: {error}".split())
    if agree(target, expected.to(dtype)):
        return None
    return f"differs by up to {(target.float() - expected).abs().max():.3g}"


def _in_single(layer: Layer) -> LayerRun:
    """Return the layer computed by torch in fp32."""
    half = layer.convolution
    convolution = torch.nn.Conv2d(half.in_channels, half.out_channels, 3, padding=1)
    convolution.to(half.weight.device).load_state_dict(half.state_dict())
    slope = layer.slope.float() if isinstance(layer.slope, Tensor) else layer.slope
    return torch_layer(replace(layer, convolution=convolution, slope=slope))


@torch.inference_mode()
def time_layer(bench: Bench, kind: Kind) -> Values:
    """Time a kind of layer with torch and with each candidate, in milliseconds."""
    side, dtype = 16 if bench.small else 512, PRECISIONS[bench.half]
    maps, residuals, target = kind.arguments(side, side, bench.device, dtype)
    launches: dict[str, Launch] = {"torch": torch_layer(kind.layer(bench.device, dtype))}
    if bench.is_cuda:
        launches |= candidates(kind, dtype, bench.device)
    seconds = kernel_seconds if bench.is_cuda else bench.seconds
    times: Values = {}
    for name, launch in launches.items():
        try:
            times[name] = seconds(partial(launch, maps, residuals, target)) * 1e3
        except Exception as error:  # compiler errors, or too little memory
            times[name] = f"failed: {type(error).__name__}"
    work = 18 * sum(kind.channels) * kind.outputs * (side * kind.upsample) ** 2
    best = min(each for each in times.values() if isinstance(each, float))
    peak = bench.peak_rates.products[bench.half]
    return {**times, "best, TFLOP/s": work / best / 1e9, "best, share": work / best * 1e3 / peak}


def sanitize_layers(bench: Bench) -> Values:
    """Check the memory accesses of each kind of layer with compute-sanitizer."""
    bench.need_cuda()
    if shutil.which("compute-sanitizer") is None:
        raise NotRunError("compute-sanitizer is not installed")
    with ThreadPoolExecutor(8) as pool:
        results = pool.map(partial(_sanitize, bench.device), KINDS)
        values: Values = {kind.name: text for kind, text in zip(KINDS, results, strict=True)}
    faults = [name for name, text in values.items() if text != "right"]
    if faults:
        raise WrongError(f"faults in {', '.join(faults)}", values)
    return values


def _sanitize(device: str, kind: Kind) -> str:
    """Return `right`, or the first error of compute-sanitizer, for a kind of layer."""
    tool = ["compute-sanitizer", "--error-exitcode", "9", "--print-limit", "1"]
    program = [sys.executable, "-m", "benchmarks.gpu", "--device", device, "--layer", kind.name]
    process = subprocess.run(
        [*tool, *program],
        cwd=ROOT,
        env={**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode == 0:
        return "right"
    lines = [line for line in process.stdout.splitlines() if line.startswith("=========")]
    return " ".join([*lines[1:4], *process.stderr.splitlines()[-1:]])[:300]
