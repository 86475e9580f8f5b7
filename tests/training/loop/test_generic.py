"""The generic super-resolution of Samsung at a toy size: from photos to an upscaled image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from upscale_training.data.pixels import read_rgb, write_png

from upscale.cli.app import run
from upscale.cli.session import Session

SMALL = {
    "network.features": 8, "network.groups": 1, "network.blocks": 1, "network.reduction": 4,
    "data.workers": 0,
}  # fmt: skip
GAN = {"iterations": 1, "batch": 1, "perceptual": "null", "gan.discriminator.features": 4}


def call(*arguments):
    assert run([str(argument) for argument in arguments], Session.of_process()) == 0, arguments


def train(name, folder, **settings):
    """Train a bundled recipe at a toy size; underscores of keys are dots."""
    values = SMALL | {key.replace("__", "."): value for key, value in settings.items()}
    options = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    call("train", name, "-o", folder, "--device", "cpu", "--quiet", *options)
    return folder / f"{name}-gan.safetensors"


def gan_stage(number):
    return {f"stages__{number}__{key.replace('.', '__')}": value for key, value in GAN.items()}


@pytest.fixture
def photos(data, tmp_path):
    """Photographs of 300 pixels, and the same scenes as a phone sees them."""
    turn = np.array([[0.99, -0.05, 9.0], [0.05, 0.99, -4.0], [0, 0, 1]])
    for file in sorted((data / "photos/scenes").glob("*.webp"))[:3]:
        scene = cv2.resize(read_rgb(file)[:256, :256], (300, 300))
        write_png(scene, tmp_path / "camera" / f"{file.stem}.png")
        phone = cv2.warpPerspective(scene, turn, (300, 300)) * 0.8
        write_png(phone.round().astype(np.uint8), tmp_path / "phone" / f"{file.stem}.png")
    return tmp_path


@pytest.mark.slow
def test_two_gans_are_fused_and_fine_tuned_for_a_phone(photos, monkeypatch):
    monkeypatch.chdir(photos)
    source = {"data__sources__0__path": photos / "camera", "data__margin": 16}
    psnr = {"stages__0__iterations": 1, "stages__0__batch": 1}
    relativistic = train("generic-x4", photos / "r", **source, **psnr, **gan_stage(1))
    start = photos / "r" / "generic-x4-psnr.safetensors"
    standard = train("generic-x4-standard", photos / "s", start=start, **source, **gan_stage(0))
    assert relativistic.read_bytes() != standard.read_bytes()

    call("models", "fuse", relativistic, standard, "-o", "fusion.json", "--gamma", "256")
    small = cv2.resize(read_rgb(next((photos / "phone").glob("*.png"))), (40, 30))
    write_png(small, photos / "small.png")
    call("small.png", "-n", "fusion.json", "-o", "large.png", "--device", "cpu")
    assert read_rgb(photos / "large.png").shape == (120, 160, 3)

    call("dataset", "register", "phone", "camera", "-o", "pairs", "-j", "1")
    assert len(list((photos / "pairs/phone").glob("*.png"))) >= 3
    call("pairs/camera", "-o", "pairs/teacher", "-n", relativistic, "--format", "png",
         "--device", "cpu")  # fmt: skip
    mobile = train(
        "mobile-x4",
        photos / "m",
        start=relativistic,
        data__sources__0__path=photos / "pairs/teacher",
        data__sources__0__low=photos / "pairs/phone",
        **gan_stage(0),
    )
    call("small.png", "-n", mobile, "-o", "mobile.png", "--device", "cpu")
    assert read_rgb(photos / "mobile.png").shape == (120, 160, 3)
