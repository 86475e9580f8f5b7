from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from upscale.pictures.formats import TRAITS

PROGRAM = Path(__file__).with_name("hostile.py")
MEMORY = 3 * 1024**3
SECONDS_OF_WORK = 300
CASES = 250
FOREIGN = ("jpeg2000", "tga", "ico", "pnm", "dds", "qoi")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")


def limited():
    """Bounds memory, and work rather than time: a hang burns its share and is killed."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_OF_WORK, SECONDS_OF_WORK))


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), *map(str, arguments)],
        capture_output=True,
        text=True,
        preexec_fn=limited,
        check=False,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": str(PROGRAM.parents[2]),
        },
    )


def test_every_hostile_file_ends_in_a_picture_or_one_line(shared):
    done = run("walk", shared("robustness/MANIFEST.csv").parent)
    assert (done.stderr, done.returncode) == ("", 0)
    seen = done.stdout.split()
    assert seen.count("picture") > 230 and seen.count("refused") > 60


@pytest.mark.parametrize("format", [*TRAITS, *FOREIGN])
def test_damaged_files_end_in_a_picture_or_one_line(format, tmp_path):
    """Longer runs are made by hand: `python tests/pictures/hostile.py fuzz png 100000 7`."""
    done = run("fuzz", format, CASES, 11, tmp_path)
    assert (done.stderr, done.returncode) == ("", 0), done.stdout[-40:]
    assert done.stdout.count("refused") > CASES // 20
    assert done.stdout.count("refused") + done.stdout.count("picture") == CASES
