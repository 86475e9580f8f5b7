"""Damaged videos through the whole program end in an honest output or in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.budget import cases
from tests.damage import run_limited
from tests.jobs.fuzz import KINDS, RICH

PROGRAM = Path(__file__).with_name("fuzz.py")
ALL = [*KINDS, RICH]
MEMORY = 8 * 1024**3
CASES = cases(10)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")


def test_damaged_videos_end_in_an_honest_output_or_in_one_line(tmp_path):
    """Longer runs are made by hand: `python tests/jobs/fuzz.py FOLDER mkv-x264,ts-x264 999 7`."""
    done = run_limited(PROGRAM, tmp_path, ",".join(ALL), CASES, 3, memory=MEMORY)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-400:]
    said = [line.partition(" ")[2] for line in done.stdout.splitlines()]
    assert len(said) == CASES * len(ALL)
    assert not [line for line in said if line.startswith("FAULT")]
    assert said.count("refused") > CASES // 2 and said.count("done told") > CASES * len(ALL) // 4
