"""Damaged videos give a correct output or a one-line error."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.damage import run_limited
from tests.jobs.fuzz import KINDS, RICH

PROGRAM = Path(__file__).with_name("fuzz.py")
ALL = [*KINDS, RICH]
MEMORY = 8 * 1024**3
CASES = 10

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")


@pytest.mark.slow
def test_damaged_videos_give_a_correct_output_or_a_one_line_error(tmp_path):
    """For longer runs: `python tests/jobs/fuzz.py FOLDER mkv-x264,ts-x264 999 7`."""
    done = run_limited(PROGRAM, tmp_path, ",".join(ALL), CASES, 3, memory=MEMORY)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-400:]
    results = [line.partition(" ")[2] for line in done.stdout.splitlines()]
    assert len(results) == CASES * len(ALL)
    assert not [line for line in results if line.startswith("FAULT")]
    assert results.count("refused") > 5 and results.count("done reported") > CASES * len(ALL) // 4
