"""Measure the speed and accuracy of conversions between YUV planes and RGB.

    python -m benchmarks.yuv [--threads 2] [--data FOLDER]

The first table is the time to convert a 1920x1080 frame of 4:2:0 to fp32 RGB and back; contenders
alternate. swscale (FFmpeg) runs through PyAV with full-size chroma and exact rounding.

With `--data`, a second table lists the error of chroma from photographs that is reduced to 4:2:0
and interpolated again, for several filters and chroma locations. A third table lists the error of
frames of real clips that are reduced to a quarter and upscaled by a network, with and without
restoring values outside [0, 1].
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from upscale.engine import yuv
from upscale.engine.upscaler import Upscaler
from upscale.engine.yuv import Layout, clipped_part, from_rgb, restore_clipped, to_rgb

EXACT = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
CLIPS = (
    ("androidx_bbb_960x540_60fps_vp8.webm", "bt601", False),
    ("androidx_sample_15fps_720p_1s.mp4", "bt709", False),
    ("androidx_sample_with_srt.mkv", "bt709", False),
    ("openshot_interlaced_test1.mp4", "bt601", False),
    ("torchcodec_bt709_full_range.mp4", "bt709", True),
    ("androidx_sample_h262_mpeg_audio.ts", "bt601", False),
)
SHRINK = 4


# Speed


def contenders(depth: int, threads: int) -> dict[str, Callable[[], object]]:
    """Return conversions of one random frame, ready to run."""
    form = Layout(depth, 1, 1, "yuv", "bt709", full_range=False)
    random = np.random.default_rng(0)
    shapes = ((1080, 1920), (540, 960), (540, 960))
    kind = np.uint8 if depth == 8 else np.uint16
    planes = [random.integers(64, 1 << depth, shape).astype(kind) for shape in shapes]
    rgb = to_rgb(planes, form)
    woven = rgb.contiguous(memory_format=torch.channels_last)
    rest, twice = clipped_part(rgb), torch.zeros(1, 3, 2160, 3840)
    name = "yuv420p" if depth == 8 else "yuv420p10le"
    frame = av.VideoFrame(1920, 1080, name)
    for buffer, plane in zip(frame.planes, planes, strict=True):
        buffer.update(plane.tobytes())
    floats = reformatted(frame, "gbrpf32le", threads)
    target = "gbrp" if depth == 8 else "gbrp10le"
    whole = reformatted(frame, target, threads)
    return {
        "ours, to RGB": lambda: to_rgb(planes, form),
        "swscale, to RGB of 32 bits": lambda: reformatted(frame, "gbrpf32le", threads),
        f"swscale, to RGB of {depth} bits": lambda: reformatted(frame, target, threads),
        "ours, from RGB (channels last)": lambda: from_rgb(woven, form),
        "ours, from RGB (planar)": lambda: from_rgb(rgb, form),
        "swscale, from RGB of 32 bits": lambda: reformatted(floats, name, threads),
        f"swscale, from RGB of {depth} bits": lambda: reformatted(whole, name, threads),
        "ours, beyond": lambda: clipped_part(rgb),
        "ours, restored, twice as large": lambda: restore_clipped(twice, rest),
    }


def reformatted(frame: av.VideoFrame, target: str, threads: int) -> av.VideoFrame:
    """Convert a frame to another format; limited-range YUV is BT.709."""
    ranges = (2, 1) if frame.format.name.startswith("gbr") else (1, 2)
    return REFORMATTER.reformat(
        frame,
        format=target,
        interpolation=EXACT,
        src_colorspace=1,
        dst_colorspace=1,
        src_color_range=ranges[0],
        dst_color_range=ranges[1],
        threads=threads,
    )


REFORMATTER = VideoReformatter()


def print_times(rounds: int, threads: int) -> None:
    """Print the table of times."""
    print("| bits | way | ms a frame | min-max |\n|---|---|---|---|")
    for depth in (8, 10):
        ways = contenders(depth, threads)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds + 1):
            for name, run in ways.items():
                start = perf_counter()
                run()
                times[name].append((perf_counter() - start) * 1e3)
        for name, (_, *measured) in times.items():  # without the warm-up
            spread = f"{min(measured):.1f}-{max(measured):.1f}"
            print(f"| {depth} | {name} | {statistics.median(measured):.1f} | {spread} |")


# Filters


def lanczos(x: float) -> float:
    """Return the Lanczos kernel with three lobes."""
    return float(np.sinc(x) * np.sinc(x / 3)) if abs(x) < 3 else 0.0


KERNELS = {
    "bilinear": lambda x: max(1 - abs(x), 0.0),
    "Catmull-Rom": yuv._catmull_rom,
    "Lanczos": lanczos,
}


def taps_of(kernel: Callable[[float], float]) -> Callable[[float, int], dict[int, float]]:
    """Return a replacement for `yuv._taps` with another kernel."""

    def taps(position: float, stretch: int) -> dict[int, float]:
        indices = range(math.ceil(position - 3 * stretch), math.floor(position + 3 * stretch) + 1)
        weights = {index: kernel((index - position) / stretch) for index in indices}
        total = sum(weights.values())
        return {index: weight / total for index, weight in weights.items() if weight}

    return taps


def chroma_decibels(rgb: torch.Tensor, down: str, up: str, written: int, read: int) -> float:
    """Return the PSNR of reduced and interpolated chroma, for written and assumed locations."""
    form = [Layout(16, 1, 1, "yuv", "bt709", True, place) for place in (written, read)]
    with patch.object(yuv, "_taps", taps_of(KERNELS[down])):
        planes = from_rgb(rgb, form[0])
    with patch.object(yuv, "_taps", taps_of(KERNELS[up])):
        back = to_rgb(planes, form[1])
    whole = Layout(16, 0, 0, "yuv", "bt709", True)
    pairs = zip(from_rgb(back, whole)[1:], from_rgb(rgb, whole)[1:], strict=True)
    return decibels(np.mean([((a.astype(float) - b) / 65535) ** 2 for a, b in pairs]))


def decibels(error: float) -> float:
    """Return the PSNR for a mean squared error of values in [0, 1]."""
    return -10 * math.log10(max(error, 1e-12))


def print_filters(folder: Path) -> None:
    """Print the table of filters and chroma locations."""
    photos = []
    for path in sorted(folder.glob("*.webp")):
        image = Image.open(path).convert("RGB")
        small = image.resize((image.width // 4, image.height // 4), Image.Resampling.BOX)
        photos.append(torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 255)
    print("\n| reduced | upscaled | left, dB | centre, dB | left read as centre, dB |")
    print("|---|---|---|---|---|")
    for down in KERNELS:
        for up in KERNELS:
            row = [
                statistics.mean(chroma_decibels(photo, down, up, *places) for photo in photos)
                for places in ((1, 1), (2, 2), (1, 2))
            ]
            print(f"| {down} | {up} | " + " | ".join(f"{value:.2f}" for value in row) + " |")


# Outside [0, 1]


def early_frame(path: Path) -> list[np.ndarray]:
    """Return the planes of an early frame (8 bits, 4:2:0), at most 512 pixels per side."""
    with av.open(str(path)) as video:
        *_, frame = itertools.islice(video.decode(video=0), 11)
    planes = []
    for plane, side in zip(frame.planes, (512, 256, 256), strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width]
        height, width = (min(length // 8 * 8, side) for length in rows.shape)
        planes.append(rows[:height, :width].copy())
    height, width = planes[1].shape
    return [planes[0][: 2 * height, : 2 * width], *planes[1:]]


def shrunk(plane: np.ndarray) -> np.ndarray:
    """Reduce a plane by averaging."""
    rows, columns = (length // SHRINK for length in plane.shape)
    squares = plane.reshape(rows, SHRINK, columns, SHRINK).mean((1, 3))
    return np.rint(squares).astype(np.uint8)


def print_beyond(folder: Path) -> None:
    """Print the table of frames upscaled with and without values outside [0, 1]."""
    network = Upscaler("realesr-animevideov3", device="cpu")
    print("\n| clip | values outside, % | luma dB | restored | as displayed dB | restored |")
    print("|---|---|---|---|---|---|")
    for name, matrix, full in CLIPS:
        form = Layout(8, 1, 1, "yuv", matrix, full)
        original = early_frame(folder / name)
        small = to_rgb([shrunk(plane) for plane in original], form)
        pixels = network.upscale(small[0].permute(1, 2, 0).numpy())
        large = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        rest = clipped_part(small)
        share = 0.0 if rest is None else (rest != 0).float().mean().item() * 100
        seen = to_rgb(original, form).clamp(0, 1)
        row = {"luma": [], "shown": []}
        for result in (large, restore_clipped(large.clone(), rest)):
            planes = from_rgb(result, form)
            row["luma"].append(
                decibels(np.mean(((planes[0] - original[0].astype(float)) / 255) ** 2))
            )
            shown = to_rgb(planes, form).clamp(0, 1)
            row["shown"].append(decibels((shown - seen).square().mean().item()))
        cells = " | ".join(f"{value:.2f}" for value in [share, *row["luma"], *row["shown"]])
        print(f"| {name} | {cells} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, help="folder with photos/ and clips/")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print_times(options.rounds, options.threads)
    if options.data is not None:
        print_filters(options.data / "photos")
        print_beyond(options.data / "clips")


if __name__ == "__main__":
    main()
