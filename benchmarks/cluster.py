"""Throughput and overhead of workers of a Ray cluster on this machine.

    python -m benchmarks.cluster                       # needs upscale[ray]
    python -m benchmarks.cluster --images 24 --rounds 5

The first table compares one process that has all cores with workers that have one core each. The
second shows what an image and a segment of a video cost beside the network, with a stand-in that
repeats pixels. The first images, which load libraries, do not count. Each round measures all
contenders.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from benchmarks.batch import Repeater, make_images
from upscale.jobs import Event, Finished, ModelInfo, find_model_info, make_plan, run_batch, run_jobs
from upscale.jobs.cluster import RayExecutor
from upscale.jobs.cluster_video import ClusterVideo
from upscale.jobs.networks import make_networks
from upscale.jobs.video import VideoSettings, plan_video, run_video_on
from upscale.jobs.video_devices import LocalVideo
from upscale.options import EngineOptions, Options, OutputOptions
from upscale.video import segments
from upscale.video.encoders import VideoEncoding
from upscale.video.segments import split_into_segments

NETWORK = "realesr-animevideov3"
WIDTH, HEIGHT = 192, 128
SMALL_IMAGES = 200
FRAMES, SEGMENT_FRAMES = 120, 6
STORE_BYTES = 100 << 20
WARM_UP = 2
ROOT = Path(__file__).parents[1]

Place = tuple[str, int]
"""Address of a cluster, and the number of workers to use."""


class FrameRepeater:
    """Stand-in for a network of videos that repeats pixels."""

    device = torch.device("cpu")
    precision_name, device_name, available_kernels, convolutions = "fp32", "cpu", "none", "none"

    def run_tensor(self, image: torch.Tensor, *, size: tuple[int, int]) -> torch.Tensor:
        """Upscale (1, C, H, W)."""
        return torch.nn.functional.interpolate(image, (size[1], size[0]))

    def resolve_tile(self, width: int, height: int, tile: int | None = None) -> int:
        """Use no tiles."""
        del width, height
        return tile or 0

    def resolve_kernels(self, record: dict | None = None) -> dict:
        """Use no kernels."""
        return record or {}


@contextmanager
def nodes(count: int) -> Iterator[str]:
    """Start a cluster of nodes with one core each, and yield its address."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    try:
        for _ in range(count - 1):
            cluster.add_node(**node)
        yield cluster.address
    finally:
        cluster.shutdown()


def seconds_of_images(
    folder: Path, model: str, place: Place | None, make: Callable | None = None
) -> float:
    """Return the seconds an image, without the first images, which load libraries."""
    times: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, Finished):
            times.append(perf_counter())

    with tempfile.TemporaryDirectory() as target:
        options = Options(
            engine=EngineOptions(model=model, device="cpu"),
            output=OutputOptions(output=f"{target}/out/"),
        )
        facts = ModelInfo("repeat", 4) if make else find_model_info(model, True)
        plan = make_plan([str(folder)], options, facts, bytes)
        if place is None:
            devices = {"cpu": lambda: (make or make_networks)(options.engine)}
            results = run_batch(plan, options, devices, listen)
        else:
            results = run_jobs(plan, RayExecutor(*place, options, make=make), listen)
    assert all(result.error is None for result in results)
    return (times[-1] - times[WARM_UP - 1]) / (len(times) - WARM_UP)


def seconds_of_video(source: Path, place: Place | None) -> float:
    """Return the seconds of a video, after its planning, with a network that repeats pixels."""
    times: list[float] = []
    options = Options(engine=EngineOptions(model=NETWORK, device="cpu"))
    with tempfile.TemporaryDirectory() as folder:
        settings = VideoSettings(VideoEncoding("ffv1"))
        job = plan_video(source, Path(folder, "out.mkv"), lambda size: size, settings)
        devices = (
            LocalVideo([FrameRepeater()])
            if place is None
            else ClusterVideo(*place, options, print, lambda engine: FrameRepeater())
        )
        try:
            run_video_on(devices, job, {}, lambda *_: times.append(perf_counter()), lambda _: None)
        finally:
            if place is not None:
                devices.close()
    return times[-1] - times[0]


def make_video(path: Path) -> None:
    """Write a small video."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "12"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(FRAMES):
            pixels = np.full((48, 64, 3), number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode(None))


def measure(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run all contenders in each round."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            times[name].append(run())
    return times


def print_throughput(folder: Path, images: int, address: str, rounds: int) -> None:
    """Print the first table."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    for number in range(images):
        pixels = generator.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    alone = f"one process, {threads} threads"
    times = measure(
        {
            alone: lambda: seconds_of_images(folder, NETWORK, None),
            "1 worker, 1 thread": lambda: seconds_of_images(folder, NETWORK, (address, 1)),
            "2 workers, 1 thread each": lambda: seconds_of_images(folder, NETWORK, (address, 2)),
        },
        rounds,
    )
    print("| contender | images a second | best | of one process, median | best | min-max |")
    print("|---|---|---|---|---|---|")
    for name, each in times.items():
        ratios = [first / time for first, time in zip(times[alone], each, strict=True)]
        cells = (
            f"{1 / median(each):.2f}",
            f"{1 / min(each):.2f}",
            f"{median(ratios):.2f}",
            f"{min(times[alone]) / min(each):.2f}",
            f"{min(ratios):.2f}-{max(ratios):.2f}",
        )
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def print_overhead(folder: Path, address: str, rounds: int) -> None:
    """Print the second table."""
    make_images(folder / "small", SMALL_IMAGES)
    video = folder / "in.mp4"
    make_video(video)
    segments.SEGMENT_FRAMES = SEGMENT_FRAMES
    count = len(split_into_segments(range(FRAMES)))

    def repeat(_: EngineOptions) -> SimpleNamespace:
        return Repeater()

    small = folder / "small"
    times = measure(
        {
            "image": lambda: seconds_of_images(small, "repeat", None, repeat),
            "image, worker": lambda: seconds_of_images(small, "repeat", (address, 1), repeat),
            "segment": lambda: seconds_of_video(video, None),
            "segment, worker": lambda: seconds_of_video(video, (address, 1)),
        },
        rounds,
    )
    print("\n| unit | here, ms | on 1 worker, ms | overhead, ms |\n|---|---|---|---|")
    for unit, number in (("image", 1), ("segment", count)):
        here, there = (median(times[name]) / number * 1000 for name in (unit, f"{unit}, worker"))
        print(f"| {unit} | {here:.1f} | {there:.1f} | {there - here:.1f} |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "training")])
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start\n")
    with tempfile.TemporaryDirectory() as name, nodes(2) as address:
        print_throughput(Path(name, "in"), arguments.images, address, arguments.rounds)
        print_overhead(Path(name), address, arguments.rounds)


if __name__ == "__main__":
    main()
