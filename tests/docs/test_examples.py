"""Every example in the README and the documentation runs."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.docs.pages import ROOT, Block, blocks
from tests.video.clips import Clip, even, make
from upscale.checkpoints import catalog, locate, read_state_dict
from upscale.cli.app import run as run_program
from upscale.cli.session import Session
from upscale.images import Encoding, TextureEncoding, read_image, write_file

SMALL_MODEL = "realesr-animevideov3"
RUN_BY_CI = {"install", "tests"}
"""Blocks of the README that `.ci/run` extracts and runs in a fresh environment."""

FIRST_PAGES = ("README.md", "docs/quick-start.md")
"""Pages whose examples work in a checkout, one after the other."""

RUNNABLE = [block for block in blocks() if block.name and block.name not in RUN_BY_CI]


@pytest.fixture(scope="module")
def supplies(tmp_path_factory) -> Path:
    """The files that examples name, small enough to be quick."""
    import torch

    folder = tmp_path_factory.mktemp("supplies")
    photo = cv2.imread(str(ROOT / "examples" / "kitten.jpg"))
    cv2.imwrite(str(folder / "photo.jpg"), photo[:40, :52])
    for path in ("scans/one.jpg", "scans/deeper/two.jpg", "originals/one.jpg", "big/one.jpg"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "photo.jpg", folder / path)
    (folder / "examples").mkdir()
    for name in ("kitten.jpg", "dog.jpg"):
        shutil.copy(folder / "photo.jpg", folder / "examples" / name)
    make(Clip(even(12), sound=True), folder / "examples" / "pan.mp4")
    (folder / "photos").mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / "photos" / f"{number}.png"), photo[number : number + 100, :100])
    face = cv2.imdecode(
        np.fromfile(ROOT / "tests/data/photos/faces/girl.webp", np.uint8), cv2.IMREAD_COLOR
    )
    cv2.imwrite(str(folder / "portrait.jpg"), cv2.resize(face, (64, 64)))
    make_textures(folder, photo)
    make_camera(folder, photo)
    torch.save(read_state_dict(locate(catalog()[SMALL_MODEL])), folder / "mine.pth")
    make(Clip(even(12), sound=True), folder / "clip.mp4")
    return folder


def make_textures(folder: Path, photo) -> None:
    """Write a texture, a normal map, a panorama and a sky."""
    small = photo[:32, :40]
    for name in ("bricks.png", "panorama.jpg", "wall_normal.png"):
        cv2.imwrite(str(folder / name), small)
    cv2.imwrite(str(folder / "sky.hdr"), (small / 40).astype("float32"))
    texture = TextureEncoding("bc7", mipmaps=True)
    image = read_image(folder / "bricks.png")
    write_file(image, folder / "bricks.dds", format="dds", encoding=Encoding(texture=texture))


def make_camera(folder: Path, photo) -> None:
    """Write a noisy photo of a plain wall, a kernel, and the recipe of the page on cameras."""
    wall = np.full((192, 192, 3), 128.0)
    wall[64:, 64:] = photo[:128, :128]
    wall += np.random.default_rng(0).normal(0, 5, wall.shape)
    (folder / "camera").mkdir()
    cv2.imwrite(str(folder / "camera" / "wall.png"), wall.round().clip(0, 255))
    np.save(folder / "kernel.npy", np.full((3, 3), 1 / 9))
    page = "docs/how-to/real-photos.md"
    (recipe,) = (each.code for each in blocks() if (each.page, each.language) == (page, "yaml"))
    (folder / "mycamera.yaml").write_text(recipe)


@pytest.fixture
def desk(supplies, tmp_path, monkeypatch) -> Path:
    """A copy of the supplies as the working folder, with a cache and settings of its own."""
    folder = tmp_path / "desk"
    shutil.copytree(supplies, folder)
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("UPSCALE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UPSCALE_MODEL", SMALL_MODEL)
    monkeypatch.setenv("UPSCALE_CONFIG", "")
    monkeypatch.setenv("UPSCALE_OFFLINE", "1")
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "training")]))
    return folder


def run_shell(code: str) -> str:
    """Run the lines of a shell block and return their standard output."""
    output = ""
    for line in code.replace("\\\n", " ").splitlines():
        command = re.sub(r"\s+#.*$", "", line)
        if re.fullmatch(r"upscale (?!train)[^|<>$;&]*", command):
            done, text, errors = _run_here(shlex.split(command)[1:])
        else:
            ended = subprocess.run(
                ["sh", "-euc", command], check=False, capture_output=True, text=True
            )
            done, text, errors = ended.returncode, ended.stdout, ended.stderr
        assert done == 0, f"{line}\n{errors}"
        output += text
    return output


def _run_here(arguments: list[str]) -> tuple[int, str, str]:
    """Run the program in this process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    code = run_program(arguments, Session(io.BytesIO(), out, err, dict(os.environ)))
    return code, *(stream.buffer.getvalue().decode() for stream in (out, err))


def run_python(code: str) -> str:
    """Run a Python block in a process of its own and return its standard output."""
    code = code.replace('"realesrgan-x4plus"', f'"{SMALL_MODEL}"')
    ended = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def width(path: Path) -> int:
    return cv2.imread(str(path)).shape[1]


def frames(path: Path) -> int:
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


