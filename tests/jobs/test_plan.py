from __future__ import annotations

import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from upscale.errors import UsageError
from upscale.jobs import ImageJob, JobResult, ModelFacts, Status, make_plan
from upscale.options import (
    EngineOptions,
    Options,
    OutputOptions,
    RunOptions,
    SizeOptions,
)

MODEL = ModelFacts("net", 4)


def picture(path: Path, width: int = 8, height: int = 6, channels: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, channels))
    assert cv2.imwrite(str(path), pixels.astype(np.uint8))
    return path


def plan(*inputs, size=None, run=None, stdin=b"", model=MODEL, **output):
    options = Options(
        size=size or SizeOptions(),
        engine=EngineOptions(model=model.name),
        output=OutputOptions(**output),
        run=run or RunOptions(),
    )
    return make_plan([str(name) for name in inputs], options, model, lambda: stdin)


def only(made) -> ImageJob | JobResult:
    assert len(made.items) == 1
    return made.items[0]


@pytest.mark.parametrize(
    ("size", "name", "expected"),
    [
        (SizeOptions(), "photo_x4.jpg", (32, 24)),
        (SizeOptions(scale=2.5), "photo_x2.5.jpg", (20, 15)),
        (SizeOptions(width=16), "photo_16x12.jpg", (16, 12)),
        (SizeOptions(max_side=100), "photo_100x75.jpg", (100, 75)),
        (SizeOptions(width=10, height=10), "photo_10x10.jpg", (10, 10)),
    ],
)
def test_without_an_output_the_name_tells_the_size(size, name, expected, tmp_path):
    photo = picture(tmp_path / "photo.jpg")
    job = only(plan(photo, size=size))
    assert job.target == tmp_path / name
    assert job.size_out == expected
    assert job.format == "jpeg"


@pytest.mark.parametrize("name", ["a.JPG", "a.jpeg", "a.png", "a.webp", "a.tif", "a.tiff", "a.bmp"])
def test_the_inputs_own_format_and_spelling_are_kept(name, tmp_path):
    photo = picture(tmp_path / name)
    job = only(plan(photo))
    assert job.target == tmp_path / f"a_x4{photo.suffix}"


def test_the_content_decides_the_format_not_the_name(tmp_path):
    photo = picture(tmp_path / "really.png").rename(tmp_path / "photo.jpg")
    job = only(plan(photo))
    assert (job.format, job.target) == ("png", tmp_path / "photo_x4.png")


def test_a_name_without_a_suffix_is_read_by_its_content(tmp_path):
    photo = picture(tmp_path / "really.webp").rename(tmp_path / "photo")
    assert only(plan(photo)).target == tmp_path / "photo_x4.webp"


def test_what_the_own_format_cannot_hold_becomes_png_and_is_said(tmp_path):
    photo = picture(tmp_path / "wide.webp", 600, 2)
    job = only(plan(photo, size=SizeOptions(scale=30)))
    assert job.target == tmp_path / "wide_x30.png"
    assert "16383" in job.note


def test_what_a_chosen_format_cannot_hold_is_refused_before_work(tmp_path):
    photo = picture(tmp_path / "wide.png", 600, 2)
    result = only(plan(photo, size=SizeOptions(scale=30), format="webp"))
    assert result.status is Status.FAILED
    assert "-f png" in result.error


def test_a_file_output_decides_the_format(tmp_path):
    photo = picture(tmp_path / "photo.jpg")
    job = only(plan(photo, output=str(tmp_path / "new" / "big.webp")))
    assert (job.format, job.target) == ("webp", tmp_path / "new" / "big.webp")


