"""Processor time of networks with channel attention, by tile size.

    python -m benchmarks.channel_attention                    # 384x192 pixels, tiles of 64 and 128
    python -m benchmarks.channel_attention --size 512 512 --tile 32 64

Such a network reads means of whole feature maps, for which tiles have to wait. RCAN has random
weights and one of its ten residual groups with half of its blocks, because every block costs the
same; Real-CUGAN is complete. Processor time of one thread is compared, not the wall time, because
it depends less on other programs. "tile 0" is the whole image in the same engine, "torch" the
network in PyTorch alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from upscale.engine.loading import Model
from upscale.engine.upscaler import Upscaler
from upscale.models import Network, RCANSpec, RealCUGANSpec, build

SPECS = (RCANSpec(2, groups=1, blocks=10), RealCUGANSpec(2))


def main() -> None:
    """Print a row for each network and tile size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", nargs=2, type=int, default=(384, 192), metavar=("H", "W"))
    parser.add_argument("--tile", nargs="+", type=int, default=(64, 128))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    image = np.random.default_rng(0).integers(0, 256, (*options.size, 3), np.uint8)
    print("| network | tile | seconds | of tile 0 |\n|---|---|---|---|", flush=True)
    for spec in SPECS:
        torch.manual_seed(0)
        network: Network[Any] = build(spec).eval()
        seconds = _measured(_contenders(network, image, options.tile), options.rounds)
        for name, value in seconds.items():
            ratio = value / seconds["0"]
            print(f"| {spec.describe()} | {name} | {value:.2f} | {ratio:.2f} |", flush=True)


def _contenders(
    network: Network[Any], image: NDArray[np.uint8], tiles: tuple[int, ...]
) -> dict[str, Callable[[], object]]:
    """Return the ways to compute the image."""
    model = Model.from_network("random", network)
    contenders: dict[str, Callable[[], object]] = {}
    for tile in (0, *tiles):
        upscaler = Upscaler(model, device="cpu", tile=tile)
        contenders[str(tile)] = lambda upscaler=upscaler: upscaler.upscale(image)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    tensor = tensor.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def in_torch() -> object:
        return network(tensor)

    return {**contenders, "torch": in_torch}


def _measured(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median processor time of each contender; they run in turn."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, compute in contenders.items():
            began = time.process_time()
            compute()
            if number:  # the first round warms up
                times[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
