"""Time the search for faces against the network that upscales the same photo.

    python -m benchmarks.faces PHOTO [PHOTO ...]

The photos are tiled to 4000x3000 pixels (12 megapixels), in which faces are looked for. The network
upscales a crop, and its time is multiplied by the ratio of the areas. The table lists the seconds
of both, and the share of the search in their sum.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np

WIDTH, HEIGHT = 4000, 3000
CROP = 288, 216
NETWORKS = ("realesrgan-x4plus", "realesr-animevideov3")


def mosaic(paths: list[Path]) -> np.ndarray:
    """Return an RGB image of 12 megapixels that repeats the photos."""
    from upscale.images import read_image

    tiles = [cv2.resize(read_image(path).pixels, (1000, 1000)) for path in paths]
    rows = [
        np.hstack([tiles[(4 * row + column) % len(tiles)] for column in range(WIDTH // 1000)])
        for row in range(HEIGHT // 1000)
    ]
    return np.vstack(rows)


def seconds_of_search(photo: np.ndarray) -> tuple[float, int]:
    """Return the time of the faster one of two searches, and the number of faces."""
    from upscale.faces.mtcnn import Mtcnn

    detector, times, count = Mtcnn(), [], 0
    for _ in range(2):
        began = perf_counter()
        count = len(detector.detect(photo))
        times.append(perf_counter() - began)
    return min(times), count


def seconds_of_network(name: str, photo: np.ndarray) -> float:
    """Return the time for the whole photo, estimated from the faster one of two runs on a crop."""
    from upscale import Upscaler

    upscaler, times = Upscaler(name), []
    crop = np.ascontiguousarray(photo[: CROP[1], : CROP[0]])
    upscaler.upscale(crop)
    for _ in range(2):
        began = perf_counter()
        upscaler.upscale(crop)
        times.append(perf_counter() - began)
    return min(times) * photo.shape[0] * photo.shape[1] / (CROP[0] * CROP[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="+")
    photo = mosaic(parser.parse_args().photos)
    search, count = seconds_of_search(photo)
    print(f"{count} faces in {WIDTH}x{HEIGHT}")
    print("| network | search, s | network, s | share |\n|---|---|---|---|")
    for name in NETWORKS:
        network = seconds_of_network(name, photo)
        print(f"| `{name}` | {search:.1f} | {network:.0f} | {search / (search + network):.1%} |")


if __name__ == "__main__":
    main()
