"""From photos of one camera to a network that cleans others of it, as RealSR is meant to be used.

The camera is synthetic, so that the ground truth is known: an anisotropic kernel and noise that is
correlated between neighbours and stronger in colour than in brightness. The network sees only what
a user has: photos of the camera, the kernel, and clean photos of others.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from upscale_training.data.index import images_below
from upscale_training.data.pixels import read_rgb, write_png
from upscale_training.recipe.reading import read_recipe

from tests.training.loop.runs import collected
from upscale.cli.app import run
from upscale.cli.session import Session

SCALE = 2
HELD_OUT = ("dog", "flowers", "house")
BICUBIC = "{do: resize, up: 0, down: 0, keep: 1, of: result, kinds: [bicubic]}"
POOLS = (
    "{do: kernel, pool: kernel.npy}, "
    "{do: resize, up: 0, down: 0, keep: 1, of: result, kinds: [nearest]}, "
    "{do: injected_noise, pool: noise}"
)
RECIPE = f"""
name: camera
network: {{architecture: srvgg, scale: {SCALE}, features: 24, convolutions: 6}}
data: {{sources: [{{path: others}}], patch: 48, margin: 8, rotations: true, workers: 0}}
degradation: {{chain: [CHAIN], sharpen: false, pool: 0}}
stages:
  - name: l1
    iterations: 400
    batch: 8
    ema: 0.95
    optimiser: {{learning_rate: 2e-3}}
    schedule: {{milestones: [300], gamma: 0.3}}
    pixel: {{sharpen: false}}
logging: {{every: 100, tensorboard: false}}
saving: {{every: 400}}
"""


def camera_kernel() -> np.ndarray:
    """A blur of 1.6 and 0.8 pixels of the ground truth, turned by 30 degrees."""
    down, across = np.mgrid[-6:7, -6:7]
    turn = np.radians(30)
    first, second = (
        across * np.cos(turn) + down * np.sin(turn),
        down * np.cos(turn) - across * np.sin(turn),
    )
    values = np.exp(-0.5 * ((first / 1.6) ** 2 + (second / 0.8) ** 2))
    return values / values.sum()


def camera_noise(random, height: int, width: int) -> np.ndarray:
    """Noise of about 6 levels, smoothed as demosaicing does, more so in colour."""

    def field(sigma: float, blur: float, channels: int) -> np.ndarray:
        values = random.standard_normal((height, width, channels)).astype(np.float32)
        values = cv2.GaussianBlur(values, (0, 0), blur).reshape(height, width, channels)
        return sigma * values / values.std()

    return field(5, 0.6, 1) + field(5, 1.2, 3)


def taken(hr: np.ndarray, seed: int) -> np.ndarray:
    """The camera's photo of a scene: blurred, every second pixel (between two of them), noisy."""
    blurred = cv2.filter2D(
        hr.astype(np.float32), -1, camera_kernel(), borderType=cv2.BORDER_REFLECT
    )
    small = cv2.resize(blurred, None, fx=1 / SCALE, fy=1 / SCALE, interpolation=cv2.INTER_LINEAR)
    noise = camera_noise(np.random.default_rng(seed), *small.shape[:2])
    return (small + noise).round().clip(0, 255).astype(np.uint8)


def plain(seed: int) -> np.ndarray:
    """A scene without content: a slope between two colours."""
    first, second = np.random.default_rng(seed).uniform(90, 190, (2, 3))
    share = np.linspace(0, 1, 320)[:, None, None]
    return np.broadcast_to(first + share * (second - first), (320, 320, 3))


@pytest.fixture(scope="module")
def desk(data, tmp_path_factory) -> Path:
    """The folders `camera` and `held` with photos of the camera, `truth`, and `others`."""
    folder = tmp_path_factory.mktemp("camera")
    for seed, file in enumerate(sorted((data / "photos/scenes").glob("*.webp"))):
        hr = read_rgb(file)
        held = file.stem in HELD_OUT
        write_png(taken(hr, seed), folder / ("held" if held else "camera") / f"{file.stem}.png")
        if held:
            write_png(hr, folder / "truth" / f"{file.stem}.png")
    for seed, name in enumerate(("wall", "sky"), 100):
        write_png(taken(plain(seed), seed), folder / "camera" / f"{name}.png")
    for file in sorted((data / "photos/crops").glob("*.jpg")):
        write_png(read_rgb(file), folder / "others" / f"{file.stem}.png")
    np.save(folder / "kernel.npy", camera_kernel())
    return folder


def call(*arguments: object) -> str:
    """Run the program in this process, and return its standard output."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    code = run([str(each) for each in arguments], Session(io.BytesIO(), out, err, {}))
    out, err = (stream.buffer.getvalue().decode() for stream in (out, err))
    assert code == 0, err
    return out


def scores(desk: Path, chain: str, name: str) -> dict[str, float]:
    """Train with a chain, upscale the photos that were held out, and compare with the truth."""
    (desk / f"{name}.yaml").write_text(RECIPE.replace("CHAIN", chain))
    collected(read_recipe(desk / f"{name}.yaml"), desk / name)
    network, result = desk / name / "camera-l1.safetensors", desk / f"result-{name}"
    call(desk / "held", "-n", network, "-o", result, "--name", "{stem}.png")
    metrics = ("--metrics", "psnr,st-lpips", "--json")
    rows = call("eval", "files", result, "--reference", desk / "truth", *metrics).splitlines()
    (mean,) = (row for row in map(json.loads, rows) if row["kind"] == "mean")
    return mean["values"]


@pytest.mark.slow
def test_a_network_trained_with_the_pools_cleans_other_photos_of_the_camera(desk):
    noise = ("dataset", "noise", desk / "camera", "-o", desk / "noise", "-j", "1")
    call(*noise, "--size", "32", "--variance", "60", "--mean", "30")
    assert len(images_below(desk / "noise")) > 40
    without, measured = scores(desk, BICUBIC, "without"), scores(desk, POOLS, "with")
    assert measured["psnr"] > without["psnr"] + 0.5
    assert measured["st-lpips"] < without["st-lpips"] - 0.04