WIDTHS = {
    "first-steps": {"dog_x4.png": 208, "upscaled/kitten.jpg": 208},
    "library": {"large.png": 104},
    "quick-photo": {"kitten_x4.jpg": 208},
    "quick-size": {"large.png": 130},
    "quick-folder": {"upscaled/kitten.jpg": 208},
    "photo-sizes": {"large.png": 130, "wide.jpg": 120, "thumb.png": 300},
    "photo-names": {
        "result.webp": 208,
        "photo_x4.png": 208,
        f"photo-{SMALL_MODEL}-208x160.jpg": 208,
        "piped.jpg": 208,
    },
    "photo-metadata": {"clean.webp": 208},
    "seamless": {"bricks_large.png": 160, "panorama_large.jpg": 300},
    "normal-map": {"wall_normal_hd.png": 160},
    "hdr": {"sky_large.hdr": 160, "sky.png": 640},
    "folders": {"upscaled/deeper/two.jpg": 208},
    "shards": {"upscaled/one.jpg": 208, "upscaled/deeper/two.jpg": 208},
    "lists": {"found/one.jpg": 208},
    "environment": {"photo_300x231.png": 300},
    "script": {"scans/one.png": 104},
    "own-network": {"mine.png": 208, "imported.png": 208},
    "blend": {"blended.png": 208},
    "training": {"trained.png": 208},
    "reproduce": {"reproduced.png": 208},
    "fine-tune": {"tuned.png": 208},
    "train-fast": {"fast.png": 156},
    "real-photos": {"cleaned.png": 104},
    "videos": {"frame.png": 64 * 4, "clip_preview.png": 2 * 64 * 4 + 3 * 8},
    "degrade": {"set/gt/0.png": 100, "set/lq/0.png": 25},
    "python-inputs": {"from_pil.png": 104, "from_file.jpg": 150},
    "coming-from": {"results/photo_out.png": 104},
    "large-outputs": {"photo_x4.jpg": 208},
}
"""Widths in pixels of the images that examples write."""

WRITTEN = {
    "first-steps": ["comparison.html", "pan_x2.mp4"],
    "quick-compare": ["comparison.html"],
    "quick-video": ["examples/pan_preview.png", "pan_x2.mp4"],
    "try-networks": ["photo_models.html"],
    "video-shards": ["clip_x4.mkv"],
    "video-folder": ["large_clips/one.mp4", "large_clips/two.mp4"],
    "video-images": ["frames/00001.png", "frames/00004.png", "again.mkv"],
    "dds": ["bricks_hd.dds", "bricks_bc1.dds", "plain.dds", "bricks_hd.tga"],
    "compare": ["comparison.html"],
    "export": ["exported.param", "exported.bin", "exported.pth", "exported.md"],
    "measuring": ["page.html", "table.csv"],
    "training": ["usable.txt", "grid.png"],
    "real-photos": ["samples.png"],
    "coming-from": ["large.mp4"],
}
"""Other files that examples write."""

PRINTED = {
    "quick-doctor": "result:",
    "networks": "upscale-x4-fast",
    "own-network-python": "exact",
    "measuring": "PSNR",
    "measuring-networks": "PSNR",
    "python": "(96, 128, 3)",
}
"""Parts of what examples print."""


def check_block(block: Block, desk: Path) -> None:
    """Run an example and check what it writes and prints."""
    output = run_python(block.code) if block.language == "python" else run_shell(block.code)
    for name, expected in WIDTHS.get(block.name, {}).items():
        assert width(desk / name) == expected, name
    for name in WRITTEN.get(block.name, []):
        assert (desk / name).stat().st_size > 0, name
    assert PRINTED.get(block.name, "") in output


@pytest.mark.parametrize(
    "block",
    [block for block in RUNNABLE if block.page not in FIRST_PAGES],
    ids=lambda block: f"{block.page}:{block.name}",
)
def test_the_example_runs(block: Block, desk: Path):
    check_block(block, desk)
    if block.name == "videos":
        assert [frames(desk / name) for name in ("large.mp4", "sample.mkv")] == [12, 5]
    if block.name == "folders":
        assert not (desk / "png").exists(), "--dry-run writes nothing"
    if block.name == "degrade":
        assert (desk / "same.png").is_file()


@pytest.mark.parametrize("page", FIRST_PAGES)
def test_the_first_pages_work_as_typed_in_a_checkout(page: str, desk: Path):
    """All examples of a page run one after the other, with no files but those of the repository."""
    for path in desk.iterdir():
        if path.name != "examples":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in desk.rglob("*"):
        assert (ROOT / path.relative_to(desk)).exists()
    for block in RUNNABLE:
        if block.page == page:
            check_block(block, desk)


def test_every_block_is_run_or_says_why_not():
    unmarked = [
        f"{block.page}: {block.code.splitlines()[0]}"
        for block in blocks()
        if block.language in {"sh", "python"} and not (block.name or block.reason)
    ]
    assert unmarked == []


def test_names_of_blocks_are_unique_and_expectations_have_a_block():
    names = [block.name for block in blocks() if block.name]
    assert len(names) == len(set(names))
    assert set(WIDTHS) | set(WRITTEN) | set(PRINTED) <= set(names)
    assert set(names) >= RUN_BY_CI
