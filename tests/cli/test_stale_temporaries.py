"""Temporary files that killed runs left beside outputs; the next run removes them."""

from __future__ import annotations

import pytest

from tests.video.clips import KINDS, make
from upscale.checkpoints import availability, catalog

QUICK = "realesr-animevideov3"
STALE = ".upscale-0123456789abcdef.part"

COMMANDS = {
    "images": ["a.png", "-o", "out/b.png"],
    "compare": ["compare", "a.png", "b.png", "-o", "out/page.html"],
    "eval": [
        "eval",
        "a.png",
        "--reference",
        "b.png",
        "--metrics",
        "psnr",
        "--html",
        "out/page.html",
    ],
    "table": ["eval", "a.png", "--reference", "b.png", "--metrics", "psnr", "-o", "out/table.csv"],
    "blend": ["models", "blend", QUICK, QUICK, "-o", "out/mix.safetensors"],
    "preview": ["video", "a.mp4", "out/b.png", "--preview", "--at", "0", "-n", QUICK],
    "video": ["video", "a.mp4", "out/b.mp4", "-n", QUICK],
}


@pytest.mark.skipif(availability(catalog()[QUICK]) == "absent", reason=f"{QUICK} is not here")
@pytest.mark.parametrize("command", COMMANDS)
def test_temporary_file_of_a_killed_run_is_removed(command, real_call, photo, tmp_path):
    photo("a.png")
    photo("b.png")
    if command in ("video", "preview"):
        make(KINDS["one"], tmp_path / "a.mp4")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / STALE).touch()
    (tmp_path / "out" / "mine.part").touch()
    words = COMMANDS[command] + (["-n", QUICK] if command == "images" else [])
    ended = real_call(*words)
    assert ended.code == 0, ended.err
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert STALE not in names and len(names) == 2 and "mine.part" in names
