"""Zero-shot networks against bicubic interpolation, on HR images with their LR images.

    python -m benchmarks.zero_shot FOLDER                  # NAME_HR.png and NAME_LR.png, scale 2
    python -m benchmarks.zero_shot FOLDER --kernel         # LR images made with another kernel

Values are PSNR in dB on the luma of BT.601, without 2 pixels at each side. With `--kernel`, the LR
images are made from the HR images with a Gaussian of variances 1.5 and 4, turned by 0.5 radians,
and a network is trained without and with the kernel. Every network is trained with the default
settings and the seed 0 and run as `upscale --zero-shot` does. `--only` selects images.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from upscale_training.data.pixels import read_rgb
from upscale_training.degradation.resizing import resize
from upscale_training.zero_shot import ZeroShotSettings, train_on

from benchmarks.blur import gaussian, halved
from upscale.engine.loading import Model
from upscale.engine.upscaler import Upscaler

BORDER = 2
KERNEL = gaussian(1.5, 4.0, 0.5)

Pixels = NDArray[np.uint8]


def main() -> None:
    """Print a row for each image."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("--kernel", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    options = parser.parse_args()
    torch.set_num_threads(1)
    columns = ("without", "with", "gain") if options.kernel else ("zero-shot", "gain")
    print(f"| image | bicubic | {' | '.join(columns)} | seconds |")
    print("|---|---|" + "---|" * (len(columns) + 1), flush=True)
    for path in sorted(options.folder.glob("*_HR.png")):
        name = path.name.removesuffix("_HR.png")
        if options.only is None or name in options.only:
            large = read_rgb(path)
            row = _kernel_row if options.kernel else _row
            print(f"| {name} | {row(large, path)} |", flush=True)


def _row(large: Pixels, path: Path) -> str:
    small = read_rgb(path.with_name(path.name.replace("_HR.", "_LR.")))
    began = time.process_time()
    bicubic, ours = psnr(_bicubic(small), large), psnr(_upscaled(small), large)
    seconds = time.process_time() - began
    return f"{bicubic:.2f} | {ours:.2f} | {ours - bicubic:+.2f} | {seconds:.0f}"


def _kernel_row(large: Pixels, path: Path) -> str:
    large = large[: large.shape[0] // 2 * 2, : large.shape[1] // 2 * 2]
    small = halved(large, KERNEL)
    began = time.process_time()
    without, given = (psnr(_upscaled(small, kernel), large) for kernel in (None, KERNEL))
    seconds = time.process_time() - began
    bicubic = psnr(_bicubic(small), large)
    return f"{bicubic:.2f} | {without:.2f} | {given:.2f} | {given - without:+.2f} | {seconds:.0f}"


def _upscaled(small: Pixels, kernel: NDArray[np.float64] | None = None) -> Pixels:
    network = train_on(small, ZeroShotSettings(kernel=kernel))
    model = Model.from_network("zero-shot", network)
    return Upscaler(model, device="cpu").upscale(small)


def _bicubic(small: Pixels) -> Pixels:
    planes = torch.from_numpy(small.transpose(2, 0, 1).astype(np.float32))[None]
    large = resize(planes, (2 * small.shape[0], 2 * small.shape[1]), "bicubic")
    return large[0].permute(1, 2, 0).round().clamp(0, 255).numpy().astype(np.uint8)


def psnr(image: Pixels, reference: Pixels) -> float:
    """Return the PSNR of two images on luma, in dB."""
    inside = slice(BORDER, -BORDER)
    difference = _luma(image)[inside, inside] - _luma(reference)[inside, inside]
    return float(10 * np.log10(255**2 / np.mean(difference**2)))


def _luma(image: Pixels) -> NDArray[np.float64]:
    return image @ np.array([65.481, 128.553, 24.966]) / 255 + 16


if __name__ == "__main__":
    main()
