from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from upscale_training.data.index import images_below, read_index
from upscale_training.data.lmdb import read_keys


@pytest.fixture
def folder(photo, tmp_path) -> Path:
    """Three images and a damaged one."""
    for number in range(3):
        photo(f"in/{number}.png", 40 + number, 32)
    (tmp_path / "in" / "bad.png").write_bytes(b"nothing of the kind")
    return tmp_path / "in"


def records(out: str) -> dict[str, dict]:
    return {Path(record["input"]).name: record for record in map(json.loads, out.splitlines())}


def test_scan_lists_usable_images_and_reports_the_others(call, folder, photo):
    photo("in/again.bmp", 41, 32)
    ended = call("dataset", "scan", folder, "-o", "index.txt", "--smallest", "32", "-j", "1")
    assert ended.code == 3
    assert "again.bmp: is the same image as 1.png\n" in ended.out
    assert "5 images, 3 usable, 1 failed" in ended.err
    assert "error: " in ended.err and "bad.png" in ended.err
    assert [line.name for line in read_index(Path("index.txt"))] == ["0.png", "1.png", "2.png"]
    assert ended.out.splitlines()[-1] == "index.txt"


def test_scan_prints_a_json_line_for_every_image(call, folder):
    ended = call("dataset", "scan", folder, "--json", "-j", "1", "--smallest", "33")
    results = records(ended.out)
    assert sorted(results) == ["0.png", "1.png", "2.png", "bad.png"]
    assert (results["0.png"]["status"], results["bad.png"]["status"]) == ("done", "failed")
    assert (results["0.png"]["small"], results["0.png"]["usable"]) == (True, False)
    assert "bad.png" in results["bad.png"]["error"]


