"""The part of `benchmarks.gpu` about videos: from the planes of a frame to upscaled planes.

Frames are generated, so that neither the decoder nor the encoder is measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.gpu_bench import MEBIBYTE, MISSING, MODEL, Bench, photograph, random_model
from upscale.engine.loading import Model
from upscale.engine.transfer import Transfer
from upscale.engine.upscaler import Upscaler
from upscale.engine.yuv import Layout, clipped_part, from_rgb, restore_clipped, to_planes, to_rgb
from upscale.jobs import video_frames as module
from upscale.jobs.pipeline import WriteBehind, read_ahead
from upscale.jobs.video_frames import FrameUpscaler
from upscale.jobs.video_segments import FRAMES_AHEAD, FRAMES_BEHIND
from upscale.models import RRDBSpec, SRVGGSpec
from upscale.video.encoders import Encoder
from upscale.video.info import Colour, FrameFormat, VideoFrame
from upscale.video.planes import plane_format

COLOUR = Colour("bt709", full_range=False, primaries=1, transfer=1, space=1)
LAYOUT = Layout(8, 1, 1, "yuv", "bt709", full_range=False)
FORMAT = "yuv420p"

AHEAD = BEHIND = 3
"""Frames read ahead and written behind, as in `upscale.jobs.video_segments`."""


def format_of(width: int, height: int) -> FrameFormat:
    """Return an 8-bit frame format."""
    return FrameFormat(width, height, plane_format(FORMAT), COLOUR)


def encoder_of(width: int, height: int, codec: str = "x264", name: str = "libx264") -> Encoder:
    """Return an 8-bit encoder."""
    options = (("crf", "17"), ("preset", "medium"), ("threads", "8")) if codec == "x264" else ()
    return Encoder(
        codec=codec, ffmpeg_name=name, container="matroska", frame_format=format_of(width, height),
        pixel_format=FORMAT, options=options, tag=None, time_base=Fraction(1, 25),
        rate=Fraction(25), sample_aspect=None,
    )  # fmt: skip


def moving_frames(width: int, height: int, count: int = 4) -> list[VideoFrame]:
    """Return frames of a moving photograph."""
    image = photograph(width, height)
    shifted = (np.roll(image, 16 * number, axis=1) for number in range(count))
    rgb = (torch.from_numpy(one.astype(np.float32) / 255).permute(2, 0, 1)[None] for one in shifted)
    return [VideoFrame(number, tuple(from_rgb(one, LAYOUT))) for number, one in enumerate(rgb)]


def upscaler_of(upscaler: Upscaler, frame: VideoFrame, scale: int) -> FrameUpscaler:
    """Return the upscaler of frames of this size."""
    height, width = frame.planes[0].shape
    return FrameUpscaler(
        format_of(width, height), format_of(width * scale, height * scale), upscaler
    )


def colours_on_host() -> object:
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


# Checks


def check_colour_devices(bench: Bench) -> bool:
    """Check that colours converted on the device equal those converted on the host."""
    frames, good = moving_frames(*((64, 48) if bench.small else (400, 300))), True
    for precision in ("fp32", "fp16") if bench.is_cuda else ("fp32",):
        upscaler, results = bench.upscaler(precision, "auto"), [[], []]
        path_seconds(upscaler_of(upscaler, frames[0], 4), frames, 4, results[0])
        with colours_on_host():
            path_seconds(upscaler_of(upscaler, frames[0], 4), frames, 4, results[1])
        levels = np.concatenate([
            np.abs(one.astype(int) - other).ravel()
            for here, there in zip(*results, strict=True)
            for one, other in zip(here.planes, there.planes, strict=True)
        ])  # fmt: skip
        print(
            f"frames, {precision}: colours on the device and on the host differ on "
            f"{(levels > 0).mean():.4%} of codes, by {levels.max()} at most"
        )
        good &= bool(levels.max() <= 1 and (levels > 0).mean() < 0.01)
    return good


def check_frames_out_of_memory(bench: Bench) -> bool:
    """Check that colours move to the host under a memory limit, with the same frames."""
    if not bench.is_cuda:
        print("frames out of memory: not run (needs CUDA)")
        return True
    frames, upscaler = moving_frames(1920, 1080, 1), bench.upscaler("fp16", 128)
    upscaler = upscaler_of(upscaler, frames[0], 4)
    [free] = [upscaler.upscale(upscaler.load(frames[0])).frame()]
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 900 * MEBIBYTE / total))
    try:
        upscaler = upscaler_of(upscaler, frames[0], 4)
        capped = upscaler.upscale(upscaler.load(frames[0])).frame()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    levels = max(
        np.abs(one.astype(int) - other).max()
        for one, other in zip(free.planes, capped.planes, strict=True)
    )
    device = upscaler._colour_device
    print(f"frames out of memory: colours on {device}, at most {levels} codes apart")
    return device.type == "cpu" and levels <= 1


# Tables


def networks(bench: Bench) -> Iterator[tuple[str, Model, int]]:
    """Yield names, networks and scales."""
    yield "x2, 23 blocks, random weights", random_model(RRDBSpec(unshuffle=2)), 2
    yield f"x4, 23 blocks, {bench.model.name}", bench.model, 4
    compact = random_model(SRVGGSpec())
    yield "x4, compact, random weights", compact, 4
    yield "x4, then to x2, compact, random weights", compact, 2


def print_frames(bench: Bench) -> None:
    """Print frames per second of the network alone, the whole path, and colours on the host."""
    width, height = (64, 48) if bench.small else (1920, 1080)
    frames = moving_frames(width, height)
    print(f"\nframes of {width}x{height}, 8 bits, 4:2:0; without decoder and encoder")
    print("| network | network alone | the path | network busy | colours on the host |", end="")
    print(" upload | colours in | network, final resize | colours out | download |")
    print(f"|---{'|---' * 9}|")
    for name, model, scale in networks(bench):
        if not bench.has_time(name):
            continue
        upscaler = Upscaler(model, device=bench.device)
        alone, path, host = in_turn(bench, upscaler, frames, scale)
        busy = statistics.median(one / other for one, other in zip(alone, path, strict=True))
        rates = [f"{1 / statistics.median(times):.2f} fps" for times in (alone, path, host)]
        steps = step_seconds(bench, upscaler, frames[0], scale)
        print(
            f"| {name} | {rates[0]} | {rates[1]} | {busy:.1%} | {rates[2]} "
            f"| {' | '.join(f'{seconds * 1e3:.2f} ms' for seconds in steps)} |",
            flush=True,
        )


def in_turn(
    bench: Bench, upscaler: Upscaler, frames: list[VideoFrame], scale: int
) -> tuple[list[float], list[float], list[float]]:
    """Return seconds per frame of the network, the path, and the path with colours on the host.

    Each is timed for about two seconds.
    """
    times: tuple[list[float], list[float], list[float]] = ([], [], [])
    count = int(2 / network_seconds(bench, upscaler, frames[0], scale, 1))
    count = 3 if bench.small else min(max(count, 3), 60)
    for _ in range(bench.rounds):
        times[0].append(network_seconds(bench, upscaler, frames[0], scale, count))
        times[1].append(path_seconds(upscaler_of(upscaler, frames[0], scale), frames, count))
        with colours_on_host():
            times[2].append(path_seconds(upscaler_of(upscaler, frames[0], scale), frames, count))
    return times


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


def step_seconds(bench: Bench, upscaler: Upscaler, frame: VideoFrame, scale: int) -> list[float]:
    """Return seconds of upload, colours in, network, colours out and download, one by one."""
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
    return [statistics.median(column) for column in zip(*times[1:], strict=True)]


def print_devices(bench: Bench) -> None:
    """Print frames per second of all devices together and of one."""
    count = torch.cuda.device_count() if bench.is_cuda else 1
    if count < 2:
        print("\nseveral devices: not run (there is one)")
        return
    if not bench.has_time("several devices"):
        return
    frames = moving_frames(1920, 1080)
    upscalers = [Upscaler(bench.model, device=f"cuda:{number}") for number in range(count)]
    frame_upscalers = [upscaler_of(each, frames[0], 4) for each in upscalers]
    one = path_seconds(frame_upscalers[0], frames, 8)
    threads = [Thread(target=path_seconds, args=(each, frames, 8)) for each in frame_upscalers]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = (time.perf_counter() - started) / (10 * count)  # two of ten warm up
    print(f"\n{count} devices: {1 / together:.2f} frames a second, one {1 / one:.2f}, {MODEL}")


def print_encoders(bench: Bench) -> None:
    """Print frames per second of the encoders of this machine."""
    if "av" in MISSING:
        print("encoders: not run (PyAV is not installed)")
        return
    from upscale.video.segment_writer import SegmentWriter

    width, height = (256, 192) if bench.small else (3840, 2160)
    frames = moving_frames(width, height, 8)
    for codec, name in (("x264", "libx264"), ("h264_nvenc", "h264_nvenc")):
        if not bench.has_time(codec):
            continue
        encoder = encoder_of(width, height, codec, name)
        with TemporaryDirectory() as folder:
            try:
                started = time.perf_counter()
                with SegmentWriter(Path(folder, "video"), encoder) as writer:
                    for number, frame in enumerate(islice(cycle(frames), 64)):
                        writer.write(VideoFrame(number, frame.planes))
                rate = 64 / (time.perf_counter() - started)
                print(f"{codec}, {width}x{height}: {rate:.1f} frames a second")
            except Exception as error:  # any failure: this machine has no such encoder
                print(f"{codec}: not run ({error})")
