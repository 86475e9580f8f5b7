"""Degradation of a batch by `upscale` and by basicsr's own functions, alternating in one run.

    python -m benchmarks.degradation                          # 8 images of 256x256 on the CPU
    python -m benchmarks.degradation --device cuda --batch 12 --side 400
    python -m benchmarks.degradation --calls --batch 12 --side 400    # operators, on any device

The batch consists of smooth random colours. "whole" is the work of a training step: sampling,
sharpening and the second-order chain; for basicsr, the kernels of its data set and
`RealESRGANModel.feed_data` with its own random numbers (with one small repair: its filter rejects
the output of its JPEG on a CPU, so a copy is made). Rows are medians of rounds; each round of
"whole" samples other degradations.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from upscale_training.degradation import (
    DegradationSettings,
    apply,
    chain,
    real_esrgan,
    sample,
    sharpen,
)
from upscale_training.degradation.filters import blur, stack_kernels
from upscale_training.degradation.jpeg import jpeg
from upscale_training.degradation.noise import add_gaussian, add_poisson
from upscale_training.degradation.operations import GaussianNoise, Jpeg, PoissonNoise
from upscale_training.degradation.randomness import NumpyRandomness
from upscale_training.degradation.resizing import resize
from upscale_training.degradation.steps import BlurStep

from benchmarks.peers import load_basicsr

OPTIONS = {
    "scale": 4,
    "resize_prob": [0.2, 0.7, 0.1],
    "resize_range": [0.15, 1.5],
    "gaussian_noise_prob": 0.5,
    "noise_range": [1, 30],
    "poisson_scale_range": [0.05, 3],
    "gray_noise_prob": 0.4,
    "jpeg_range": [30, 95],
    "second_blur_prob": 0.8,
    "resize_prob2": [0.3, 0.4, 0.3],
    "resize_range2": [0.3, 1.2],
    "gaussian_noise_prob2": 0.5,
    "noise_range2": [1, 25],
    "poisson_scale_range2": [0.05, 2.5],
    "gray_noise_prob2": 0.4,
    "jpeg_range2": [30, 95],
}
"""Options of the official recipe for basicsr."""

NAMES = ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]

Work = Callable[[], object]


@dataclass
class Official:
    """basicsr's functions on one device."""

    degradations: ModuleType
    model: ModuleType
    sharpen: Callable[[Tensor], Tensor]
    filter: Callable[[Tensor, Tensor], Tensor]
    jpeg: Callable[[Tensor, Tensor], Tensor]

    @staticmethod
    def load(device: str) -> Official:
        """Load the functions of the installed package."""
        degradations, diffjpeg, process, model = load_basicsr(
            "data.degradations",
            "utils.diffjpeg",
            "utils.img_process_util",
            "models.realesrgan_model",
        )
        module = diffjpeg.DiffJPEG(False).to(device)
        return Official(
            degradations,
            model,
            process.USMSharp(50, 0).to(device),
            process.filter2D,
            lambda image, quality: module(image, quality=quality).contiguous(),
        )

    def kernels(self, count: int, step: BlurStep) -> Tensor:
        """Sample kernels as its data set does."""
        return torch.from_numpy(np.stack([self._kernel(step) for _ in range(count)])).float()

    def _kernel(self, step: BlurStep) -> np.ndarray:
        size = random.choice(range(7, 22, 2))
        if np.random.uniform() < step.sinc:
            cutoff = np.random.uniform(*(step.small_cutoff if size < 13 else step.large_cutoff))
            return self.degradations.circular_lowpass_kernel(cutoff, size, pad_to=21)
        kernel = self.degradations.random_mixed_kernels(
            NAMES,
            list(step.families.weights().values()),
            size,
            step.sigma,
            step.sigma,
            step.rotation,
            step.generalised_beta,
            step.plateau_beta,
        )
        return np.pad(kernel, (21 - size) // 2)

    def whole(self, images: Tensor, *, sharpening: bool = True) -> SimpleNamespace:
        """Run `feed_data` without the pool; the result has `lq`, `gt` and `gt_usm`."""
        first, second = BlurStep(), BlurStep(sigma=(0.2, 1.5))
        final = BlurStep(sinc=1, large_cutoff=first.small_cutoff)
        feeding = SimpleNamespace(
            is_train=True,
            device=images.device,
            opt=OPTIONS | {"gt_size": images.shape[-1]},
            usm_sharpener=self.sharpen if sharpening else torch.clone,
            jpeger=self.jpeg,
            _dequeue_and_enqueue=lambda: None,
        )
        names = ("kernel1", "kernel2", "sinc_kernel")
        kernels = [self.kernels(len(images), step) for step in (first, second, final)]
        data = {"gt": images, **dict(zip(names, kernels, strict=True))}
        self.model.RealESRGANModel.feed_data(feeding, data)
        return feeding


def degrade_batch(settings: DegradationSettings, images: Tensor, rng: np.random.Generator) -> None:
    """Sample, sharpen, degrade, and sharpen the targets of the losses, as `feed_data` does."""
    sharp = sharpen(images)
    apply(sharp, sample(settings, len(images), rng))
    sharpen(images)


def rows(images: Tensor, basicsr: Official) -> dict[str, tuple[Work, Work]]:
    """Return the functions of `upscale` and of basicsr by name."""
    count, side = len(images), images.shape[-1]
    rng = np.random.default_rng(1)
    own, step = NumpyRandomness(rng), BlurStep()
    blurs = [step.sample_kernel(own) for _ in range(count)]
    kernels = stack_kernels(blurs).float().to(images.device)
    qualities = np.linspace(30, 95, count)
    greys = [place % 5 < 2 for place in range(count)]
    strengths = torch.full((count,), 10.0, device=images.device)
    grey = torch.tensor(greys, device=images.device).float()
    gaussian = [GaussianNoise(10, each, place) for place, each in enumerate(greys)]
    poisson = [PoissonNoise(1, each, place) for place, each in enumerate(greys)]
    small = (int(side * 0.6), int(side * 0.6))
    settings = real_esrgan()
    official = real_esrgan(4, "official")
    return {
        "kernels": (
            lambda: stack_kernels([step.sample_kernel(own) for _ in range(count)]),
            lambda: basicsr.kernels(count, step),
        ),
        "blur, a kernel each": (
            lambda: blur(images, blurs),
            lambda: basicsr.filter(images, kernels),
        ),
        "sharpening": (lambda: sharpen(images), lambda: basicsr.sharpen(images)),
        "resize x0.6, bicubic (upscale antialiases)": (
            lambda: resize(images, small, "bicubic"),
            lambda: F.interpolate(images, size=small, mode="bicubic"),
        ),
        "Gaussian noise": (
            lambda: add_gaussian(images, gaussian),
            lambda: basicsr.degradations.add_gaussian_noise_pt(images, strengths, grey),
        ),
        "Poisson noise": (
            lambda: add_poisson(images, poisson),
            lambda: basicsr.degradations.add_poisson_noise_pt(
                images, strengths / 10, gray_noise=grey
            ),
        ),
        "JPEG": (
            lambda: jpeg(images, [Jpeg(quality) for quality in qualities]),
            lambda: basicsr.jpeg(images, images.new_tensor(qualities)),
        ),
        "whole without sharpening, corrected": (
            lambda: apply(images, sample(settings, count, rng)),
            lambda: basicsr.whole(images, sharpening=False),
        ),
        "whole, corrected": (
            lambda: degrade_batch(settings, images, rng),
            lambda: basicsr.whole(images),
        ),
        "whole, official": (
            lambda: degrade_batch(official, images, rng),
            lambda: basicsr.whole(images),
        ),
    }


class CallCounter(TorchDispatchMode):
    """Counts the calls of torch's operators.

    Attributes:
        calls: Number of calls since the start.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):  # noqa: ANN001, ANN204
        """Count a call, and pass it on."""
        self.calls += 1
        return function(*arguments, **(options or {}))


def print_calls(images: Tensor) -> None:
    """Print the numbers of calls of both modes for a batch, without sampling and sharpening."""
    print("| mode | sizes | calls |\n|---|---|---|")
    cases = (("official", False), ("corrected", False), ("corrected", True))
    for mode, together in cases:
        rng = np.random.default_rng(0)
        counts: list[int] = []
        for _ in range(5):
            degradations = sample(real_esrgan(4, mode), len(images), rng)
            with (
                patch.object(chain, "counts_calls", lambda _, value=together: value),
                CallCounter() as counter,
            ):
                apply(images, degradations)
            counts.append(counter.calls)
        sizes = "together, as on a GPU" if together else "one by one, as on a CPU"
        print(f"| {mode} | {sizes} | {statistics.median(counts)} |", flush=True)


def seconds(work: Work, images: Tensor) -> float:
    """Return the seconds of one call, including the work on the device."""
    start = time.perf_counter()
    work()
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--calls", action="store_true", help="count calls, measure nothing")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    coarse = torch.rand(arguments.batch, 3, 33, 33)
    images = F.interpolate(coarse, size=(arguments.side, arguments.side), mode="bilinear")
    images = images.to(arguments.device)
    if arguments.calls:
        print_calls(images)
        return
    print(f"{arguments.device}, {tuple(images.shape)}, {arguments.threads} threads\n")
    print("| | upscale ms | basicsr ms | basicsr / upscale |\n|---|---|---|---|")
    with torch.no_grad():
        for name, both in rows(images, Official.load(arguments.device)).items():
            for work in both:
                work()
            times = [[seconds(work, images) for work in both] for _ in range(arguments.rounds)]
            own, other = (statistics.median(each) * 1e3 for each in zip(*times, strict=True))
            print(f"| {name} | {own:.1f} | {other:.1f} | {other / own:.1f} |", flush=True)


if __name__ == "__main__":
    main()
