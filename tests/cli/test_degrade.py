"""`upscale degrade`: grids, descriptions that are replayed, and test sets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def without_heavy_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def lines_of(ended):
    return [json.loads(line) for line in ended.out.splitlines()]


def test_a_grid_is_written_next_to_the_image_or_to_the_output(call, photo, tmp_path, size_of):
    photo("dog.jpg", 300, 200)
    ended = call("degrade", "dog.jpg", "--samples", 3)
    assert (ended.code, ended.out, ended.err) == (0, "dog_degraded.png\n", "")
    width, height = size_of(tmp_path / "dog_degraded.png")
    assert width > 2 * 300 and height > 2 * 200
    ended = call("degrade", "dog.jpg", "--samples", 1, "-o", "new/grid.webp")
    assert (ended.code, ended.out) == (0, "new/grid.webp\n")
    assert size_of(tmp_path / "new" / "grid.webp")


def test_the_same_seed_gives_the_same_grid(call, photo, tmp_path):
    photo("dog.png", 300, 200)
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        assert call("degrade", "dog.png", "--samples", 2, "--seed", seed, "-o", name).code == 0
    grids = [cv2.imread(str(tmp_path / name)) for name in ("a.png", "b.png", "c.png")]
    assert np.array_equal(grids[0], grids[1])
    assert not np.array_equal(grids[0], grids[2])


def test_nothing_is_overwritten_by_accident(call, photo, tmp_path):
    photo("dog.png", 300, 200)
    before = (tmp_path / "dog.png").read_bytes()
    assert call("degrade", "dog.png", "-o", "dog.png").code == 1
    ended = call("degrade", "dog.png", "-o", "dog.png", "--overwrite")
    assert (ended.code, "would replace the input image" in ended.err) == (1, True)
    assert (tmp_path / "dog.png").read_bytes() == before
    (tmp_path / "dog_degraded.png").write_bytes(b"mine")
    assert call("degrade", "dog.png", "--samples", 1).code == 1
    assert (tmp_path / "dog_degraded.png").read_bytes() == b"mine"
    assert call("degrade", "dog.png", "--samples", 1, "--overwrite").code == 0
    assert (tmp_path / "dog_degraded.png").read_bytes() != b"mine"


def test_json_prints_the_samples_and_writes_a_grid_only_with_an_output(call, photo, tmp_path):
    photo("dog.png", 300, 200)
    ended = call("degrade", "dog.png", "--samples", 4, "--seed", 5, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert [line["sample"] for line in lines_of(ended)] == [1, 2, 3, 4]
    for line in lines_of(ended):
        assert (line["input"], line["sharpen"], line["mode"]) == ("dog.png", True, "corrected")
        assert line["crop"] == [0, 0, 300, 200]
        assert line["operations"][0]["do"] in ("blur", "resize")
    assert [path.name for path in tmp_path.iterdir()] == ["dog.png"]
    again = call("degrade", "dog.png", "--samples", 4, "--seed", 5, "--json", "-o", "grid.png")
    assert again.out == ended.out
    assert (tmp_path / "grid.png").exists()


@pytest.mark.parametrize("mode", ["corrected", "official"])
def test_printed_degradations_are_replayed_exactly(call, photo, tmp_path, mode):
    photo("dog.png", 640, 400)  # so large that the most detailed part is chosen
    options = ("--samples", 3, "--seed", 8, "--mode", mode)
    first = call("degrade", "dog.png", *options, "--json", "-o", "first.png")
    (tmp_path / "first.jsonl").write_text(first.out)
    again = call("degrade", "dog.png", "--replay", "first.jsonl", "--json", "-o", "again.png")
    assert (again.code, again.out) == (0, first.out)
    grids = [cv2.imread(str(tmp_path / name)) for name in ("first.png", "again.png")]
    below = 107  # the heading differs
    assert np.array_equal(grids[0][below:], grids[1][below:])


@pytest.mark.parametrize(
    "chain, scale, kinds", [("classical", 3, {"resize"}), ("generic", 2, None)]
)
def test_chains_and_scales(call, photo, chain, scale, kinds):
    photo("dog.png", 301, 200)
    ended = call("degrade", "dog.png", "--chain", chain, "-s", scale, "--samples", 2, "--json")
    for line in lines_of(ended):
        assert not line["sharpen"]
        assert line["crop"] == [0, 0, 301 // scale * scale, 200 // scale * scale]
        assert {each["do"] for each in line["operations"]} == kinds or kinds is None
        assert [each["scale"] for each in line["operations"] if each["do"] == "resize"] == [scale]


def test_a_crop_is_cut_to_a_multiple_of_the_scale(call, photo):
    photo("dog.png", 300, 200)
    ended = call("degrade", "dog.png", "--crop", "10,20,101,50", "--samples", 1, "--json")
    assert lines_of(ended)[0]["crop"] == [10, 20, 100, 48]
    ended = call("degrade", "dog.png", "--crop", "10,20,300,50", "--samples", 1, "--json")
    assert (ended.code, "is not inside dog.png, which is 300x200" in ended.err) == (2, True)


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["a.png", "b.png"], 2, "one image"),
        (["dog.png", "--dataset", "set", "--samples", "2"], 2, "--dataset and --samples exclude"),
        (["dog.png", "--dataset", "set", "--replay", "x"], 2, "--replay and --dataset exclude"),
        (["dog.png", "--replay", "x", "--seed", "0"], 2, "--replay and --seed exclude"),
        (["dog.png", "--replay", "absent"], 2, "absent: cannot be read"),
        (["dog.png", "--chain", "clasical"], 2, "did you mean classical"),
        (["dog.png", "--chain", "absent.yaml"], 1, "absent.yaml: cannot be read"),
        (["dog.png", "--mode", "both"], 2, "'both' is not one of"),
        (["dog.png", "-s", "0"], 2, "greater than or equal to 1"),
        (["dog.png", "-o", "grid.txt"], 1, "is not an image format"),
        (["dog.png", "--crop", "1,2"], 2, "X,Y,WIDTH,HEIGHT"),
        (["absent.png"], 1, "absent.png: does not exist"),
        (["dog.png", "-s", "500"], 1, "dog.png: smaller than 500 pixels"),
    ],
)
def test_invalid_requests_are_one_line(call, photo, tmp_path, arguments, code, message):
    photo("dog.png", 300, 200)
    ended = call("degrade", *arguments)
    assert (ended.code, ended.out, ended.err.count("\n")) == (code, "", 1)
    assert message in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["dog.png"]


def test_a_test_set_is_written_once_and_reported(call, photo, tmp_path, size_of):
    photo("photos/a.png", 61, 50)
    photo("photos/below/b.jpg", 30, 40)
    photo("c.png", 40, 40)
    ended = call("degrade", "photos", "c.png", "--dataset", "set", "-s", 2)
    assert (ended.code, ended.out, ended.err) == (0, "set\n", "3 pairs: 3 written\n")
    assert size_of(tmp_path / "set" / "gt" / "a.png") == (60, 50)
    assert size_of(tmp_path / "set" / "lq" / "below" / "b.png") == (15, 20)
    again = call("degrade", "photos", "c.png", "--dataset", "set", "-s", 2, "--json")
    assert again.err == "3 pairs: 3 already exist\n"
    reported = lines_of(again)
    assert {line["status"] for line in reported} == {"skipped"}
    assert {line["input"] for line in reported} == {"photos/a.png", "photos/below/b.jpg", "c.png"}
    written = (tmp_path / "set" / "descriptions.jsonl").read_text().splitlines()
    assert [json.loads(line)["operations"] for line in written] == [
        line["operations"] for line in reported
    ]


def test_damaged_images_are_reported_and_skipped(call, photo, tmp_path):
    photo("photos/a.png", 61, 50)
    (tmp_path / "photos" / "bad.png").write_bytes(b"no image")
    ended = call("degrade", "photos", "--dataset", "set", "--json")
    assert ended.code == 3
    assert ended.err.startswith("2 pairs: 1 written, 1 failed\nerror: photos/bad.png: ")
    assert [line["status"] for line in lines_of(ended)] == ["done", "failed"]
    assert "bad.png" in lines_of(ended)[1]["error"]
    ended = call("degrade", "photos/bad.png", "--dataset", "other")
    assert (ended.code, ended.out) == (1, "")


def test_quiet_prints_only_errors(call, photo):
    photo("dog.png", 300, 200)
    for arguments in (["--samples", 1], ["--dataset", "set"]):
        ended = call("degrade", "dog.png", *arguments, "--quiet")
        assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_a_terminal_shows_a_bar_for_a_set(call, photo):
    for name in "abc":
        photo(f"photos/{name}.png", 61, 50)
    ended = call("degrade", "photos", "--dataset", "set", terminal=True)
    assert ended.code == 0
    assert "pairs" in ended.err.split("3 pairs: 3 written")[0]


@pytest.mark.slow
def test_a_killed_run_is_resumed_by_the_same_command(program, program_environment, photo, tmp_path):
    for number in range(30):
        photo(f"photos/{number:02}.png", 200, 160)
    command = ["degrade", "photos", "--dataset"]
    assert program(*command, "whole").code == 0
    running = subprocess.Popen(
        [sys.executable, "-m", "upscale", *command, "set"],
        cwd=tmp_path,
        env=program_environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    journal = tmp_path / "set" / "descriptions.jsonl"
    while running.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    running.wait()
    ended = program(*command, "set")
    assert ended.code == 0, ended.err
    files = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "whole", tmp_path / "set")
    ]
    assert files[0] == files[1]
