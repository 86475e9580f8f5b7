"""The choice of networks for drawings and screenshots, against always the same ones.

    python -m benchmarks.drawings drawings/*.png

Makes the middle of each image smaller or damages it, and upscales it by both networks for crisp
drawings. Prints the ST-LPIPS (less is better) of each one, of their mean and of the choice
for images that the choice takes for a drawing when they are only made smaller by area averages.
"""

from __future__ import annotations

import argparse
import io
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from PIL import Image as PILImage

from benchmarks.selection import Pixels, encoded, shrunk
from upscale.engine.upscaler import Upscaler
from upscale.metrics import Resources, metrics
from upscale.selection import Sample, choose
from upscale.selection.choice import CLEAN, DAMAGED, DRAWING

SIDE = 192
SCALES = (2, 4)
COLUMNS = (DRAWING, "mean", CLEAN, "choice")


def _coded(hr: Pixels, scale: int, format: str, quality: int) -> Pixels:
    data, _ = encoded(shrunk(hr, scale, "area"), format, quality=quality)
    return np.asarray(PILImage.open(io.BytesIO(data)).convert("RGB"))


KINDS: dict[str, Callable[[Pixels, int], Pixels]] = {
    "area": lambda hr, scale: shrunk(hr, scale, "area"),
    "bicubic": shrunk,
    "lanczos": lambda hr, scale: shrunk(hr, scale, "lanczos"),
    "upscaled x2": lambda hr, scale: np.asarray(
        PILImage.fromarray(shrunk(hr, 2 * scale, "area")).resize(
            (hr.shape[1] // scale, hr.shape[0] // scale), PILImage.Resampling.BICUBIC
        )
    ),
    "WebP 90": lambda hr, scale: _coded(hr, scale, "WEBP", 90),
    "JPEG 97": lambda hr, scale: _coded(hr, scale, "JPEG", 97),
    "JPEG 80": lambda hr, scale: _coded(hr, scale, "JPEG", 80),
}
"""How LR images are made; those that were coded come as PNG."""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("images", type=Path, nargs="+")
    torch.set_num_threads(1)
    networks = {name: Upscaler(name, device="cpu") for name in (CLEAN, DAMAGED, DRAWING)}
    distance = metrics()["st-lpips"].load(Resources())

    def output(name: str, image: Pixels, scale: int) -> Pixels:
        return networks[name].upscale(image, scale=scale)

    rows: dict[str, list[list[float]]] = defaultdict(list)
    for path in parser.parse_args().images:
        hr = np.asarray(PILImage.open(path).convert("RGB"))
        top, left = ((side - SIDE) // 2 for side in hr.shape[:2])
        hr = hr[max(top, 0) :, max(left, 0) :][:SIDE, :SIDE]
        hr = np.ascontiguousarray(hr[: hr.shape[0] // 4 * 4, : hr.shape[1] // 4 * 4])
        for scale in SCALES:
            seen = choose(
                [Sample(shrunk(hr, scale, "area"))], lambda name, crop: output(name, crop, 4)
            )
            if DRAWING not in seen.weights:
                continue
            for kind, make in KINDS.items():
                lr = np.ascontiguousarray(make(hr, scale))
                choice = choose([Sample(lr)], lambda name, crop: output(name, crop, 4)).weights
                both = {name: output(name, lr, scale).astype(float) for name in (DRAWING, CLEAN)}
                results = [both[DRAWING], (both[DRAWING] + both[CLEAN]) / 2, both[CLEAN]]
                chosen = (output(name, lr, scale) * weight for name, weight in choice.items())
                results.append(np.sum(list(chosen), axis=0))
                rows[kind].append(
                    [distance(np.rint(each).astype(np.uint8), hr, 0) for each in results]
                )
    print(f"| LR image | images | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for kind, scores in rows.items():
        cells = [f"{mean(column):.3f}" for column in zip(*scores, strict=True)]
        print(f"| {kind} | {len(scores)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