@pytest.mark.parametrize("output", ["out", "out/", "new/deep/"])
def test_a_folder_output_keeps_the_plain_name(output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    photo = picture(tmp_path / "photo.jpg")
    assert only(plan(photo, output=output)).target == Path(output) / "photo.jpg"


def test_several_inputs_make_the_output_a_folder(tmp_path):
    photos = [picture(tmp_path / "a.jpg"), picture(tmp_path / "b.png")]
    made = plan(*photos, output=str(tmp_path / "out"))
    assert [job.target.name for job in made.items] == ["a.jpg", "b.png"]


def test_format_decides_the_suffix(tmp_path):
    photo = picture(tmp_path / "photo.jpg")
    job = only(plan(photo, format="webp"))
    assert (job.format, job.target.name) == ("webp", "photo_x4.webp")


def test_a_template_names_the_output(tmp_path):
    photo = picture(tmp_path / "photo.jpg")
    job = only(plan(photo, name="{model}/{stem}-{scale}-{width}x{height}.{ext}"))
    assert job.target == tmp_path / "net" / "photo-4-32x24.jpg"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "photo.xyz"}, "xyz"),
        ({"output": "photo"}, "no such folder"),
        ({"format": "tga"}, "--format"),
        ({"output": "a.png", "format": "jpg"}, "two formats"),
        ({"name": "{oops}"}, "oops"),
    ],
)
def test_impossible_requests_are_refused_before_any_input_is_read(changes, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        plan(tmp_path / "not-even-there.jpg", **changes)


def test_requests_that_fit_no_number_of_inputs_are_refused(tmp_path):
    a, b = picture(tmp_path / "in" / "a.jpg"), picture(tmp_path / "in" / "b.jpg")
    for inputs, output in (
        ([], None),
        ([a, b], "both.png"),
        ([a, b], "-"),
        ([a, b], str(a)),
        ([tmp_path / "in"], None),
        ([tmp_path / "in"], "-"),
        (["-", "-"], "out/"),
        (["-", a], None),
    ):
        with pytest.raises(UsageError):
            plan(*inputs, output=output)


def test_a_folder_is_read_in_order_and_other_files_are_counted(tmp_path):
    folder = tmp_path / "in"
    for name in ("b.png", "a.jpg", "sub/c.png"):
        picture(folder / name)
    for name in ("notes.txt", ".hidden.png", "noext"):
        (folder / name).write_bytes(b"x")
    made = plan(folder, output=str(tmp_path / "out"))
    assert [job.label for job in made.items] == [str(folder / "a.jpg"), str(folder / "b.png")]
    assert made.passed_over == 3


def test_recursion_mirrors_the_tree_and_does_not_read_its_own_output(tmp_path):
    folder = tmp_path / "in"
    for name in ("a.png", "sub/deep/b.png", ".hidden/c.png", "out/old.png", "out/sub/old.png"):
        picture(folder / name)
    made = plan(folder, output=str(folder / "out"), run=RunOptions(recursive=True))
    targets = [job.target for job in made.items]
    assert targets == [folder / "out" / "a.png", folder / "out" / "sub" / "deep" / "b.png"]


def test_two_inputs_with_one_output_fail_the_second_and_name_both(tmp_path):
    a, b = picture(tmp_path / "a.jpg"), picture(tmp_path / "a.png")
    first, second = plan(a, b, format="png").items
    assert isinstance(first, ImageJob)
    assert second.status is Status.FAILED
    assert str(a) in second.error
    assert str(b) in second.error


def test_the_same_input_twice_is_one_job(tmp_path):
    photo = picture(tmp_path / "in" / "a.jpg")
    assert len(plan(photo, photo, photo.parent, output=str(tmp_path / "out")).items) == 1


def test_an_input_is_never_replaced_even_with_overwrite(tmp_path):
    a, b = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    assert "input" in only(plan(a, output=str(a), overwrite=True)).error
    assert "input" in only(plan(a, output=f"{tmp_path}/", overwrite=True)).error
    link = tmp_path / "link.png"
    link.symlink_to(a)
    assert "input" in only(plan(a, output=str(link), overwrite=True)).error
    swapped = plan(a, b, name="b.{ext}", overwrite=True).items
    assert all("input" in item.error for item in swapped)


def test_existing_outputs_are_refused_skipped_or_replaced(tmp_path):
    photo = picture(tmp_path / "a.png")
    picture(tmp_path / "a_x4.png")
    refused = only(plan(photo))
    assert refused.status is Status.FAILED
    assert "--overwrite" in refused.error
    assert only(plan(photo, skip_existing=True)).status is Status.SKIPPED
    assert isinstance(only(plan(photo, overwrite=True)), ImageJob)


def test_a_target_that_is_a_folder_is_refused(tmp_path):
    photo = picture(tmp_path / "a.png")
    (tmp_path / "a_x4.png").mkdir()
    assert "folder" in only(plan(photo, overwrite=True)).error


@pytest.mark.skipif(os.name == "nt", reason="folders are files nowhere else")
def test_an_output_below_a_file_is_refused_before_work(tmp_path):
    photo = picture(tmp_path / "a.png")
    assert only(plan(photo, output=str(photo / "deep" / "b.png"))).status is Status.FAILED


def test_unreadable_inputs_are_results_and_do_not_stop_the_others(tmp_path):
    good, bad, gone = picture(tmp_path / "a.png"), tmp_path / "b.png", tmp_path / "c.png"
    bad.write_bytes(b"no picture")
    items = plan(good, bad, gone).items
    assert isinstance(items[0], ImageJob)
    for item, path in zip(items[1:], (bad, gone), strict=True):
        assert item.status is Status.FAILED
        assert item.input == str(path)
        assert str(path) in item.error
        assert "\n" not in item.error


def test_too_many_pixels_are_refused_before_work_with_the_option_that_allows_them(tmp_path):
    photo = picture(tmp_path / "a.png")
    assert isinstance(only(plan(photo, run=RunOptions(max_pixels=48))), ImageJob)
    assert "--max-pixels" in only(plan(photo, run=RunOptions(max_pixels=47))).error


def test_a_dry_run_plans_every_job(tmp_path):
    photo = picture(tmp_path / "a.png")
    result = only(plan(photo, run=RunOptions(dry_run=True)))
    assert result.status is Status.PLANNED
    assert (result.size_in, result.size_out, result.scale) == ((8, 6), (32, 24), 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png"]


def test_standard_input_goes_to_standard_output_in_its_own_format(tmp_path):
    data = picture(tmp_path / "a.webp").read_bytes()
    job = only(plan("-", stdin=data))
    assert (job.target, job.format, job.size_in) == (None, "webp", (8, 6))


def test_standard_input_has_a_name_in_a_folder(tmp_path):
    data = picture(tmp_path / "a.png").read_bytes()
    job = only(plan("-", stdin=data, output=f"{tmp_path}/out/"))
    assert job.target == tmp_path / "out" / "stdin.png"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_read_once(tmp_path):
    data = picture(tmp_path / "a.png").read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    job = only(plan(pipe, output=f"{tmp_path}/out/"))
    writer.join()
    assert (job.source, job.target) == (data, tmp_path / "out" / "pipe.png")
