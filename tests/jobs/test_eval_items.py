from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from upscale.errors import ImageError, UsageError
from upscale.jobs.eval_items import find_eval_items


@pytest.fixture
def find(tmp_path, monkeypatch):
    """Return a function that matches files: (image, version, path, reference), problems."""
    monkeypatch.chdir(tmp_path)

    def find(names, inputs, reference=None, *, recursive=False):
        for name in names.split():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(name, np.zeros((2, 2, 3), np.uint8))
        place = None if reference is None else Path(reference)
        matches = find_eval_items(inputs.split(), place, recursive=recursive)
        items = [
            (s.image, s.version, s.path.as_posix(), s.reference and s.reference.as_posix())
            for s in matches.items
        ]
        return items, [str(problem) for problem in matches.problems]

    return find


def test_folders_are_versions_and_files_are_not(find):
    items, problems = find("a/x.png b/x.png c.png d/y.png", "a b c.png d/y.png")
    assert items == [
        ("x", "a", "a/x.png", None),
        ("x", "b", "b/x.png", None),
        ("c", "", "c.png", None),
        ("y", "", "d/y.png", None),
    ]
    assert problems == []


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x_x4.png", "x_x2.5.webp", "x_640x480.bmp"])
def test_references_are_matched_by_name(find, name):
    items, problems = find(f"a/{name} ref/x.png ref/y.png", "a", "ref")
    assert [(path, reference) for _, _, path, reference in items] == [(f"a/{name}", "ref/x.png")]
    assert problems == []


def test_equal_names_take_precedence_over_stripped_names(find):
    items, _ = find("a/x_x4.png ref/x.png ref/x_x4.png", "a", "ref")
    assert items[0][3] == "ref/x_x4.png"


def test_size_suffix_of_references_is_stripped_too(find):
    items, _ = find("a/x.png b/x_x2.png ref/x_x4.png", "a b", "ref")
    assert [reference for *_, reference in items] == ["ref/x_x4.png"] * 2


def test_trees_are_matched_by_path(find):
    names = "a/x.png a/in/x.png ref/x.png ref/in/x.png"
    items, problems = find(names, "a", "ref", recursive=True)
    assert [(image, reference) for image, _, _, reference in items] == [
        ("x", "ref/x.png"),
        ("in/x", "ref/in/x.png"),
    ]
    assert problems == []


def test_references_inside_an_input_are_skipped(find):
    items, problems = find("a/x.png a/ref/x.png", "a", "a/ref", recursive=True)
    assert [path for _, _, path, _ in items] == ["a/x.png"]
    assert problems == []


def test_single_file_is_the_reference_of_all_images(find):
    items, _ = find("x.png y.png r.png", "x.png y.png", "r.png")
    assert [reference for *_, reference in items] == ["r.png", "r.png"]


def test_missing_and_ambiguous_references_are_reported(find):
    names = "a/x.png a/y.png a/z.png ref/x.png ref/x.jpg ref/y.png"
    items, problems = find(names, "a", "ref")
    assert [image for image, *_ in items] == ["y"]
    assert problems == [
        "a/x.png: has several references: ref/x.jpg and ref/x.png; keep one",
        "a/z.png: has no reference: ref contains no image named z",
    ]


def test_unreadable_folder_is_reported(find, monkeypatch):
    def walk(root, onerror):
        onerror(OSError(13, "Permission denied", str(root)))
        return iter(())

    monkeypatch.setattr("upscale.jobs.inputs.os.walk", walk)
    assert find("a/x.png", "a") == ([], ["a: Permission denied"])


def test_missing_input_or_reference_raises(find):
    with pytest.raises(UsageError, match="no input"):
        find("", "")
    with pytest.raises(UsageError, match="no input"):
        find("", "-")
    with pytest.raises(ImageError, match="ref: does not exist; check --reference"):
        find("a/x.png", "a", "ref")
