"""Test sets: reproducible, resumable, and true to their descriptions."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from upscale_training.degraded_sample import DegradedSample, find_sampler
from upscale_training.test_set import Pair, find_images, write_set

from upscale.errors import ImageError, OutputError, UsageError

SAMPLER = find_sampler("real-esrgan", seed=3)


@pytest.fixture
def photos(data, tmp_path):
    """A folder of crops of real photographs, 61 pixels wide and 50 high, one in a folder below."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    names = ["a.png", "b.jpg", "below/a.png", "c.webp"]
    for name, file in zip(names, sorted((data / "photos/scenes").glob("*.webp")), strict=False):
        cv2.imwrite(str(folder / name), cv2.imread(str(file))[100:150, 150:211])
    return folder


def written(photos, target, sampler=SAMPLER, only=None):
    """Write a set of a folder, and return what each image gave."""
    images = find_images([photos], target)
    return {
        path.relative_to(photos).as_posix(): result
        for path, result in write_set(target, only or images, sampler)
    }


def content(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def levels(path):
    return cv2.imread(str(path))[:, :, ::-1]


def test_lr_images_follow_from_hr_images_and_descriptions(photos, tmp_path):
    results = written(photos, tmp_path / "set")
    assert list(results) == ["a.png", "b.jpg", "below/a.png", "c.webp"]
    assert set(content(tmp_path / "set")) == {
        "descriptions.jsonl",
        *(f"{part}/{name}.png" for part in ("gt", "lq") for name in ("a", "b", "below/a", "c")),
    }
    lines = (tmp_path / "set" / "descriptions.jsonl").read_text().splitlines()
    assert [result.line for result in results.values()] == lines
    for line in lines:
        name = json.loads(line)["name"]
        assert json.loads(line)["sharpen"] is False
        hr = levels(tmp_path / "set" / "gt" / f"{name}.png")
        lr = levels(tmp_path / "set" / "lq" / f"{name}.png")
        assert hr.shape == (48, 60, 3) and lr.shape == (12, 15, 3)
        assert np.array_equal(DegradedSample.from_dict(json.loads(line)).make(hr), lr)
    assert np.array_equal(
        levels(tmp_path / "set" / "gt" / "a.png"), levels(photos / "a.png")[:48, :60]
    )


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(photos, tmp_path):
    for name in ("one", "two"):
        written(photos, tmp_path / name)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    written(photos, tmp_path / "three", find_sampler("real-esrgan", seed=4))
    assert content(tmp_path / "three")["lq/a.png"] != content(tmp_path / "one")["lq/a.png"]
    assert content(tmp_path / "three")["gt/a.png"] == content(tmp_path / "one")["gt/a.png"]


def test_a_set_that_grows_equals_one_written_at_once(photos, tmp_path):
    written(photos, tmp_path / "whole")
    images = find_images([photos], tmp_path / "grown")
    written(photos, tmp_path / "grown", only={"c": images["c"]})
    assert len(content(tmp_path / "grown")) == 3
    results = written(photos, tmp_path / "grown")
    assert [name for name, result in results.items() if result.kept] == ["c.webp"]
    assert content(tmp_path / "grown") == content(tmp_path / "whole")


@pytest.mark.parametrize("cut", [0, 5, 2000])
def test_a_killed_run_is_resumed(photos, tmp_path, monkeypatch, cut):
    written(photos, tmp_path / "whole")
    target = tmp_path / "set"
    written(photos, target)
    # As if killed while the second pair was written, or its line.
    lines = (target / "descriptions.jsonl").read_text()
    first = lines.index("\n") + 1
    (target / "descriptions.jsonl").write_text(lines[: first + cut])
    for name in ("lq/b.png", "gt/c.png", "lq/c.png"):
        (target / name).unlink()
    (target / "lq" / ".upscale-0123456789abcdef.part").write_bytes(b"half")
    made = []
    make = DegradedSample.make
    monkeypatch.setattr(DegradedSample, "make", lambda *a: made.append(1) or make(*a))
    results = written(photos, target)
    assert content(target) == content(tmp_path / "whole")
    assert results["a.png"].kept and not results["b.jpg"].kept
    assert len(made) == 3 - (cut == 2000 and len(lines.splitlines()[1]) < 2000)


def test_existing_pairs_are_not_written_again(photos, tmp_path, monkeypatch):
    written(photos, tmp_path / "set")
    monkeypatch.setattr(DegradedSample, "make", None)
    results = written(photos, tmp_path / "set")
    assert all(isinstance(result, Pair) and result.kept for result in results.values())


def test_a_damaged_image_is_reported_and_the_others_are_written(photos, tmp_path):
    whole = (photos / "b.jpg").read_bytes()
    (photos / "b.jpg").write_bytes(whole[: len(whole) // 3])
    (photos / "tiny.png").write_bytes(cv2.imencode(".png", np.zeros((3, 9, 3)))[1].tobytes())
    results = written(photos, tmp_path / "set")
    failed = {name: r for name, r in results.items() if isinstance(r, ImageError)}
    assert set(failed) == {"b.jpg", "tiny.png"}
    assert all(str(photos) in str(error) for error in failed.values())
    assert "tiny" not in " ".join(content(tmp_path / "set"))
    (photos / "b.jpg").write_bytes(whole)
    (photos / "tiny.png").unlink()
    written(photos, tmp_path / "set")
    written(photos, tmp_path / "whole")
    assert content(tmp_path / "set") == content(tmp_path / "whole")


@pytest.mark.parametrize(
    "other",
    [
        find_sampler("real-esrgan", seed=4),
        find_sampler("real-esrgan", seed=3, scale=2),
        find_sampler("generic", seed=3),
        find_sampler("real-esrgan", seed=3, mode="official"),
    ],
)
def test_a_set_is_not_mixed_with_another(photos, tmp_path, other):
    written(photos, tmp_path / "set")
    before = content(tmp_path / "set")
    with pytest.raises(OutputError, match="contains a set of another"):
        written(photos, tmp_path / "set", other)
    assert content(tmp_path / "set") == before


def test_folders_with_other_files_are_unchanged(photos, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="contains other files"):
        written(photos, tmp_path / "mine")
    assert content(tmp_path / "mine") == {"notes.txt": b"mine"}
    (tmp_path / "mine" / "notes.txt").rename(tmp_path / "mine" / "descriptions.jsonl")
    (tmp_path / "mine" / "descriptions.jsonl").write_text("mine\n")
    with pytest.raises(OutputError, match="is damaged"):
        written(photos, tmp_path / "mine")
    assert content(tmp_path / "mine") == {"descriptions.jsonl": b"mine\n"}


def test_impossible_inputs_raise_an_error(photos, tmp_path):
    with pytest.raises(UsageError, match="is inside"):
        find_images([photos], photos / "set")
    with pytest.raises(UsageError, match="rename it"):
        find_images([photos, photos / "below" / "a.png"], tmp_path / "set")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="contains no images"):
        find_images([tmp_path / "empty"], tmp_path / "set")
    twice = find_images([photos / "a.png", photos / "a.png"], tmp_path / "set")
    assert list(twice) == ["a"]
