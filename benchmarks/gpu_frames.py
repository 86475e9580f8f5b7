"""The part of `benchmarks.gpu` about videos: from the planes of a frame to upscaled planes.

Frames are generated, so that neither the decoder nor the encoder is measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import cycle, islice
from threading import Thread
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.gpu_bench import Bench
from benchmarks.rows import NotRunError, Values, WrongError
from upscale.engine.transfer import Transfer
from upscale.engine.upscaler import Upscaler
from upscale.engine.yuv import Layout, clipped_part, from_rgb, restore_clipped, to_planes, to_rgb
from upscale.jobs import video_frames as module
from upscale.jobs.pipeline import WriteBehind, read_ahead
from upscale.jobs.video_frames import FrameUpscaler
from upscale.jobs.video_segments import FRAMES_AHEAD, FRAMES_BEHIND
from upscale.video.info import Colour, FrameFormat, VideoFrame
from upscale.video.planes import plane_format

COLOUR = Colour("bt709", full_range=False, primaries=1, transfer=1, space=1)
LAYOUT = Layout(8, 1, 1, "yuv", "bt709", full_range=False)
FORMAT = "yuv420p"
SECONDS = 2
"""Time for which each rate is measured."""


def format_of(width: int, height: int) -> FrameFormat:
    """Return an 8-bit frame format."""
    return FrameFormat(width, height, plane_format(FORMAT), COLOUR)


def moving_frames(bench: Bench, width: int, height: int, count: int = 4) -> list[VideoFrame]:
    """Return frames of a moving photograph."""
    image = bench.image(width, height)
    shifted = (np.roll(image, 16 * number, axis=1) for number in range(count))
    rgb = (torch.from_numpy(one.astype(np.float32) / 255).permute(2, 0, 1)[None] for one in shifted)
    return [VideoFrame(number, tuple(from_rgb(one, LAYOUT))) for number, one in enumerate(rgb)]


def upscaler_of(upscaler: Upscaler, frame: VideoFrame, scale: int) -> FrameUpscaler:
    """Return the upscaler of frames of this size."""
    height, width = frame.planes[0].shape
    return FrameUpscaler(
        format_of(width, height), format_of(width * scale, height * scale), upscaler
    )


def colours_on_host() -> AbstractContextManager[object]:
    """Return a context in which colours are converted on the host and transferred in fp32."""
    return patch.object(module, "_colour_device", lambda _: torch.device("cpu"))


def path_seconds(
    upscaler: FrameUpscaler, frames: list[VideoFrame], count: int, results: list | None = None
) -> float:
    """Return seconds per frame of the whole path, with its threads, after a warm-up."""

    def take(frame: module.UpscaledFrame) -> None:
        result = frame.frame()
        if results is not None:
            results.append(result)

    def run(number: int) -> None:
        loaded = map(upscaler.load, islice(cycle(frames), number))
        with read_ahead(loaded, FRAMES_AHEAD) as ahead, WriteBehind(take, FRAMES_BEHIND) as writer:
            for frame in ahead:
                writer.put(upscaler.upscale(frame))

    run(2)
    if results is not None:
        results.clear()
    started = time.perf_counter()
    run(count)
    return (time.perf_counter() - started) / count


def check_colours(bench: Bench) -> Values:
    """Check that colours converted on the device equal those converted on the host."""
    model, frames = bench.trained["upscale-x4-fast"], moving_frames(bench, 640, 480)
    upscaler, results = bench.upscaler(model, bench.half), [[], []]
    path_seconds(upscaler_of(upscaler, frames[0], 4), frames, 4, results[0])
    with colours_on_host():
        path_seconds(upscaler_of(upscaler, frames[0], 4), frames, 4, results[1])
    codes = np.concatenate([
        apart.ravel() for pair in zip(*results, strict=True) for apart in codes_apart(*pair)
    ])  # fmt: skip
    values = {"% of codes": float((codes > 0).mean() * 100), "max": int(codes.max())}
    if values["max"] > 1 or values["% of codes"] > 1:
        raise WrongError("colours differ", values)
    return values


def codes_apart(left: VideoFrame, right: VideoFrame) -> list[np.ndarray]:
    """Return the absolute differences of the planes of two frames."""
    pairs = zip(left.planes, right.planes, strict=True)
    return [np.abs(one.astype(int) - other) for one, other in pairs]


def check_frames_out_of_memory(bench: Bench) -> Values:
    """Check that colours move to the host under a limit below the measured peak."""
    bench.need_cuda()
    [frame] = moving_frames(bench, 1920, 1080, 1)
    model = bench.networks["x4"]
    upscaler = bench.upscaler(model, "fp16", 128)
    frames: list[VideoFrame] = []

    def compute() -> FrameUpscaler:
        own = upscaler_of(upscaler, frame, 4)
        frames.append(own.upscale(own.load(frame)).frame())
        return own

    on_device = bench.peak(compute)
    with colours_on_host():
        on_host = bench.peak(compute)
    if on_device < 1.1 * on_host:
        raise NotRunError(f"both need {on_device:.0f} MiB")
    with bench.capped((on_device + on_host) / 2):
        place = compute()._colour_device.type
    values = {
        "MiB, colours on the device": on_device,
        "MiB, on the host": on_host,
        "colours under a limit on": place,
        "max": max(int(apart.max()) for apart in codes_apart(frames[0], frames[-1])),
    }
    if place != "cpu" or values["max"] > 1:
        raise WrongError("colours stayed on the device, or frames differ", values)
    return values


def time_frames(bench: Bench, name: str, scale: int) -> Values:
    """Return frames a second of the network alone, the whole path, and with colours on the host.

    The three are timed in turn, so that all see the same load.
    """
    frames = moving_frames(bench, 1920, 1080)
    upscaler = Upscaler(bench.networks[name], device=bench.device)
    count = int(SECONDS / network_seconds(bench, upscaler, frames[0], scale, 1))
    count = 1 if bench.small else min(max(count, 3), 60)
    times: dict[str, list[float]] = {"network": [], "path": [], "colours on the host": []}
    for _ in range(bench.rounds):
        times["network"].append(network_seconds(bench, upscaler, frames[0], scale, count))
        times["path"].append(path_seconds(upscaler_of(upscaler, frames[0], scale), frames, count))
        with colours_on_host():
            seconds = path_seconds(upscaler_of(upscaler, frames[0], scale), frames, count)
        times["colours on the host"].append(seconds)
    values: Values = {f"{title}, fps": 1 / statistics.median(each) for title, each in times.items()}
    steps = step_seconds(bench, upscaler, frames[0], scale)
    values |= {f"{title}, ms": seconds * 1e3 for title, seconds in steps.items()}
    return {**values, "convolutions": upscaler.kernels_name}


def network_seconds(
    bench: Bench, upscaler: Upscaler, frame: VideoFrame, scale: int, count: int
) -> float:
    """Return seconds per frame of the network on an image on the device."""
    height, width = frame.planes[0].shape
    rgb = to_rgb(frame.planes, LAYOUT, bench.device).clamp(0, 1)

    def run(number: int) -> None:
        for _ in range(number):
            upscaler.run_tensor(rgb, size=(width * scale, height * scale))
        bench.wait()

    run(2)
    started = time.perf_counter()
    run(count)
    return (time.perf_counter() - started) / count


def step_seconds(
    bench: Bench, upscaler: Upscaler, frame: VideoFrame, scale: int
) -> dict[str, float]:
    """Return the seconds of each step of a frame, one after the other."""
    height, width = frame.planes[0].shape
    size, transfer = (width * scale, height * scale), Transfer(upscaler.device)
    times: list[list[float]] = []

    def timed(work: Callable) -> object:
        bench.wait()
        started = time.perf_counter()
        result = work()
        bench.wait()
        times[-1].append(time.perf_counter() - started)
        return result

    with torch.inference_mode():
        for _ in range(2 if bench.small else 5):
            times.append([])
            planes = timed(lambda: transfer.upload(frame.planes).planes())
            rgb = timed(lambda planes=planes: to_rgb(planes, LAYOUT, bench.device))
            rest = clipped_part(rgb)
            seen = rgb.clamp(0, 1)
            large = timed(lambda seen=seen: upscaler.run_tensor(seen, size=size))
            out = timed(
                lambda large=large, rest=rest: to_planes(restore_clipped(large, rest), LAYOUT)
            )
            timed(lambda out=out: transfer.download(out).arrays())
    titles = ("upload", "colours in", "network and resize", "colours out", "download")
    medians = [statistics.median(column) for column in zip(*times[1:], strict=True)]
    return dict(zip(titles, medians, strict=True))


def time_devices(bench: Bench) -> Values:
    """Return frames a second of all GPUs together and of one."""
    count = torch.cuda.device_count() if bench.is_cuda else 1
    if count < 2:
        raise NotRunError("there is one device")
    frames, model = moving_frames(bench, 1920, 1080), bench.networks["x4"]
    upscalers = [
        upscaler_of(Upscaler(model, device=f"cuda:{number}"), frames[0], 4)
        for number in range(count)
    ]
    one = path_seconds(upscalers[0], frames, 8)
    threads = [Thread(target=path_seconds, args=(each, frames, 8)) for each in upscalers]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = (time.perf_counter() - started) / (10 * count)  # two of ten warm up
    return {"devices": count, "together, fps": 1 / together, "one, fps": 1 / one}