def test_a_scan_with_a_report_reads_only_new_images(call, folder, photo):
    arguments = ("dataset", "scan", folder, "--report", "report.jsonl", "-j", "1", "--json")
    first = records(call(*arguments).out)
    lines = [json.loads(line) for line in Path("report.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == sorted(first)
    edited = Path("report.jsonl").read_text().replace(lines[0]["digest"], "marked")
    Path("report.jsonl").write_text(edited)
    photo("in/new.png", 24, 24)
    again = records(call(*arguments).out)
    assert again["0.png"]["digest"] == "marked"
    assert again["new.png"]["width"] == 24
    assert again["bad.png"]["status"] == "failed"


def test_multiscale_writes_copies_once(call, wide, tmp_path):
    ended = call("dataset", "multiscale", wide, "-o", "out", "-j", "2")
    assert (ended.code, ended.out) == (0, "out\n")
    assert "3 images, 12 written in " in ended.err
    again = call("dataset", "multiscale", wide, "-o", "out", "-j", "2", "--json")
    assert {(one["status"], one["kept"]) for one in records(again.out).values()} == {("skipped", 4)}
    assert "3 images, 0 written, 12 already exist in " in again.err


def test_crop_cuts_and_counts(call, folder):
    ended = call("dataset", "crop", folder, "-o", "out", "--size", "16", "--step", "16", "--json",
                 "-j", "1")  # fmt: skip
    results = records(ended.out)
    assert ended.code == 3
    assert results["0.png"] | {"input": ""} == {
        "input": "", "status": "done", "error": None, "written": 6, "kept": 0
    }  # fmt: skip
    assert (results["bad.png"]["status"], "bad.png" in results["bad.png"]["error"]) == (
        "failed",
        True,
    )
    assert len(images_below(Path("out"))) == 18


def test_commands_use_only_the_images_of_an_index(call, folder):
    call("dataset", "scan", folder, "-o", "good.txt", "-j", "1")
    for command, target in (("crop", "out"), ("multiscale", "small"), ("lmdb", "set.lmdb")):
        ended = call("dataset", command, folder, "-o", target, "--index", "good.txt", "-j", "1")
        assert (ended.code, ended.out) == (0, f"{target}\n")
    assert read_keys(Path("set.lmdb")) == ["0", "1", "2"]


def test_index_lists_sizes(call, folder):
    ended = call("dataset", "index", folder, "-o", "index.txt", "-j", "1")
    assert ended.code == 3
    assert Path("index.txt").read_text() == ("0.png (32,40,3)\n1.png (32,41,3)\n2.png (32,42,3)\n")
    assert call("dataset", "index", folder, "-o", "index.txt").code == 1
    ended = call("dataset", "index", folder, "-o", "index.txt", "--overwrite", "--quiet", "-j", "1")
    assert (ended.code, ended.out) == (3, "")


def test_index_lists_pairs_that_fit(call, photo, tmp_path):
    for number in range(3):
        photo(f"high/{number}.png", 40, 32)
        photo(f"low/{number}.png", 20, 16 if number else 15)
    flags = ("--low", "low", "--scale", "2", "-j", "1")
    ended = call("dataset", "index", "high", "-o", "pairs.txt", *flags)
    assert ended.code == 3
    assert Path("pairs.txt").read_text() == "1.png, 1.png\n2.png, 2.png\n"
    assert "not 2 times its LR image of 20x15" in ended.err


def test_lmdb_packs_images(call, folder):
    ended = call("dataset", "lmdb", folder, "-o", "set.lmdb", "-j", "1")
    assert (ended.code, ended.out) == (3, "set.lmdb\n")
    assert read_keys(Path("set.lmdb")) == ["0", "1", "2"]
    assert "exists already" in call("dataset", "lmdb", folder, "-o", "set.lmdb").err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "Missing command"),
        (("crop", "in"), 2, "--output"),
        (("crop", "in", "-o", "in/out"), 2, "is inside in; use a folder outside of it"),
        (("crop", "in", "-o", "out", "--size", "0"), 2, "--size"),
        (
            ("index", "in", "-o", "x.txt", "--low", "in"),
            2,
            "--low and --scale must be used together",
        ),
        (
            ("lmdb", "in", "-o", "in/x.lmdb"),
            2,
            "in/x.lmdb: is inside in; use a folder outside of it",
        ),
        (("scan", "nowhere"), 1, "nowhere: cannot be read"),
        (("scan", "empty"), 1, "empty: contains no images"),
        (("lmdb", "in", "-o", "x"), 1, "must end in .lmdb"),
        (("scan", "in", "--report", "in/0.png"), 1, "0.png"),
    ],
)
def test_invalid_requests_are_one_line(call, folder, tmp_path, arguments, code, message):
    (tmp_path / "empty").mkdir()
    before = sorted(path.name for path in tmp_path.rglob("*"))
    ended = call("dataset", *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err and ended.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_folder_of_damaged_images_alone_fails(call, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"?")
    for command in ("scan", "index", "crop", "multiscale"):
        ended = call("dataset", command, "in", "-o", f"{command}-out", "-j", "1")
        assert ended.code == 1
        assert "a.png" in ended.err


def test_a_missing_lmdb_package_is_reported_with_its_extra(call, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    ended = call("dataset", "lmdb", folder, "-o", "x.lmdb", "-j", "1")
    assert (ended.code, ended.out) == (1, "")
    assert 'pip install "upscale[train]"' in ended.err


@pytest.mark.skipif(os.name == "nt", reason="signals are of another kind there")
@pytest.mark.parametrize("command", ["crop", "lmdb"])
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_an_interrupted_run_is_resumed(tmp_path, program_environment, command, number):
    source, random = tmp_path / "in", np.random.default_rng(0)
    source.mkdir()
    for name in range(40):
        pixels = random.integers(0, 256, (300, 300, 3), np.uint8)
        assert cv2.imwrite(str(source / f"{name}.png"), pixels)
    line = [sys.executable, "-m", "upscale", "dataset", command, "in", "-j", "2", "--json", "-o"]
    process = subprocess.Popen(
        [*line, "out.lmdb"],
        cwd=tmp_path,
        env=program_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert len(started) >= 2
    _, alive = psutil.wait_procs(started)
    assert not alive

    for name in ("out.lmdb", "straight.lmdb"):
        ended = subprocess.run([*line, name], cwd=tmp_path, env=program_environment,
                               capture_output=True, check=True)  # fmt: skip
        results = records(ended.stdout.decode())
        skipped = sum(one["status"] == "skipped" for one in results.values())
        assert len(results) == 40
        assert skipped == 0 if name == "straight.lmdb" else 0 <= skipped < 40
    assert contents(tmp_path / "out.lmdb") == contents(tmp_path / "straight.lmdb")


def contents(folder: Path) -> dict[str, bytes]:
    """The images of a folder or an LMDB, byte for byte."""
    if not (folder / "data.mdb").exists():
        return {name: (folder / name).read_bytes() for name in images_below(folder)}
    from upscale_training.data.lmdb import read_value

    return {key: read_value(folder, key) for key in read_keys(folder)}


def test_a_bar_is_shown_on_a_terminal_only(call, folder):
    shown = call("dataset", "index", folder, "-o", "a.txt", "-j", "1", terminal=True)
    piped = call("dataset", "index", folder, "-o", "b.txt", "-j", "1")
    assert "\x1b[" in shown.err and "\x1b[" not in piped.err


def test_preparing_needs_no_torch():
    code = (
        "import sys, upscale_training.data.derive, upscale_training.data.scan\n"
        "import upscale_training.data.lmdb, upscale_training.data.listing, upscale.cli.dataset\n"
        "print('torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                           cwd=Path(__file__).parents[2])  # fmt: skip
    assert ended.stdout.strip() == "False"
