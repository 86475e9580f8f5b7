"""Write images of noise: `python -m upscale_training.recipes.noise FOLDER COUNT`.

A network that sees blocks of 4x4 pixels as one must learn to reproduce patterns within a block;
photographs contain too few of them to learn this quickly.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 256
BLURS = (0.0, 0.0, 0.5, 0.8)
"""Widths of the blur in pixels; half of the images are not blurred."""


def noise(generator: np.random.Generator) -> NDArray[np.uint8]:
    """Return an image (SIDE, SIDE, 3) of grey or coloured noise around one colour."""
    grain = generator.normal(size=(SIDE, SIDE, 3)).astype(np.float32)
    if generator.random() < 0.5:
        grain[:] = grain[:, :, :1]
    if blur := generator.choice(BLURS):
        grain = cv2.GaussianBlur(grain, (0, 0), blur)
        grain /= grain.std()
    colour = generator.uniform(0.2, 0.8, 3)
    values = colour + grain * generator.uniform(0.03, 0.25)
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def main(folder: Path, count: int) -> None:
    """Write `count` images, the same ones in each call."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:04}.png"), noise(generator))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
