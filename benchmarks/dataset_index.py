"""Memory of the list of a data set's images, in the training process and in its workers.

    python -m benchmarks.dataset_index --images 1000000

An index file lists images that do not exist, with names as `upscale dataset crop` writes them. Each
worker takes one image of every hundred, as it would in an epoch. "Own" is memory that a process
shares with no other (USS), above that of the same process with an index of one image.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import torch.multiprocessing
from upscale_training.data.patches import PatchDataset
from upscale_training.recipe import DataSettings, Source

STEP = 100


def own_bytes() -> int:
    """Return the memory that this process shares with no other."""
    return psutil.Process().memory_full_info().uss


def work(dataset: PatchDataset, answer: Connection) -> None:
    """Name images as a worker does, and send the memory afterwards."""
    for number in range(0, len(dataset), STEP):
        dataset._entry(dataset._order.image(number))
    answer.send(own_bytes())


def worker_bytes(dataset: PatchDataset, method: str) -> int:
    """Return the own memory of a worker that was started by `fork` or `spawn`."""
    context = torch.multiprocessing.get_context(method)
    answer, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(dataset, sender))
    process.start()
    found = answer.recv()
    process.join()
    return found


def measure(index: Path) -> dict[str, int]:
    """Return the own memory of this process and of its workers with an index."""
    source = Source(index.parent, index=index)
    dataset = PatchDataset(DataSettings((source,)), 1, 4)
    dataset.share_memory()
    found = {"training process": own_bytes()}
    return found | {method: worker_bytes(dataset, method) for method in ("fork", "spawn")}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--index", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.index:
        print(json.dumps(measure(arguments.index)))
        return
    found: list[dict[str, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, arguments.images):
            index = Path(folder) / f"{count}.txt"
            with index.open("w") as file:
                file.writelines(
                    f"{number // 50:06}_s{number % 50:03}.png\n" for number in range(count)
                )
            line = [sys.executable, "-m", "benchmarks.dataset_index", "--index", str(index)]
            ended = subprocess.run(line, capture_output=True, text=True, check=True)
            found.append(json.loads(ended.stdout))
    print("| process | own MB | bytes per image |\n|---|---|---|")
    for name in found[0]:
        more = found[1][name] - found[0][name]
        print(f"| {name} | {more / 1e6:.0f} | {more / arguments.images:.0f} |")


if __name__ == "__main__":
    main()
