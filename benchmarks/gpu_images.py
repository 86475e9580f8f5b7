"""The part of `benchmarks.gpu` about images: correctness, the official loop, memory, and rates."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.gpu_bench import MEBIBYTE, Bench, levels
from benchmarks.official import enhance, official_network
from benchmarks.rows import NotRunError, Values, WrongError
from upscale.engine import memory
from upscale.engine.upscaler import Upscaler
from upscale.jobs.benchmark import operations


def check_network(bench: Bench, name: str) -> Values:
    """Check half precision, kernels and tiles of a bundled network against torch in fp32."""
    model, image = bench.trained[name], bench.image(640, 480)
    exact = bench.upscaler(model, "fp32", 0, kernels=False).upscale(image)
    values: Values = {}
    for precision in ("fp32", "fp16", "bf16") if bench.is_cuda else ("fp32",):
        for kernels in (False, True):
            upscaler = bench.upscaler(model, precision, 96, kernels=kernels)
            result = upscaler.run(image)
            apart = levels(result.pixels, exact)
            title = f"{precision}, {'kernels' if kernels else 'torch'}"
            values[f"{title}, % within 1"] = float((apart <= 1).mean() * 100)
            values[f"{title}, max"] = int(apart.max())
            if kernels:
                values[f"{precision}, kernels are"] = upscaler.kernels_name
            if result.report.fp32_fallbacks:
                raise WrongError(f"{title}: {result.report.fp32_fallbacks} fp32 fallbacks", values)
            if precision != "bf16" and (apart <= 1).mean() < 0.999:
                raise WrongError(f"{title}: too far from fp32", values)
    return values


def check_devices_agree(bench: Bench, name: str) -> Values:
    """Check that the GPU and the CPU compute the same image in fp32."""
    model, image = bench.trained[name], bench.image(96, 64)
    here = bench.upscaler(model, "fp32", 0).upscale(image)
    there = Upscaler(model, device="cpu", precision="fp32", tile=0).upscale(image)
    return _checked({"max": int(levels(here, there).max())}, at_most=1)


def check_out_of_memory(bench: Bench) -> Values:
    """Check that a tile is halved under a limit between the memory of a large and a small one."""
    bench.need_cuda()
    model, image = bench.networks["x4"], bench.image(1024, 768)
    peaks = {
        tile: bench.peak(partial(bench.upscaler(model, "fp16", tile).upscale, image))
        for tile in (1024, 128)
    }
    if peaks[1024] < 1.2 * peaks[128]:
        raise NotRunError(f"tiles of 1024 and 128 need {peaks[1024]:.0f} and {peaks[128]:.0f} MiB")
    free = bench.upscaler(model, "fp16", 128).upscale(image)
    cap = (peaks[1024] + peaks[128]) / 2
    with bench.capped(cap):
        result = bench.upscaler(model, "fp16", 1024).run(image)
    values = {
        "MiB, tile 1024": peaks[1024],
        "MiB, tile 128": peaks[128],
        "MiB, limit": cap,
        "halvings": result.report.halvings,
        "tile": result.report.tile,
        "feature maps": result.report.placement,
        "max": int(levels(result.pixels, free).max()),
    }
    if not result.report.halvings:
        raise WrongError("the tile was not halved", values)
    return _checked(values, at_most=1)


def check_offloading(bench: Bench) -> Values:
    """Check that feature maps in host memory give the same image."""
    model, image = bench.trained["upscale-x1"], bench.image(400, 304)
    expected = bench.upscaler(model, "fp32", 64).upscale(image)
    real = memory.available_memory

    def available(device: torch.device) -> int:
        return 0 if device.type != "cpu" else real(device)

    with patch.object(memory, "available_memory", available):
        result = bench.upscaler(model, "fp32", 64).run(image)
    apart = int(levels(result.pixels, expected).max())
    return _checked({"feature maps": result.report.placement, "max": apart}, at_most=1)


def _checked(values: Values, *, at_most: int) -> Values:
    if values["max"] > at_most:
        raise WrongError(f"results differ by {values['max']} levels", values)
    return values


def compare_with_official(
    bench: Bench, name: str, size: tuple[int, int], tile: int, own_tile: int | str = "auto"
) -> Values:
    """Time an image with our engine and with the official loop, from array to array."""
    model, image = bench.networks[name], bench.image(*size)
    upscaler = bench.upscaler(model, bench.half, own_tile)
    dtype = torch.float16 if bench.is_cuda else torch.float32
    official = official_network(model, bench.device, dtype)
    works: dict[str, Callable[[], np.ndarray]] = {
        "ours": partial(upscaler.upscale, image),
        "official": partial(enhance, official, image, model.scale, tile),
    }
    times = {title: bench.seconds(work) for title, work in works.items()}
    values: Values = {f"{title}, s": seconds for title, seconds in times.items()}
    values["official / ours"] = times["official"] / times["ours"]
    values |= {f"{title}, MiB": bench.peak(work) for title, work in works.items()}
    work = operations(model) * image.shape[0] * image.shape[1]
    values["ours, TFLOP/s"] = work / times["ours"] / 1e12
    return {**values, "convolutions": upscaler.kernels_name}


def time_tile(bench: Bench, name: str, size: tuple[int, int], tile: int) -> Values:
    """Time an image with a tile."""
    upscaler, image = bench.upscaler(bench.networks[name], bench.half, tile), bench.image(*size)
    work = partial(upscaler.upscale, image)
    return {"s": bench.seconds(work), "MiB": bench.peak(work)}


def time_enqueueing(bench: Bench, name: str, *, recorded: bool) -> Values:
    """Time a frame on the device, and the part of it in which the host queues its kernels.

    Args:
        bench: Settings.
        name: Name of the network.
        recorded: Whether frames are replayed from a CUDA graph.
    """
    if recorded:
        bench.need_cuda()
    image = torch.from_numpy(bench.image(1920, 1080).copy()).permute(2, 0, 1)[None].float() / 255
    image, upscaler = image.to(bench.device), bench.upscaler(bench.networks[name], bench.half)
    upscaler._graphs._can_record &= recorded
    work = partial(upscaler.run_tensor, image)
    work()  # autotunes; the next frame is recorded
    seconds = bench.seconds(work)
    started = time.perf_counter()
    work()
    values: Values = {"whole, ms": seconds * 1e3}
    values["queueing, ms"] = (time.perf_counter() - started) * 1e3
    bench.wait()
    if recorded and not any(upscaler._graphs._shapes.values()):
        raise WrongError("the frame was not recorded", values)
    return values


def time_official_replay(bench: Bench, name: str) -> Values:
    """Time a frame of the official network, channels-last: queued, and replayed from a graph."""
    bench.need_cuda()
    network = official_network(bench.networks[name], bench.device, torch.float16)
    network = network.to(memory_format=torch.channels_last)
    image = torch.rand(1, 3, 1080, 1920, device=bench.device, dtype=torch.float16)
    image = image.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        queued = bench.seconds(lambda: network(image))
        return {"whole, ms": queued * 1e3, "replay, ms": _replay_ms(bench, lambda: network(image))}


def _replay_ms(bench: Bench, work: Callable[[], object], times: int = 1) -> float:
    """Return milliseconds of a piece of work, repeated in a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()  # libraries allocate their workspace
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        for _ in range(times):
            work()
    return bench.seconds(graph.replay) * 1e3 / times


