"""A step of upscale_training: ours beside basicsr's own, in turn on the same batches, in one run.

    python -m benchmarks.training                          # small networks on the CPU
    python -m benchmarks.training --device cuda --batch 12 --patch 256 --features 64 --blocks 23 \
        --growth 32 --judge 64 --precision bf16 --workers 8

The step is that of Real-ESRGAN's second stage: degradation, L1, perceptual loss (a VGG19 of random
weights), U-Net discriminator and averaged weights; without a pool of pairs. Ours goes through
`upscale_training.loop`, and reads its patches from files. basicsr's is its own kernels, `feed_data` and
`optimize_parameters` on networks of the same sizes, in fp32, which is all it has; it gets the good
patches of our batch and loads nothing. Rows are medians of rounds, each with other draws; ratios
are medians of those of the rounds.
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
from upscale_training.loop.meter import Meter
from upscale_training.loop.networks import feature_loss, make_networks
from upscale_training.loop.pairs import Pairs
from upscale_training.loop.step import Step
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
"""Of the folder that patches are cut from, where none is given."""


@dataclass
class Times:
    """Seconds of one round."""

    ours: dict[str, float]
    theirs: dict[str, float]


class Ours:
    """Our step, through the loop's parts."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        """Make networks and begin to read."""
        processes = Processes(device, recipe.computing.precision)
        dataset = PatchDataset(recipe.data, recipe.seed, recipe.network.scale)
        stage = recipe.stages[0]
        self.device = processes.device
        self.watch = Stopwatch(self.device)
        self.pairs = Pairs(recipe, stage, dataset, processes, self.watch)
        networks, _ = make_networks(recipe, 0, processes, None)
        self.step = Step(stage, networks, processes, Meter(), self.watch)

    def round(self) -> tuple[dict[str, float], Tensor]:
        """Do a step; return its seconds by phase, those of all of it, and the good patches."""
        self.watch.read()
        pair = self.pairs.take()
        self.step([pair])
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        passed, shares = self.watch.read()
        return {name: shares[name] * passed for name in PHASES} | {"step": passed}, pair.high


class Theirs:
    """basicsr's step, through its own model."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        """Make its networks, as its option files do."""
        generators, judges, losses = load_basicsr(
            "archs.rrdbnet_arch", "archs.discriminator_arch", "losses.gan_loss"
        )
        network, stage = recipe.network, recipe.stages[0]
        assert isinstance(network, RRDBNetSettings) and stage.gan and stage.perceptual
        sizes = {"num_feat": network.features, "num_block": network.blocks}
        make = generators.RRDBNet
        self.generator = make(3, 3, scale=4, num_grow_ch=network.growth, **sizes).to(device)
        average = make(3, 3, scale=4, num_grow_ch=network.growth, **sizes).to(device)
        judge = judges.UNetDiscriminatorSN(3, stage.gan.discriminator.features, True).to(device)
        features = feature_loss(stage.perceptual).to(device)
        self.official = Official.load(str(device))
        self.device = device
        self.parts = {
            "net_g": self.generator,
            "net_d": judge,
            "optimizer_g": torch.optim.Adam(self.generator.parameters(), 1e-4, (0.9, 0.99)),
            "optimizer_d": torch.optim.Adam(judge.parameters(), 1e-4, (0.9, 0.99)),
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
        """Degrade and learn from a batch; return the seconds of both."""
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
        """As its base class does it, which cannot be imported."""
        own = dict(average.named_parameters())
        for name, parameter in self.generator.named_parameters():
            own[name].data.mul_(decay).add_(parameter.data, alpha=1 - decay)


def write_images(folder: Path) -> Path:
    """Smooth random images."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    for number in range(IMAGES):
        coarse = torch.from_numpy(generator.uniform(0, 255, (1, 3, 65, 65)))
        smooth = F.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")[0].permute(1, 2, 0)
        write_png(smooth.byte().numpy(), folder / f"{number}.png")
    return folder


def write_backbone(path: Path) -> Path:
    """A VGG19 of random weights as torchvision keeps it."""
    state = {
        f"features.{index}.{part}": tensor
        for index, layer in enumerate(vgg("vgg19"))
        for part, tensor in layer.state_dict().items()
    }
    torch.save(state, path)
    return path


def recipe_of(arguments: argparse.Namespace, folder: Path) -> Recipe:
    """The recipe that both follow."""
    data = arguments.data or write_images(folder / "pictures")
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
                gan=GanSettings(discriminator=DiscriminatorSettings(features=arguments.judge)),
            ),
        ),
        DegradationRecipe(pool=0),
        computing=ComputingSettings(arguments.precision, compile=arguments.compile),
    )


def measure(recipe: Recipe, device: str, rounds: int) -> list[Times]:
    """Take turns; the first two rounds only warm up."""
    ours = Ours(recipe, device)
    theirs = Theirs(recipe, ours.device)
    found: list[Times] = []
    for _ in range(rounds + 2):
        own, images = ours.round()
        found.append(Times(own, theirs.round(images.contiguous())))
    return found[2:]


def report(times: list[Times], batch: int) -> None:
    """Print tables."""

    def row(name: str, own: Callable[[dict[str, float]], float], other: str) -> None:
        pairs = [(own(each.ours), each.theirs[other]) for each in times]
        ours, theirs = (statistics.median(both) * 1e3 for both in zip(*pairs, strict=True))
        ratio = statistics.median(theirs / ours for ours, theirs in pairs)
        print(f"| {name} | {ours:.0f} | {theirs:.0f} | {ratio:.2f} |")

    print("| | ours ms | basicsr ms | basicsr / ours |\n|---|---|---|---|")
    row("degradation", lambda own: own["degradation"], "degradation")
    row(
        "generator and discriminator",
        lambda own: own["generator"] + own["discriminator"],
        "networks",
    )
    row("step without loading", lambda own: own["step"] - own["data"], "step")
    whole = statistics.median(each.ours["step"] for each in times)
    alone = statistics.median(each.ours["degradation"] for each in times)
    print(f"\nours, with loading: {batch / whole:.2f} images/s; degradation alone: ", end="")
    print(f"{batch / alone:.1f} images/s\n")
    for name in PHASES:
        share = statistics.median(each.ours[name] / each.ours["step"] for each in times)
        print(f"{name:14} {share:6.1%}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, help="a folder of images; default: random ones")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--growth", type=int, default=16)
    parser.add_argument("--judge", type=int, default=32, help="features of the discriminator")
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
            f"{arguments.blocks} blocks x {arguments.features} features, ours in "
            f"{arguments.precision}, {arguments.threads} threads\n"
        )
        report(measure(recipe, arguments.device, arguments.rounds), arguments.batch)


if __name__ == "__main__":
    main()
