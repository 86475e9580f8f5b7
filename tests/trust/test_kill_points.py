"""Runs that are killed at random moments, many times; slow, and the counts are printed."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tests.budget import rounds
from tests.jobs.test_video import decoded
from tests.video.clips import make_kind
from upscale.video.segments import folder_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="signals are of another kind there"),
]

ROOT = Path(__file__).parents[2]
KILLS_OF_BATCHES, KILLS_OF_VIDEOS = rounds(30), 12
IMAGES = 12
TEMPORARY = re.compile(r"\.upscale-[0-9a-f]{16}\.part")

BATCH = """
import sys, time
from tests.jobs.conftest import NearestUpscaler
from upscale.jobs import ModelInfo, make_plan, run_batch
from upscale.options import Options, OutputOptions

class Slow(NearestUpscaler):
    def run(self, array, **options):
        time.sleep(0.03)
        return super().run(array, **options)

options = Options(output=OutputOptions(output=sys.argv[2] + "/", skip_existing=True))
print("ready", flush=True)
plan = make_plan([sys.argv[1]], options, ModelInfo("net", 2), lambda: b"")
run_batch(plan, options, {"cpu": Slow}, lambda event: None)
print("done", flush=True)
"""

VIDEO = """
import sys, time
from pathlib import Path
from tests.jobs.test_video import Doubling, upscale
import upscale.video.segments as segments
segments.SEGMENT_FRAMES = 4

class Slow(Doubling):
    def run_tensor(self, image, *, size=None):
        time.sleep(0.02)
        return super().run_tensor(image, size=size)

print("ready", flush=True)
upscale(Path(sys.argv[1]), Path(sys.argv[2]), Slow())
print("done", flush=True)
"""


def start(script: str, *arguments: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def finish(script: str, *arguments: Path) -> float:
    """Run to the end, and return the seconds after the start."""
    process = start(script, *arguments)
    began = time.monotonic()
    assert process.communicate()[0] == "done\n"
    return time.monotonic() - began


def kill(script: str, *arguments: Path, after: float) -> bool:
    """Kill a run after some seconds; return whether it was still running."""
    process = start(script, *arguments)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    return process.communicate()[0] == ""


def test_a_batch_that_is_killed_again_and_again_is_complete(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (IMAGES, 200, 300, 3)).astype(np.uint8)
    for number, pixels in enumerate(noise):
        PILImage.fromarray(pixels).save(tmp_path / "in" / f"{number}.png")
    lasts = finish(BATCH, tmp_path / "in", tmp_path / "whole")
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert len(whole) == IMAGES
    chance, out = random.Random(1), tmp_path / "out"
    midway = temporaries = 0
    for number in range(KILLS_OF_BATCHES):
        if number % 5 == 0:
            out = tmp_path / f"out{number}"
        midway += kill(BATCH, tmp_path / "in", out, after=chance.uniform(0, lasts / 3))
        for path in out.iterdir() if out.exists() else ():
            is_temporary = TEMPORARY.fullmatch(path.name) is not None
            temporaries += is_temporary
            assert is_temporary or path.read_bytes() == whole[path.name], path
        if number % 5 == 4:
            finish(BATCH, tmp_path / "in", out)
            assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    assert midway
    with capsys.disabled():
        print(
            f"\n{KILLS_OF_BATCHES} kills of batches, {midway} of them midway: every output was "
            f"complete; {temporaries} temporary files were left, and removed by the next run"
        )


def test_a_video_that_is_killed_again_and_again_has_the_same_frames(tmp_path, capsys):
    source = make_kind("vfr", tmp_path)
    lasts = finish(VIDEO, source, tmp_path / "whole.mkv")
    whole = decoded(tmp_path / "whole.mkv")
    chance = random.Random(2)
    midway = resumed = 0
    for number in range(KILLS_OF_VIDEOS):
        output = tmp_path / f"out{number // 4}.mkv"
        midway += kill(VIDEO, source, output, after=chance.uniform(0, lasts / 2))
        journal = folder_for(output) / "journal.jsonl"
        resumed += journal.read_bytes().count(b"\n") if journal.exists() else 0
        if output.exists():
            assert decoded(output) == whole
            output.unlink()
        if number % 4 == 3:
            finish(VIDEO, source, output)
            assert decoded(output) == whole
            assert not folder_for(output).exists()
    assert midway and resumed
    with capsys.disabled():
        print(
            f"\n{KILLS_OF_VIDEOS} kills of videos, {midway} of them midway: all frames equal; "
            f"{resumed} segments were kept"
        )
