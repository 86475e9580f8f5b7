"""A training step of `upscale` and of basicsr, alternating on the same batches in one run.

    python -m benchmarks.training                          # small networks on the CPU
    python -m benchmarks.training --device cuda --batch 12 --patch 256 --features 64 --blocks 23 \
        --growth 32 --discriminator 64 --precision bf16 --workers 8

The step is that of Real-ESRGAN's second stage: degradation, L1, perceptual loss (a VGG19 of random
weights), U-Net discriminator and averaged weights; without a pool of pairs. The step of `upscale`
uses `upscale_training.loop`, and reads its patches from files. The step of basicsr uses its own
kernels, `feed_data` and `optimize_parameters` on networks of the same sizes, in fp32, its only
precision; it gets the HR patches of the same batch and loads nothing. Rows are medians of rounds
with different random numbers; ratios are medians of the ratios of rounds.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from upscale_training.data.patches import PatchDataset
from upscale_training.data.pixels import write_png
from upscale_training.loop.distributed import Processes
from upscale_training.loop.meter import LossMeter
from upscale_training.loop.networks import feature_loss, make_networks
from upscale_training.loop.pairs import PairLoader
from upscale_training.loop.step import TrainingStep
from upscale_training.loop.timing import Stopwatch
from upscale_training.networks import vgg
from upscale_training.recipe import (
    ComputingSettings,
    DataSettings,
    DegradationRecipe,
    DiscriminatorSettings,
    GanSettings,
    OptimiserSettings,
    PerceptualSettings,
    Recipe,
    RRDBNetSettings,
    Source,
    Stage,
)

from benchmarks.degradation import Official
from benchmarks.peers import load_basicsr

PHASES = ("data", "degradation", "generator", "discriminator")
IMAGES, SIDE = 16, 512
"""Number and side of the random images that are used without --data."""


@dataclass
class Times:
    """Seconds of one round by phase."""

    upscale: dict[str, float]
    basicsr: dict[str, float]


class UpscaleStep:
    """The training step of `upscale`."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        """Build networks and start to read."""
        processes = Processes(device, recipe.computing.precision)
        dataset = PatchDataset(recipe.data, recipe.seed, recipe.network.scale)
        stage = recipe.stages[0]
        self.device = processes.device
        self.watch = Stopwatch(self.device)
        self.pairs = PairLoader(recipe, stage, dataset, processes, self.watch)
        networks, _ = make_networks(recipe, 0, processes, None)
        self.step = TrainingStep(stage, networks, processes, LossMeter(), self.watch)

    def round(self) -> tuple[dict[str, float], Tensor]:
        """Take a step; return its seconds by phase and in total, and the HR patches."""
        self.watch.read()
        pair = self.pairs.take()
        self.step([pair])
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        elapsed, shares = self.watch.read()
        return {name: shares[name] * elapsed for name in PHASES} | {"step": elapsed}, pair.hr


class BasicsrStep:
    """The training step of basicsr's own model."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        """Build networks as basicsr's option files do."""
        generators, discriminators, losses = load_basicsr(
            "archs.rrdbnet_arch", "archs.discriminator_arch", "losses.gan_loss"
        )
        network, stage = recipe.network, recipe.stages[0]
        assert isinstance(network, RRDBNetSettings) and stage.gan and stage.perceptual
        sizes = {"num_feat": network.features, "num_block": network.blocks}
        make = generators.RRDBNet
        self.generator = make(3, 3, scale=4, num_grow_ch=network.growth, **sizes).to(device)
        average = make(3, 3, scale=4, num_grow_ch=network.growth, **sizes).to(device)
        width = stage.gan.discriminator.features
        discriminator = discriminators.UNetDiscriminatorSN(3, width, True).to(device)
        features = feature_loss(stage.perceptual).to(device)
        self.official = Official.load(str(device))
        self.device = device
        self.parts = {
            "net_g": self.generator,
            "net_d": discriminator,
            "optimizer_g": torch.optim.Adam(self.generator.parameters(), 1e-4, (0.9, 0.99)),
            "optimizer_d": torch.optim.Adam(discriminator.parameters(), 1e-4, (0.9, 0.99)),
            "cri_pix": nn.L1Loss(),
            "cri_ldl": None,
            "cri_perceptual": lambda *both: (features(*both).perceptual, None),
            "cri_gan": losses.GANLoss("vanilla", loss_weight=0.1).to(device),
            "net_d_iters": 1,
            "net_d_init_iters": 0,
            "ema_decay": 0.999,
            "model_ema": lambda decay: self._average(average, decay),
            "reduce_loss_dict": dict,
        }

    def round(self, images: Tensor) -> dict[str, float]:
        """Degrade a batch and train on it; return the seconds of both."""
        start = self._now()
        fed = self.official.whole(images)
        fed.opt |= {"l1_gt_usm": True, "percep_gt_usm": True, "gan_gt_usm": False}
        middle = self._now()
        run = SimpleNamespace(**vars(fed) | self.parts)
        self.official.model.RealESRGANModel.optimize_parameters(run, 1)
        end = self._now()
        return {"degradation": middle - start, "networks": end - middle, "step": end - start}

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _average(self, average: nn.Module, decay: float) -> None:
        """Average as in basicsr's base class, which cannot be imported."""
        own = dict(average.named_parameters())
        for name, parameter in self.generator.named_parameters():
            own[name].data.mul_(decay).add_(parameter.data, alpha=1 - decay)


