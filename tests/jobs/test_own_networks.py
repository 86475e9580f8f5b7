"""Every network that this project has trained does no harm to clean photos and text."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from upscale.checkpoints import catalog
from upscale.cli.app import run
from upscale.cli.session import Session

PHOTOS = ("city", "dog", "flowers", "girl")
TEXTS = ("aileron-16", "rubik-16", "camera-24", "sign")
# A fast network of scale 4 is mostly used at 2, where the original has more to lose.
SCALES = {entry.name: min(entry.scale, 2) for entry in catalog().values() if entry.file}
HARMFUL: dict[str, str] = {}

OWN = [
    pytest.param(
        name,
        marks=[pytest.mark.xfail(reason=HARMFUL[name], strict=True, raises=AssertionError)]
        if name in HARMFUL
        else [],
    )
    for name in SCALES
]


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """Run the gate of `upscale eval models` on images and return its exit code and record."""
    for name in [name for name in os.environ if name.startswith("UPSCALE_")]:
        if name != "UPSCALE_CACHE":
            monkeypatch.delenv(name)

    def judged(network: str, images: dict[str, Image.Image], metrics: str) -> tuple[int, dict]:
        folder = tmp_path / "originals"
        folder.mkdir()
        for name, image in images.items():
            image.save(folder / f"{name}.png")
        scale = str(SCALES[network])
        arguments = ["eval", "models", network, "--on", str(folder), "-s", scale, "--gate"]
        arguments += ["--degrade", "classical", "--metrics", metrics, "--json"]
        out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
        session = Session(io.BytesIO(), out, io.StringIO(), {"UPSCALE_CONFIG": ""})
        code = run(arguments, session)
        lines = [json.loads(line) for line in out.buffer.getvalue().splitlines()]
        [gate] = [line for line in lines if line["kind"] == "gate"]
        return code, gate

    return judged


def opened(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


@pytest.mark.parametrize("network", OWN)
def test_clean_photos_are_not_harmed(network, judged, data):
    corner = (64, 64, 192, 192)
    photos = {n: opened(data / f"photos/scenes/{n}.webp").crop(corner) for n in PHOTOS}
    code, gate = judged(network, photos, "psnr-y,st-lpips")
    assert code == 0 and gate["passed"], gate["checks"]
    assert [check["images"] for check in gate["checks"]] == [len(PHOTOS)] * 2


@pytest.mark.parametrize("network", OWN)
def test_text_stays_legible(network, judged, data):
    if shutil.which("tesseract") is None:
        pytest.skip("tesseract is not installed")
    texts = {name: opened(data / f"text/{name}.webp") for name in TEXTS}
    _, gate = judged(network, texts, "psnr-y,st-lpips,text")
    [check] = [check for check in gate["checks"] if check["metric"] == "text"]
    assert check["images"] == len(TEXTS), "bicubic leaves all of them legible"
    assert check["passed"], check
