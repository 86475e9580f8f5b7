"""Damaged films end in frames and an honest report, or in one line; never in a crash or a hang."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.damage import run_limited
from tests.video.damaged import KINDS

PROGRAM = Path(__file__).with_name("damaged.py")
MEMORY = 4 * 1024**3
CASES = 120

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_films_end_in_frames_or_one_line(kind, tmp_path):
    """Longer runs are made by hand: `python tests/video/damaged.py FOLDER mkv 10000 7`."""
    done = run_limited(PROGRAM, tmp_path, kind, CASES, 3, memory=MEMORY)
    assert done.returncode == 0, (done.stdout[-40:], done.stderr[-2000:])
    assert "Traceback" not in done.stderr
    said = done.stdout.split()[1::2]
    assert len(said) == CASES
    assert said.count("damaged") + said.count("refused") > (5 if kind == "gif" else CASES // 4)
    # What is cut out of a GIF may take frames along without a trace.
    assert said.count("silent") <= (CASES // 10 if kind == "gif" else 0)
