"""The README's examples run, and its tables name what is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from tests.video.clips import Clip, even, make
from upscale.checkpoints import catalog
from upscale.images.codecs.registry import Codec, codecs
from upscale.video.probe import probe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL_MODEL = "realesr-animevideov3"


def block(name: str) -> str:
    """The code between a `run: NAME` mark and its end."""
    found = re.search(rf"<!-- run: {name} -->\n```\w+\n(.*?)```\n<!-- end -->", README, re.DOTALL)
    assert found, name
    return found[1]


@pytest.fixture
def desk(tmp_path):
    """A folder with what the examples name, images small enough to be quick."""
    import torch

    from upscale.checkpoints import locate, read_state_dict

    photo = cv2.imread(str(ROOT / "examples" / "kitten.jpg"))[:40, :52]
    cv2.imwrite(str(tmp_path / "photo.jpg"), photo)
    (tmp_path / "scans" / "deeper").mkdir(parents=True)
    shutil.copy(tmp_path / "photo.jpg", tmp_path / "scans" / "one.jpg")
    shutil.copy(tmp_path / "photo.jpg", tmp_path / "scans" / "deeper" / "two.jpg")
    torch.save(read_state_dict(locate(catalog()[SMALL_MODEL])), tmp_path / "mine.pth")
    return tmp_path


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {
        "UPSCALE_MODEL": SMALL_MODEL,
        "UPSCALE_CONFIG": "",
        "UPSCALE_CACHE": str(folder / "cache"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.run(
        ["sh", "-euc", command],
        cwd=folder,
        env=environ,
        check=False,
        capture_output=True,
        text=True,
    )


def test_every_shell_example_runs(desk):
    for line in block("examples").splitlines():
        done = run(line, desk)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    for name, width in {
        "photo_x4.jpg": 208,
        "large.png": 130,
        "thumb.png": 300,
        "big/deeper/two.jpg": 208,
        "piped.jpg": 208,
        "blended.png": 208,
        f"photo-{SMALL_MODEL}-208x160.jpg": 208,
    }.items():
        assert cv2.imread(str(desk / name)).shape[1] == width, name
    assert not (desk / "other").exists()


def test_every_video_example_runs(desk):
    make(Clip(even(12), sound=True), desk / "clip.mp4")
    for line in block("videos").splitlines():
        done = run(line, desk)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert [len(probe(desk / name).plan) for name in ("large.mp4", "trial.mkv")] == [12, 5]
    assert cv2.imread(str(desk / "clip_preview.png")).shape[1] == 2 * 64 * 4 + 3 * 8
    assert cv2.imread(str(desk / "frame.png")).shape == (48 * 4, 64 * 4, 3)


def test_every_example_of_measuring_runs(desk):
    for folder in ("big", "originals", "photos"):
        (desk / folder).mkdir()
        shutil.copy(desk / "photo.jpg", desk / folder / "one.jpg")
    for line in block("measuring").splitlines():
        done = run(line, desk)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert "PSNR" in done.stdout and "one" in done.stdout
    assert (desk / "page.html").is_file() and (desk / "table.csv").is_file()


def test_every_training_example_runs(desk):
    (desk / "photos").mkdir()
    whole = cv2.imread(str(ROOT / "examples" / "kitten.jpg"))
    for number in range(3):
        cv2.imwrite(str(desk / "photos" / f"{number}.png"), whole[number : number + 100, :100])
    for line in block("upscale_training").splitlines():
        done = run(line, desk)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert len((desk / "usable.txt").read_text().splitlines()) == 3
    assert cv2.imread(str(desk / "trained.png")).shape == (160, 208, 3)


def test_the_library_example_runs(desk):
    code = block("library").replace('"realesrgan-x4plus"', f'"{SMALL_MODEL}"')
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=desk, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(desk / "large.png")).shape == (160, 208, 3)
    assert "exact" in done.stdout


def test_the_table_of_networks_is_the_catalogue():
    rows = re.findall(
        r"^\| `([\w-]+)`.*?\| (\d) \|.*\| (installed|fetched) \|$", README, re.MULTILINE
    )
    listed = {name: (int(scale), where == "installed") for name, scale, where in rows}
    there = {
        name: (entry.scale, entry.url is None)
        for name, entry in catalog().items()
        if name != "realesr-general-wdn-x4v3"  # the partner of --denoise, not for use alone
    }
    assert listed == there


def format_row(codec: Codec) -> str:
    """What the README's table says of a format."""
    traits = codec.traits
    assert traits is not None
    bits = {32: "8, 16, float", 16: "8, 16", 12: "8, 10, 12", 8: "8"}[traits.depth]
    colours = "256 colours" if not traits.lossy and not traits.lossless else bits
    cells = [
        codec.label,
        colours,
        "one channel" if traits.grey else "three equal",
        {"none": "", "binary": "all or nothing", "full": "yes"}[traits.alpha],
        {"one": "", "animation": "animation", "pages": "pages"}[traits.frames],
        "" if not traits.lossless else "`--lossless`" if traits.lossy else "always",
    ]
    fields = ("icc", "exif", "xmp", "iptc", "dpi", "comment")
    cells += ["yes" if field in traits.carries else "" for field in fields]
    return f"| {' | '.join(cells)} |"


def test_the_table_of_formats_is_what_the_code_does():
    """The other half of the proof is tests/images/test_traits.py."""
    table = README.partition("<!-- table: formats -->\n")[2].partition("<!-- end -->")[0]
    rows = [re.sub(r" +", " ", row) for row in table.splitlines()[2:]]
    writable = [codec for codec in codecs().values() if codec.traits]
    assert rows == [re.sub(r" +", " ", format_row(codec)) for codec in writable]