def profile(bench: Bench, name: str) -> Values:
    """Return the milliseconds of the kernels that take the most time in a frame."""
    upscaler, image = bench.upscaler(bench.networks[name], bench.half), bench.image(1920, 1080)
    upscaler.upscale(image)
    kind = torch.profiler.ProfilerActivity.CUDA if bench.is_cuda else None
    kinds = [kind or torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=kinds) as profiler:
        upscaler.upscale(image)
        bench.wait()
    field = "self_device_time_total" if bench.is_cuda else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda each: -getattr(each, field))
    total = sum(getattr(each, field) for each in events)
    slowest = [
        f"{each.key[:60]} x{each.count}: {getattr(each, field) / 1e3:.2f}" for each in events[:12]
    ]
    return {"all kernels, ms": total / 1e3, "slowest, ms each kind": "; ".join(slowest)}


def measure_rates(bench: Bench) -> Values:
    """Return the rates of large matrix products and of device memory."""
    peak = bench.peak_rates
    products = {f"{name}, TFLOP/s": rate / 1e12 for name, rate in peak.products.items()}
    return {**products, "copies, GB/s": peak.copied / 1e9}


def measure_cache(bench: Bench) -> Values:
    """Return the bandwidth of copies within the L2 cache, a lower bound of the cache's own."""
    bench.need_cuda()
    values: Values = {}
    for mebibytes in (4, 8, 16):
        source = torch.ones(mebibytes * MEBIBYTE, dtype=torch.uint8, device=bench.device)
        target = torch.empty_like(source)
        seconds = _replay_ms(bench, lambda a=source, b=target: b.copy_(a), times=100) / 1e3
        values[f"{mebibytes} MiB, GB/s"] = 2 * mebibytes * MEBIBYTE / seconds / 1e9
        read = source.view(torch.float32).expand(32, -1)
        seconds = _replay_ms(bench, lambda a=read: a.sum(1), times=10) / 1e3
        values[f"{mebibytes} MiB, reads, GB/s"] = 32 * mebibytes * MEBIBYTE / seconds / 1e9
    return values


def measure_narrow_product(bench: Bench, outputs: int) -> Values:
    """Return the rate of a product as narrow as a convolution: pixels x taps x outputs."""
    rows = 1 << (12 if bench.small else 20)
    dtype = torch.float16 if bench.is_cuda else torch.float32
    values: Values = {}
    for inputs in (64, 192):
        left = torch.rand(rows, 9 * inputs, device=bench.device).to(dtype)
        right = torch.rand(9 * inputs, outputs, device=bench.device).to(dtype)
        seconds = bench.seconds(lambda a=left, b=right: a @ b)
        rate = 2 * rows * 9 * inputs * outputs / seconds
        values[f"{inputs} inputs, TFLOP/s"] = rate / 1e12
    return values
