from __future__ import annotations

import numpy as np
import pytest
from upscale_training.data.pixels import write_png


def shifted_gaussian(scale: int, sigma: float = 1.6, side: int = 15) -> np.ndarray:
    """A Gaussian kernel as KernelGAN stores it: its centre is that of an LR pixel."""
    axis = np.arange(side) - side // 2 - (scale - 1) / 2
    values = np.exp(-(axis**2) / (2 * sigma**2))
    kernel = np.outer(values, values)
    return kernel / kernel.sum()


@pytest.fixture
def kernels(tmp_path):
    """A pool of three kernels for x4: two in one file, one in a subfolder."""
    (tmp_path / "kernels/more").mkdir(parents=True)
    pair = [shifted_gaussian(4, sigma) for sigma in (1.2, 2.0)]
    np.save(tmp_path / "kernels/pair.npy", np.stack(pair))
    np.save(tmp_path / "kernels/more/one.npy", shifted_gaussian(4, 3.0))
    (tmp_path / "kernels/notes.txt").write_text("not a kernel")
    return tmp_path / "kernels"


@pytest.fixture
def noise(tmp_path):
    """A pool of two patches of noise of 3 and 6 levels, around different colours."""
    random = np.random.default_rng(0)
    for sigma, colour in ((3, (90, 120, 150)), (6, (200, 100, 50))):
        values = colour + sigma * random.standard_normal((64, 64, 3))
        write_png(values.round().clip(0, 255).astype(np.uint8), tmp_path / f"noise/{sigma}.png")
    return tmp_path / "noise"
