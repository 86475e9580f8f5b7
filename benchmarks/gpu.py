"""Checks and benchmarks that need a GPU, in one command: the most important rows first.

    python -m benchmarks.gpu                          # on cuda:0, in less than ten minutes
    python -m benchmarks.gpu --report gpu.jsonl       # its results as Markdown
    python -m benchmarks.gpu --device cpu --small     # the same rows without a GPU

Requires torch and this project; packages for files may be missing. Each row is written to a file as
soon as it is there, whatever becomes of the others; see `rows.py`. The exit status is 1 if a row
failed or a check found a fault.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks import gpu_frames as frames
from benchmarks import gpu_images as images
from benchmarks import gpu_kernels as kernels
from benchmarks.gpu_bench import MISSING, Bench
from benchmarks.rows import Row, Values, markdown, records, run
from upscale.engine.device import automatic_precision, pick_device

FULL_HD, TWELVE_MEGAPIXELS = (1920, 1080), (4000, 3000)


def describe(bench: Bench) -> Values:
    """Return the machine, the software, and the precision that is chosen."""
    device = pick_device(bench.device)
    precision, reason = automatic_precision(device)
    values: Values = {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "device": platform.machine(),
        "precision": f"{precision} ({reason})",
        "missing packages": ", ".join(MISSING) or "none",
    }
    if bench.is_cuda:
        facts = torch.cuda.get_device_properties(device)
        values |= {
            "device": facts.name,
            "compute capability": f"{facts.major}.{facts.minor}",
            "GiB": facts.total_memory / 2**30,
            "code for": " ".join(torch.cuda.get_arch_list()),
            "driver": _driver(),
        }
    return values


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def make_rows(bench: Bench) -> Sequence[Row]:
    """Return all rows, the most important first."""
    x2, x4, compact = bench.networks
    layers = kernels.KINDS
    return [
        Row("machine", "software", partial(describe, bench)),
        Row("kernels", "compiled", partial(kernels.compile_kernels, bench), 200),
        *(Row("layers are right", each.name, partial(kernels.check_layer, bench, each))
          for each in layers),
        *(Row("images are right", each, partial(images.check_network, bench, each))
          for each in bench.trained),
        *(Row("1080p frames", f"{name} to x{scale}",
              partial(frames.time_frames, bench, name, scale))
          for name, scale in ((x2, 2), (x4, 4), (compact, 4))),
        *(Row("1080p against the official loop", f"{name}, its tile {tile}",
              partial(images.compare_with_official, bench, name, FULL_HD, tile))
          for name, tile in ((x4, 512), (x2, 512), (compact, 512), (x4, 0))),
        *(Row("1080p frame, queued and computed", f"{each}, {'recorded' if recorded else 'anew'}",
              partial(images.time_enqueueing, bench, each, recorded=recorded))
          for each in bench.networks for recorded in (False, True)),
        *(Row("layers, ms of 512x512", each.name, partial(kernels.time_layer, bench, each))
          for each in layers),
        Row("rates", "products and copies", partial(images.measure_rates, bench)),
        *(Row("products as narrow as layers", f"{each} outputs",
              partial(images.measure_narrow_product, bench, each)) for each in (32, 64, 192)),
        Row("L2 cache", "copies and reads", partial(images.measure_cache, bench)),
        Row("1080p frame, official network", x2, partial(images.time_official_replay, bench, x2)),
        Row("memory", "a tile is halved", partial(images.check_out_of_memory, bench)),
        Row("memory", "feature maps on the host", partial(images.check_offloading, bench)),
        Row("memory", "colours on the host", partial(frames.check_frames_out_of_memory, bench)),
        Row("frames are right", "colours", partial(frames.check_colours, bench)),
        *(Row("the GPU equals the CPU", each, partial(images.check_devices_agree, bench, each))
          for each in bench.trained),
        *(Row("12 megapixels x4", f"tile {tile}",
              partial(images.time_tile, bench, x4, TWELVE_MEGAPIXELS, tile))
          for tile in (1024, 2048, 512)),
        *(Row("slowest kernels of a 1080p image", each, partial(images.profile, bench, each))
          for each in (x2, x4)),
        Row("12 megapixels against the official loop", f"{x4}, its tile 512",
            partial(images.compare_with_official, bench, x4, TWELVE_MEGAPIXELS, 512)),
        Row("1080p frames", f"{compact} to x2",
            partial(frames.time_frames, bench, compact, 2)),
        Row("several devices", x4, partial(frames.time_devices, bench)),
        Row("memory accesses", "compute-sanitizer", partial(kernels.sanitize_layers, bench), 240),
    ]  # fmt: skip


def main() -> None:
    """Run all rows, or print the results of an earlier run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small images and networks, one round")
    parser.add_argument(
        "--minutes", type=float, default=8.5, help="start no new row after N minutes", metavar="N"
    )
    parser.add_argument("--out", type=Path, default=Path("gpu.jsonl"), help="file for the results")
    parser.add_argument("--report", type=Path, help="print the results in FILE", metavar="FILE")
    parser.add_argument("--layer", help="check one kind of layer in this process, and nothing else")
    arguments = parser.parse_args()
    bench = Bench(arguments.device, arguments.small)
    if arguments.report:
        print(markdown(list(records(arguments.report))))
    elif arguments.layer:
        kind = next(each for each in kernels.KINDS if each.name == arguments.layer)
        print(kernels.check_layer(bench, kind))
    else:
        results = run(partial(make_rows, bench), arguments.out, arguments.minutes)
        sys.exit(any(each["status"] in {"wrong", "failed", "died"} for each in results))


if __name__ == "__main__":
    main()
