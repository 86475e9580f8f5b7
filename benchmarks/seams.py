"""Errors at the seams of padded tiles, and of `upscale`.

    python -m benchmarks.seams                           # the bundled example
    python -m benchmarks.seams photo.png --side 320 --tile 160 --padding 10

Both are compared with whole-image inference of the same network in fp32 with PyTorch. Padded tiles
are computed as Real-ESRGAN does it: each tile is extended by the padding where the image has
pixels, upscaled, and cut to its own area.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from upscale.engine.loading import load_model
from upscale.engine.upscaler import Upscaler

ROOT = Path(__file__).parents[1]
NEAR = 4
"""Output pixels on each side of a seam that count as the seam."""


def padded_tiles(network: nn.Module, image: Tensor, tile: int, padding: int, scale: int) -> Tensor:
    """Upscale (1, 3, H, W) in padded tiles."""
    height, width = image.shape[2:]
    result = image.new_zeros(1, 3, height * scale, width * scale)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            above, before = max(top - padding, 0), max(left - padding, 0)
            part = network(image[:, :, above : bottom + padding, before : right + padding])
            rows = slice((top - above) * scale, (bottom - above) * scale)
            columns = slice((left - before) * scale, (right - before) * scale)
            result[:, :, top * scale : bottom * scale, left * scale : right * scale] = part[
                :, :, rows, columns
            ]
    return result


def errors(result: np.ndarray, whole: np.ndarray, seam: int) -> str:
    """Return the errors of (H, W, 3) in levels of 255, for a seam every `seam` output pixels."""
    difference = np.abs(result - whole).max(axis=2)
    near = np.zeros(difference.shape, bool)
    for place in range(seam, max(near.shape), seam):
        near[place - NEAR : place + NEAR] = near[:, place - NEAR : place + NEAR] = True
    mean_square = np.square(result - whole).mean()
    psnr = 10 * np.log10(255**2 / mean_square) if mean_square else np.inf
    at_seam = f"{difference[near].max():.0f}" if near.any() else "-"
    return f"maximum {difference.max():.0f}, at a seam {at_seam}, {psnr:.1f} dB to the whole image"


def main() -> None:
    """Print the errors of both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", nargs="?", type=Path, default=ROOT / "examples/kitten.jpg")
    parser.add_argument("--side", type=int, default=0, help="use the upper left square only")
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--padding", type=int, default=10)
    parser.add_argument("--model", default="realesrgan-x4plus")
    arguments = parser.parse_args()

    pixels = np.ascontiguousarray(cv2.imread(str(arguments.image))[:, :, ::-1])
    if arguments.side:
        pixels = np.ascontiguousarray(pixels[: arguments.side, : arguments.side])
    model = load_model(arguments.model)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    seam = arguments.tile * model.scale
    with torch.inference_mode():
        network = model.network.eval()
        whole = _levels(network(image))
        tiled = _levels(
            padded_tiles(network, image, arguments.tile, arguments.padding, model.scale)
        )
    padding = f"padding {arguments.padding}"
    print(f"padded tiles, {arguments.tile}, {padding}: {errors(tiled, whole, seam)}")
    for tile in (16, arguments.tile):
        upscaler = Upscaler(model, device="cpu", precision="fp32", tile=tile)
        ours = upscaler.upscale(image[0].permute(1, 2, 0).numpy())
        result = ours.astype(np.float64) * 255
        print(f"upscale, {tile}: {errors(result, whole, tile * model.scale)}")


def _levels(image: Tensor) -> np.ndarray:
    return image[0].permute(1, 2, 0).clamp(0, 1).double().numpy() * 255


if __name__ == "__main__":
    main()
