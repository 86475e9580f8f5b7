from __future__ import annotations

import io
import json
import os
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image
from upscale_training.data import scan as scanning
from upscale_training.data.index import images_below
from upscale_training.data.pixels import read_rgb
from upscale_training.data.scan import (
    ImageInfo,
    ScanReport,
    ScanResult,
    assess,
    find_similar,
    perceptual_hash,
    scan,
)

from tests.training.data.files import write
from upscale.errors import TrainingError


def look_at(folder, known=None, jobs=1) -> list[ImageInfo]:
    found = [facts for _, facts in scan(folder, images_below(folder), jobs, known or {})]
    assert all(isinstance(facts, ImageInfo) for facts in found)
    return found


def verdicts(folder, smallest=1, near=6) -> dict[str, ScanResult]:
    return {one.info.name: one for one in assess(look_at(folder), smallest, near)}


def test_properties_are_those_of_the_files(data, tmp_path):
    source = data / "photos" / "crops"
    found = look_at(source, jobs=2)
    assert [facts.name for facts in found] == images_below(source)
    for facts in found:
        assert (facts.width, facts.height, facts.error) == (160, 160, None)
        assert facts.bytes == len((source / facts.name).read_bytes())
    assert len({facts.digest for facts in found}) == len(found)


def test_damaged_and_empty_files_are_reported(numbered, tmp_path):
    folder = numbered("in", 3)
    (folder / "001.png").write_bytes((folder / "001.png").read_bytes()[:70])
    (folder / "002.png").write_bytes(b"")
    found = verdicts(folder)
    assert [one.usable for one in found.values()] == [True, False, False]
    assert "001.png" in str(found["001.png"].info.error)
    assert "is empty" in str(found["002.png"].info.error)


def test_images_that_are_too_small_are_reported(tmp_path):
    write(tmp_path / "a.png", np.zeros((40, 63, 3)))
    write(tmp_path / "b.png", np.zeros((64, 64, 3)))
    found = verdicts(tmp_path, smallest=64)
    assert [one.usable for one in found.values()] == [False, True]
    assert found["a.png"].remark == "is only 63x40"


def test_the_same_pixels_are_found_in_any_format(tmp_path, data):
    source = data / "photos" / "scenes"
    first, second = images_below(source)[:2]
    pixels = read_rgb(source / first)
    write(tmp_path / "a.png", pixels)
    Image.fromarray(pixels).save(tmp_path / "b.webp", lossless=True)
    Image.fromarray(pixels).save(tmp_path / "c.tif")
    shutil.copy(source / second, tmp_path / "d.webp")
    found = verdicts(tmp_path)
    assert [one.same_as for one in found.values()] == [None, "a.png", "a.png", None]
    assert [one.usable for one in found.values()] == [True, False, False, True]
    assert found["c.tif"].remark == "is the same image as a.png"


def test_similar_images_are_reported_and_stay_usable(tmp_path, data):
    source = data / "photos" / "scenes"
    pixels = read_rgb(source / images_below(source)[3])
    write(tmp_path / "a.png", pixels)
    Image.fromarray(pixels).save(tmp_path / "b.jpg", quality=40)
    Image.fromarray(pixels).resize((200, 200)).save(tmp_path / "c.png")
    write(tmp_path / "d.png", pixels[:, ::-1])
    found = verdicts(tmp_path)
    assert [one.looks_like for one in found.values()] == [
        (), ("a.png",), ("a.png", "b.jpg"), ()
    ]  # fmt: skip
    assert all(one.usable for one in found.values())
    assert found["c.png"].remark == "looks like a.png, b.jpg"


def test_hashes_distinguish_changed_images_from_different_ones(data):
    names = images_below(data / "photos")
    images = [read_rgb(data / "photos" / name) for name in names]
    looks = [perceptual_hash(image) for image in images]
    assert find_similar(looks, 6) == {}
    changed = [perceptual_hash(_recompressed(image)) for image in images]
    apart = [(one ^ other).bit_count() for one, other in zip(looks, changed, strict=True)]
    assert np.mean(np.array(apart) <= 6) > 0.98


def _recompressed(image: np.ndarray) -> np.ndarray:
    """A smaller copy of low quality."""
    file = io.BytesIO()
    Image.fromarray(cv2.resize(image, (300, 300), interpolation=cv2.INTER_AREA)).save(
        file, "JPEG", quality=40
    )
    return np.array(Image.open(file))


def test_similar_hashes_are_found_among_any_number():
    random = np.random.default_rng(0)
    looks = [int(look) for look in random.integers(0, 2**64, 500, np.uint64)]
    looks[333] = looks[20] ^ 0b1011
    looks[499] = looks[333] ^ 1
    looks[63] = looks[64]
    assert find_similar(looks, 3) == {64: [63], 333: [20], 499: [20, 333]}
    assert find_similar(looks, 1) == {64: [63], 499: [333]}
    assert find_similar([], 3) == {}


def test_a_repeated_scan_reads_only_new_images(numbered, monkeypatch, tmp_path):
    folder = numbered("in", 4)
    (folder / "003.png").write_bytes(b"?")
    report = ScanReport(tmp_path / "report.jsonl")
    first = look_at(folder)
    report.finish(assess(first, 1, 0))
    write(folder / "001.png", np.zeros((5, 5, 3)))
    os.utime(folder / "001.png", ns=(1, 1))
    read: list[str] = []

    def counted(path):
        read.append(path.name)
        return read_rgb(path)

    monkeypatch.setattr(scanning, "read_rgb", counted)
    again = look_at(folder, ScanReport(tmp_path / "report.jsonl").known)
    assert read == ["001.png"]
    assert [facts for facts in again if facts.name != "001.png"] == [
        facts for facts in first if facts.name != "001.png"
    ]


def test_a_report_of_a_killed_run_is_resumed(tmp_path):
    path = tmp_path / "report.jsonl"
    report = ScanReport(path)
    kept = [ImageInfo(name, 1, 2, 3, 4, "d", "ff") for name in "ab"]
    for facts in kept:
        report.add(facts)
    path.write_bytes(path.read_bytes() + b'{"name": "c", "byt')
    taken = ScanReport(path)
    assert list(taken.known.values()) == kept
    taken.add(ImageInfo("c", 1, 2, error="bad"))
    assert list(ScanReport(path).known) == ["a", "b", "c"]
    assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize("content", [b"precious\n", b'{"name": "a"}\n', b"[1]\n{}\n", b"\xff\xfe"])
def test_a_file_that_is_no_report_is_unchanged(tmp_path, content):
    (tmp_path / "notes.txt").write_bytes(content)
    with pytest.raises(TrainingError, match=r"notes\.txt"):
        ScanReport(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_bytes() == content


def test_an_empty_or_missing_file_starts_a_report(tmp_path):
    (tmp_path / "empty").touch()
    assert ScanReport(tmp_path / "empty").known == ScanReport(tmp_path / "none").known == {}
