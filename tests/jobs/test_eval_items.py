from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from upscale.errors import ImageError, UsageError
from upscale.jobs.eval_items import find_eval_items


@pytest.fixture
def found(tmp_path, monkeypatch):
    """What is found among files of these names: (image, version, path, reference), problems."""
    monkeypatch.chdir(tmp_path)

    def found(names, inputs, reference=None, *, recursive=False):
        for name in names.split():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(name, np.zeros((2, 2, 3), np.uint8))
        place = None if reference is None else Path(reference)
        found = find_eval_items(inputs.split(), place, recursive=recursive)
        subjects = [
            (s.image, s.version, s.path.as_posix(), s.reference and s.reference.as_posix())
            for s in found.subjects
        ]
        return subjects, [str(problem) for problem in found.problems]

    return found


def test_folders_are_versions_and_files_are_none(found):
    subjects, problems = found("a/x.png b/x.png c.png d/y.png", "a b c.png d/y.png")
    assert subjects == [
        ("x", "a", "a/x.png", None),
        ("x", "b", "b/x.png", None),
        ("c", "", "c.png", None),
        ("y", "", "d/y.png", None),
    ]
    assert problems == []


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x_x4.png", "x_x2.5.webp", "x_640x480.bmp"])
def test_references_are_found_by_name(found, name):
    subjects, problems = found(f"a/{name} ref/x.png ref/y.png", "a", "ref")
    assert [(path, reference) for _, _, path, reference in subjects] == [(f"a/{name}", "ref/x.png")]
    assert problems == []


def test_a_name_that_is_equal_goes_before_one_that_is_shortened(found):
    subjects, _ = found("a/x_x4.png ref/x.png ref/x_x4.png", "a", "ref")
    assert subjects[0][3] == "ref/x_x4.png"


def test_references_may_have_our_suffix_too(found):
    subjects, _ = found("a/x.png b/x_x2.png ref/x_x4.png", "a b", "ref")
    assert [reference for *_, reference in subjects] == ["ref/x_x4.png"] * 2


def test_trees_are_matched_by_path(found):
    names = "a/x.png a/in/x.png ref/x.png ref/in/x.png"
    subjects, problems = found(names, "a", "ref", recursive=True)
    assert [(image, reference) for image, _, _, reference in subjects] == [
        ("x", "ref/x.png"),
        ("in/x", "ref/in/x.png"),
    ]
    assert problems == []


def test_references_inside_an_input_are_not_measured(found):
    subjects, problems = found("a/x.png a/ref/x.png", "a", "a/ref", recursive=True)
    assert [path for _, _, path, _ in subjects] == ["a/x.png"]
    assert problems == []


def test_one_file_can_be_the_reference_of_all(found):
    subjects, _ = found("x.png y.png r.png", "x.png y.png", "r.png")
    assert [reference for *_, reference in subjects] == ["r.png", "r.png"]


def test_what_has_no_reference_or_several_is_named(found):
    names = "a/x.png a/y.png a/z.png ref/x.png ref/x.jpg ref/y.png"
    subjects, problems = found(names, "a", "ref")
    assert [image for image, *_ in subjects] == ["y"]
    assert problems == [
        "a/x.png: has several references: ref/x.jpg and ref/x.png; keep one",
        "a/z.png: has no reference: ref holds no image named z",
    ]


def test_a_folder_that_cannot_be_read_is_a_problem(found, monkeypatch):
    def walk(root, onerror):
        onerror(OSError(13, "Permission denied", str(root)))
        return iter(())

    monkeypatch.setattr("upscale.jobs.inputs.os.walk", walk)
    assert found("a/x.png", "a") == ([], ["a: Permission denied"])


def test_no_input_and_no_reference_are_refused(found):
    with pytest.raises(UsageError, match="no input"):
        found("", "")
    with pytest.raises(UsageError, match="no input"):
        found("", "-")
    with pytest.raises(ImageError, match="ref: does not exist; check --reference"):
        found("a/x.png", "a", "ref")
