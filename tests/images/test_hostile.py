from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.budget import cases
from tests.damage import run_limited
from upscale.images.formats import writable_traits

TRAITS = writable_traits()

PROGRAM = Path(__file__).with_name("hostile.py")
MEMORY = 3 * 1024**3
CASES = cases(250)
FOREIGN = ("jpeg2000", "ico", "pnm", "qoi", "psd")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")


def test_hostile_files_are_read_or_rejected_on_one_line(data):
    done = run_limited(PROGRAM, "walk", data / "images", memory=MEMORY)
    assert (done.stderr, done.returncode) == ("", 0)
    seen = done.stdout.split()
    assert seen.count("image") > 170 and seen.count("rejected") > 50


@pytest.mark.parametrize("format", [*TRAITS, *FOREIGN])
def test_damaged_files_are_read_or_rejected_on_one_line(format, tmp_path):
    """Longer runs are made by hand: `python tests/images/hostile.py fuzz png 100000 7`."""
    done = run_limited(PROGRAM, "fuzz", format, CASES, 11, tmp_path, memory=MEMORY)
    assert (done.stderr, done.returncode) == ("", 0), done.stdout[-40:]
    assert done.stdout.count("rejected") > CASES // 20
    assert done.stdout.count("rejected") + done.stdout.count("image") == CASES