def write_images(folder: Path) -> Path:
    """Write smooth random images."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    for number in range(IMAGES):
        coarse = torch.from_numpy(generator.uniform(0, 255, (1, 3, 65, 65)))
        smooth = F.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")[0].permute(1, 2, 0)
        write_png(smooth.byte().numpy(), folder / f"{number}.png")
    return folder


def write_backbone(path: Path) -> Path:
    """Write a VGG19 with random weights as saved by torchvision."""
    state = {
        f"features.{index}.{part}": tensor
        for index, layer in enumerate(vgg("vgg19"))
        for part, tensor in layer.state_dict().items()
    }
    torch.save(state, path)
    return path


def recipe_of(arguments: argparse.Namespace, folder: Path) -> Recipe:
    """Return the recipe of both steps."""
    data = arguments.data or write_images(folder / "images")
    return Recipe(
        "benchmark",
        RRDBNetSettings(
            features=arguments.features, blocks=arguments.blocks, growth=arguments.growth
        ),
        DataSettings((Source(data),), patch=arguments.patch, margin=0, workers=arguments.workers),
        (
            Stage(
                "real-esrgan",
                iterations=1,
                optimiser=OptimiserSettings(1e-4),
                batch=arguments.batch,
                perceptual=PerceptualSettings(write_backbone(folder / "vgg19.pth")),
                gan=GanSettings(
                    discriminator=DiscriminatorSettings(features=arguments.discriminator)
                ),
            ),
        ),
        DegradationRecipe(pool=0),
        computing=ComputingSettings(arguments.precision, compile=arguments.compile),
    )


def measure(recipe: Recipe, device: str, rounds: int) -> list[Times]:
    """Alternate both steps; the first two rounds are for warm-up."""
    upscale = UpscaleStep(recipe, device)
    basicsr = BasicsrStep(recipe, upscale.device)
    times: list[Times] = []
    for _ in range(rounds + 2):
        own, images = upscale.round()
        times.append(Times(own, basicsr.round(images.contiguous())))
    return times[2:]


def report(times: list[Times], batch: int) -> None:
    """Print tables."""

    def row(name: str, own: Callable[[dict[str, float]], float], other: str) -> None:
        pairs = [(own(each.upscale), each.basicsr[other]) for each in times]
        upscale, basicsr = (statistics.median(both) * 1e3 for both in zip(*pairs, strict=True))
        ratio = statistics.median(second / first for first, second in pairs)
        print(f"| {name} | {upscale:.0f} | {basicsr:.0f} | {ratio:.2f} |")

    print("| | upscale ms | basicsr ms | basicsr / upscale |\n|---|---|---|---|")
    row("degradation", lambda own: own["degradation"], "degradation")
    row(
        "generator and discriminator",
        lambda own: own["generator"] + own["discriminator"],
        "networks",
    )
    row("step without loading", lambda own: own["step"] - own["data"], "step")
    whole = statistics.median(each.upscale["step"] for each in times)
    alone = statistics.median(each.upscale["degradation"] for each in times)
    print(f"\nupscale, with loading: {batch / whole:.2f} images/s; degradation alone: ", end="")
    print(f"{batch / alone:.1f} images/s\n")
    for name in PHASES:
        share = statistics.median(each.upscale[name] / each.upscale["step"] for each in times)
        print(f"{name:14} {share:6.1%}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, help="folder of images; default: random images")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--growth", type=int, default=16)
    parser.add_argument(
        "--discriminator", type=int, default=32, help="features of the discriminator"
    )
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    random.seed(0)
    np.random.seed(0)
    with tempfile.TemporaryDirectory() as name:
        recipe = recipe_of(arguments, Path(name))
        print(
            f"{arguments.device}, {arguments.batch} patches of {arguments.patch}, RRDBNet "
            f"{arguments.blocks} blocks x {arguments.features} features, upscale in "
            f"{arguments.precision}, {arguments.threads} threads\n"
        )
        report(measure(recipe, arguments.device, arguments.rounds), arguments.batch)


if __name__ == "__main__":
    main()
