"""Relative speed of all networks of the catalogue on one image.

    python -m benchmarks.networks                # the bundled example, 3 rounds

Networks run in turn. The processor time is compared and not the wall time, because it depends less
on other programs. Networks that are not installed are built with random weights: the time does not
depend on the values of weights.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from upscale.checkpoints import availability, catalog
from upscale.engine.loading import Model, load_model
from upscale.engine.upscaler import Upscaler
from upscale.models import RRDBSpec, SRVGGSpec, build

ROOT = Path(__file__).parents[1]
BASELINE = "realesrgan-x4plus"
"""Network whose speed is 1x."""
STAND_INS = {
    "4xlsdirplus": RRDBSpec(),
    "4xnomos2-otf-esrgan": RRDBSpec(),
    "4xnomos8ksc": RRDBSpec(),
    "4xnomoswebphoto-esrgan": RRDBSpec(),
    "realesrgan-x2plus": RRDBSpec(unshuffle=2),
    "realesrnet-x4plus": RRDBSpec(),
    "realesr-general-x4v3": SRVGGSpec(convolutions=32),
    "realesr-general-wdn-x4v3": SRVGGSpec(convolutions=32),
}
"""Shapes of the networks that are downloaded."""


def model_of(name: str) -> Model:
    """Return the network, or one of its shape with random weights if it is not installed."""
    if availability(catalog()[name]) != "absent":
        return load_model(name)
    spec = STAND_INS[name]
    generator = torch.Generator().manual_seed(0)
    network = build(spec).eval().requires_grad_(False)
    for parameter in network.parameters():
        spread = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return Model.from_network(name, network)


def main() -> None:
    """Print a row for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", nargs="?", type=Path, default=ROOT / "examples/kitten.jpg")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    pixels = np.ascontiguousarray(cv2.imread(str(arguments.image))[:, :, ::-1])
    upscalers = {name: Upscaler(model_of(name), device="cpu") for name in catalog()}
    seconds: dict[str, list[float]] = {name: [] for name in upscalers}
    for number in range(arguments.rounds + 1):
        for name, upscaler in upscalers.items():
            began = time.process_time()
            upscaler.upscale(pixels)
            if number:  # the first round warms up
                seconds[name].append(time.process_time() - began)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    print("| network | s of processor time | speed |")
    print("|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median:.2f} | {medians[BASELINE] / median:.1f}x |")


if __name__ == "__main__":
    main()
