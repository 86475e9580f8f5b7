"""The script that trains the networks of this project, from a folder of photos to the weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from upscale_training.recipes import bundled

from upscale import Upscaler

SCRIPT = next(iter(bundled().values())).with_name("upscale-own.sh")
WEIGHTS = {
    "upscale-x4-fast.safetensors": 4,
    "upscale-x2-fast.safetensors": 2,
    "last/upscale-x1-grain.safetensors": 1,
}
OPTIONS = (
    "stages.0.iterations=1", "stages.0.batch=1", "stages.0.schedule.milestones=[]",
    "stages.0.schedule.warmup=0", "stages.0.perceptual=null", "computing.precision=fp32",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_photos_and_graphics_become_the_three_networks(tmp_path, data):
    for kind, source in (("photos", "scenes/girl.webp"), ("graphics", "scenes/house.webp")):
        (tmp_path / kind).mkdir()
        image = Image.open(data / "photos" / source).convert("RGB").resize((512, 512))
        image.save(tmp_path / kind / f"{kind}.png")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TEXTS": "2",
        "OPTIONS": " ".join(f"--set {each}" for each in OPTIONS),
    }
    subprocess.run(
        ["sh", SCRIPT, "photos", "graphics", "out"], cwd=tmp_path, env=environment, check=True
    )
    for name, scale in WEIGHTS.items():
        assert Upscaler(tmp_path / "out" / name, device="cpu").model_scale == scale
