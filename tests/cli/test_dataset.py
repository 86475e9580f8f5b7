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
        "input": "", "status": "done", "error": None, "written": 6, "kept": 0, "omitted": {}
    }  # fmt: skip
    assert (results["bad.png"]["status"], "bad.png" in results["bad.png"]["error"]) == (
        "failed",
        True,
    )
    assert len(images_below(Path("out"))) == 18


def test_multiscale_writes_copies_of_the_factors_that_are_given(call, wide):
    ended = call("dataset", "multiscale", wide, "-o", "out", "--factor", "0.5", "-j", "1")
    assert ended.code == 0
    assert len(images_below(Path("out"))) == 3
    image, copy = (
        cv2.imread(str(folder / images_below(folder)[0])) for folder in (wide, Path("out"))
    )
    assert copy.shape[:2] == (image.shape[0] // 2, image.shape[1] // 2)


@pytest.fixture
def camera(tmp_path) -> Path:
    """A noisy photo of a plain wall, above a shelf with content."""
    values = np.full((96, 64, 3), 140.0)
    values[64:] += 60 * np.sin(np.arange(64))[:, None]
    values += np.random.default_rng(0).normal(0, 3, values.shape)
    (tmp_path / "camera").mkdir()
    cv2.imwrite(str(tmp_path / "camera/wall.png"), values.round().clip(0, 255))
    return tmp_path / "camera"


def test_noise_is_cut_from_plain_areas(call, camera):
    arguments = ("dataset", "noise", camera, "-o", "pool", "--size", "32", "-j", "1")
    ended = call(*arguments)
    assert (ended.code, ended.out) == (0, "pool\n")
    assert "1 images, 4 written, 2 too much content in " in ended.err
    assert images_below(Path("pool")) == [f"wall_n00{number}.png" for number in range(1, 5)]
    again = records(call(*arguments, "--json").out)["wall.png"]
    assert (again["status"], again["written"], again["kept"]) == ("skipped", 0, 4)
    assert again["omitted"] == {"too much content": 2}


def test_photos_without_noise_are_reported_and_leave_no_folder(call, camera):
    arguments = ("dataset", "noise", camera, "-o", "pool", "-j", "1")
    ended = call(*arguments, "--size", "32", "--variance", "1")
    assert ended.code == 1
    assert "no patch of noise was found (6 too much content); raise --variance" in ended.err
    assert not Path("pool").exists()
    ended = call(*arguments, "--size", "80")
    assert "(no image has 80 pixels on both sides)" in ended.err
    assert call(*arguments, "--size", "32").code == 0


def test_commands_use_only_the_images_of_an_index(call, folder):
    call("dataset", "scan", folder, "-o", "good.txt", "-j", "1")
    for command, target in (("crop", "out"), ("multiscale", "small"), ("lmdb", "set.lmdb")):
        ended = call("dataset", command, folder, "-o", target, "--index", "good.txt", "-j", "1")
        assert (ended.code, ended.out) == (0, f"{target}\n")
    assert read_keys(Path("set.lmdb")) == ["0", "1", "2"]


def test_shards_have_the_size_that_is_given_and_are_written_once(call, folder):
    arguments = ("dataset", "shards", folder, "-o", "out", "--size", "5KB", "-j", "1")
    ended = call(*arguments)
    assert (ended.code, ended.out) == (3, "out\n")
    assert "4 images, 3 written, 1 failed" in ended.err and "bad.png" in ended.err
    names = ["shard-000000.idx", "shard-000000.tar", "shard-000001.idx", "shard-000001.tar"]
    assert sorted(path.name for path in Path("out").glob("shard*")) == names
    results = records(call(*arguments, "--json").out)
    assert [results[f"{number}.png"]["status"] for number in range(3)] == ["skipped"] * 3
    assert "has other inputs or settings" in call(*arguments, "--size", "1MB").err
    wrong = call(*arguments[:-4], "--size", "1 parsec")
    assert wrong.code == 2 and "--size: '1 PARSEC' is not a size in bytes" in wrong.err


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


def test_kernels_are_estimated_once(call, photo, tmp_path):
    for name in ("a", "deeper/b", "tiny"):
        photo(f"in/{name}.png", *((40, 40) if name == "tiny" else (100, 90)))
    command = ("dataset", "kernels", "in", "-o", "out", "--iterations", "3", "-j", "1", "--json")
    first = records(call(*command, "--device", "cpu").out)
    assert {name: record["status"] for name, record in first.items()} == {
        "a.png": "done", "b.png": "done", "tiny.png": "failed",
    }  # fmt: skip
    assert "in/tiny.png: has 40x40 pixels" in first["tiny.png"]["error"]
    kernels = [np.load(tmp_path / "out" / name) for name in ("a.npy", "deeper/b.npy")]
    assert all(abs(kernel.sum() - 1) < 1e-5 for kernel in kernels)
    (tmp_path / "out" / "a.npy").unlink()
    again = records(call(*command, "--device", "cpu").out)
    assert (again["a.png"]["status"], again["b.png"]["status"]) == ("done", "skipped")
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "a.npy"), kernels[0])
    assert "has other inputs or settings" in call(*command, "--scale", "4").err
    assert "choose 2 or 4" in call(*command, "--scale", "3").err


def test_register_writes_pairs_of_patches(call, data, tmp_path):
    scene = cv2.imread(str(sorted((data / "photos/scenes").glob("*.webp"))[0]))[:256, :256]
    for name, pixels in (
        ("camera/a.png", scene), ("phone/a.png", scene[3:, 5:]), ("phone/b.png", scene),
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), pixels)
    ended = call("dataset", "register", "phone", "camera", "-o", "pairs", "--size", "64", "--json",
                 "-j", "1")  # fmt: skip
    results = records(ended.out)
    assert ended.code == 3
    assert "no photo of the same name" in results["b.png"]["error"]
    written = results["a.png"]["written"]
    assert results["a.png"]["status"] == "done" and written > 2
    for side in ("phone", "camera"):
        assert len(images_below(tmp_path / "pairs" / side)) == written
    ended = call("dataset", "register", "phone", "camera", "-o", "phone/pairs")
    assert ended.code == 2 and "is inside" in ended.err
