"""A batch that is killed or interrupted, and repeated: the real program with a real network."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from tests.cli.test_program import rest_of
from upscale.checkpoints import availability, catalog
from upscale.files.atomic import temporary_file

QUICK = "realesr-animevideov3"
PART = re.compile(r"\.upscale-[0-9a-f]{16}\.part")
NAMES = tuple(f"{number}.png" for number in range(6))

pytestmark = [
    pytest.mark.skipif(availability(catalog()[QUICK]) == "absent", reason=f"{QUICK} is not here"),
    pytest.mark.skipif(os.name == "nt", reason="signals are of another kind there"),
]


@pytest.fixture
def folder(photo, tmp_path) -> Path:
    """Six images; the later ones take long enough to be met by a signal."""
    for number, name in enumerate(NAMES):
        side = 24 if number < 2 else 360
        small = cv2.imread(str(photo(f"in/{name}", 24, 24)))
        cv2.imwrite(str(tmp_path / "in" / name), cv2.resize(small, (side, side)))
    return tmp_path / "in"


@pytest.fixture
def start(tmp_path, program_environment):
    """Start the program on the folder and wait for its first line."""

    def start(*flags: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "upscale", "in", "-o", "out/", "-n", QUICK, "--json", *flags],
            cwd=tmp_path,
            env=program_environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=restore_signals,  # noqa: PLW1509
        )
        assert process.stdout is not None
        return process, process.stdout.readline()

    return start


def restore_signals() -> None:
    """Restore the signals that a test run in the background ignores."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def check_whole(tmp_path: Path, size_of) -> set[str]:
    """Every output can be read by another reader and has its size; returns their names."""
    outputs = {path.name for path in (tmp_path / "out").iterdir() if path.suffix == ".png"}
    for name in outputs:
        side = size_of(tmp_path / "in" / name)[0] * 4
        assert size_of(tmp_path / "out" / name) == (side, side)
    return outputs


def records(lines: str) -> dict[str, str]:
    parsed = [json.loads(line) for line in lines.splitlines()]
    return {Path(record["input"]).name: record["status"] for record in parsed}


@pytest.mark.slow
def test_a_killed_batch_leaves_complete_outputs_and_is_resumed(
    folder, start, program, tmp_path, size_of
):
    process, first = start()
    os.killpg(process.pid, signal.SIGKILL)
    reported = records(first + rest_of(process)[0])
    assert process.returncode == -signal.SIGKILL
    finished = check_whole(tmp_path, size_of)
    assert set(reported) <= finished < set(NAMES), "an output that was reported is there"
    others = [p.name for p in (tmp_path / "out").iterdir() if p.name not in finished]
    assert all(PART.fullmatch(name) for name in others)
    assert len(others) <= 2
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in finished}

    again = program("in", "-o", "out/", "-n", QUICK, "--json", "--skip-existing")
    assert again.code == 0, again.err
    assert records(again.out) == {name: "skipped" if name in finished else "done" for name in NAMES}
    assert check_whole(tmp_path, size_of) == set(NAMES)
    assert {p.name for p in (tmp_path / "out").iterdir()} == set(NAMES), "no stale temporary files"
    for name, modified in before.items():
        assert (tmp_path / "out" / name).stat().st_mtime_ns == modified


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_batch_reports_every_output_and_leaves_nothing_else(
    number, folder, start, tmp_path, size_of
):
    process, first = start()
    os.killpg(process.pid, number)
    out, err = rest_of(process)
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in err
    finished = check_whole(tmp_path, size_of)
    assert records(first + out) == dict.fromkeys(finished, "done")
    assert {p.name for p in (tmp_path / "out").iterdir()} == finished
    assert len(finished) < len(NAMES)
    assert f"{len(NAMES) - len(finished)} not started" in err


def test_temporary_files_of_another_running_batch_are_kept(folder, program, tmp_path):
    (tmp_path / "out").mkdir()
    dead = tmp_path / "out" / ".upscale-0123456789abcdef.part"
    dead.write_bytes(b"left by a killed run")
    mine = tmp_path / "out" / ".upscale-notes.part"
    mine.write_bytes(b"of somebody else")
    with temporary_file(tmp_path / "out") as (alive, _):
        ended = program("in/0.png", "-o", "out/", "-n", QUICK)
        assert ended.code == 0, ended.err
        left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"0.png", alive.name, mine.name}
    assert not alive.exists()


def test_a_dry_run_removes_no_stale_temporary_files(folder, program, tmp_path):
    (tmp_path / "out").mkdir()
    dead = tmp_path / "out" / ".upscale-0123456789abcdef.part"
    dead.write_bytes(b"left by a killed run")
    assert program("in", "-o", "out/", "--dry-run").code == 0
    assert dead.exists()
