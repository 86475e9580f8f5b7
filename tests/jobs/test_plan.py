from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.errors import UsageError
from upscale.jobs import (
    ImageJob,
    JobResult,
    ModelInfo,
    Status,
    make_plan,
    outputs,
    read_names,
)
from upscale.options import (
    EngineOptions,
    Options,
    OutputOptions,
    RunOptions,
    SizeOptions,
)

MODEL = ModelInfo("net", 4)


def image(path: Path, width: int = 8, height: int = 6, channels: int = 3) -> Path:
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


def only(result) -> ImageJob | JobResult:
    assert len(result.items) == 1
    return result.items[0]


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
def test_default_name_contains_the_size(size, name, expected, tmp_path):
    photo = image(tmp_path / "photo.jpg")
    job = only(plan(photo, size=size))
    assert job.target == tmp_path / name
    assert job.size_out == expected
    assert job.format == "jpeg"


@pytest.mark.parametrize("name", ["a.JPG", "a.jpeg", "a.png", "a.webp", "a.tif", "a.tiff", "a.bmp"])
def test_output_keeps_the_format_and_suffix_spelling_of_the_input(name, tmp_path):
    photo = image(tmp_path / name)
    job = only(plan(photo))
    assert job.target == tmp_path / f"a_x4{photo.suffix}"


def test_format_is_detected_from_the_content(tmp_path):
    photo = image(tmp_path / "really.png").rename(tmp_path / "photo.jpg")
    job = only(plan(photo))
    assert (job.format, job.target) == ("png", tmp_path / "photo_x4.png")


def test_input_without_suffix_gets_the_suffix_of_its_format(tmp_path):
    photo = image(tmp_path / "really.webp").rename(tmp_path / "photo")
    assert only(plan(photo)).target == tmp_path / "photo_x4.webp"


def test_output_too_large_for_the_input_format_becomes_png_with_a_note(tmp_path):
    photo = image(tmp_path / "wide.webp", 600, 2)
    job = only(plan(photo, size=SizeOptions(scale=30)))
    assert job.target == tmp_path / "wide_x30.png"
    assert "16383" in job.note


def test_output_too_large_for_the_requested_format_fails(tmp_path):
    photo = image(tmp_path / "wide.png", 600, 2)
    result = only(plan(photo, size=SizeOptions(scale=30), format="webp"))
    assert result.status is Status.FAILED
    assert "-f png" in result.error


def test_output_file_determines_the_format(tmp_path):
    photo = image(tmp_path / "photo.jpg")
    job = only(plan(photo, output=str(tmp_path / "new" / "big.webp")))
    assert (job.format, job.target) == ("webp", tmp_path / "new" / "big.webp")


@pytest.mark.parametrize("output", ["out", "out/", "new/deep/"])
def test_output_folder_keeps_the_name(output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    photo = image(tmp_path / "photo.jpg")
    assert only(plan(photo, output=output)).target == Path(output) / "photo.jpg"


def test_output_of_several_inputs_is_a_folder(tmp_path):
    photos = [image(tmp_path / "a.jpg"), image(tmp_path / "b.png")]
    result = plan(*photos, output=str(tmp_path / "out"))
    assert [job.target.name for job in result.items] == ["a.jpg", "b.png"]


def test_template_can_use_folder_and_suffix_of_the_input(tmp_path):
    photo = image(tmp_path / "holiday" / "photo.webp")
    job = only(
        plan(photo, output=f"{tmp_path}/out/", name="{folder}/{stem}_{suffix}", format="png")
    )
    assert job.target == tmp_path / "out" / "holiday" / "photo_webp.png"
    bare = photo.rename(photo.with_suffix(""))
    assert only(plan(bare, name="{stem}_{suffix}")).target.name == "photo_webp.webp"


def test_format_determines_the_suffix(tmp_path):
    photo = image(tmp_path / "photo.jpg")
    job = only(plan(photo, format="webp"))
    assert (job.format, job.target.name) == ("webp", "photo_x4.webp")


def test_template_names_the_output(tmp_path):
    photo = image(tmp_path / "photo.jpg")
    job = only(plan(photo, name="{model}/{stem}-{scale}-{width}x{height}.{ext}"))
    assert job.target == tmp_path / "net" / "photo-4-32x24.jpg"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "photo.xyz"}, "xyz"),
        ({"output": "photo"}, "no such folder"),
        ({"format": "psd"}, "--format"),
        ({"output": "a.png", "format": "jpg"}, "differ in format"),
        ({"name": "{oops}"}, "oops"),
    ],
)
def test_usage_errors_are_found_before_reading_inputs(changes, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        plan(tmp_path / "not-even-there.jpg", **changes)


def test_output_must_suit_the_number_of_inputs(tmp_path):
    a, b = image(tmp_path / "in" / "a.jpg"), image(tmp_path / "in" / "b.jpg")
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


def test_folder_is_read_in_order_and_ignored_files_are_counted(tmp_path):
    folder = tmp_path / "in"
    for name in ("b.png", "a.jpg", "sub/c.png"):
        image(folder / name)
    for name in ("notes.txt", ".hidden.png", "noext"):
        (folder / name).write_bytes(b"x")
    result = plan(folder, output=str(tmp_path / "out"))
    assert [job.label for job in result.items] == [str(folder / "a.jpg"), str(folder / "b.png")]
    assert result.ignored == 3


def test_recursion_mirrors_the_tree_and_skips_its_own_output(tmp_path):
    folder = tmp_path / "in"
    for name in ("a.png", "sub/deep/b.png", ".hidden/c.png", "out/old.png", "out/sub/old.png"):
        image(folder / name)
    result = plan(folder, output=str(folder / "out"), run=RunOptions(recursive=True))
    targets = [job.target for job in result.items]
    assert targets == [folder / "out" / "a.png", folder / "out" / "sub" / "deep" / "b.png"]


@pytest.mark.parametrize(
    ("names", "output", "advice"),
    [
        (("a.jpg", "a.png"), {"format": "png"}, "--name '{stem}_{suffix}.{ext}'"),
        (("x/a.png", "y/a.png"), {}, "--name '{folder}/{stem}.{ext}'"),
        (("a.png", "b.png"), {"name": "same.{ext}"}, "put {stem} into --name"),
        (("x/s/a.png", "y/s/a.png"), {}, "another -o"),
    ],
)
def test_second_input_with_the_same_output_fails_with_working_advice(
    names, output, advice, tmp_path
):
    a, b = (image(tmp_path / name) for name in names)
    output = {"output": f"{tmp_path}/out/"} | output
    first, second = plan(a, b, **output).items
    assert isinstance(first, ImageJob)
    assert second.status is Status.FAILED
    assert f"{b}: has the same output as {a}: " in second.error
    assert advice in second.error
    if "'" in advice:
        advised = plan(a, b, **output | {"name": advice.split("'")[1]}).items
        assert len({job.target for job in advised}) == 2


def test_advice_keeps_the_scale_in_default_names(tmp_path):
    a, b = image(tmp_path / "a.jpg"), image(tmp_path / "a.png")
    _, second = plan(a, b, format="webp").items
    assert "--name '{stem}_{suffix}_x{scale}.{ext}'" in second.error


@pytest.mark.parametrize(("caseless", "jobs"), [(True, 1), (False, 2)])
def test_names_that_differ_in_case_clash_on_caseless_drives(caseless, jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "ignores_case", lambda folder: caseless)
    a, b = image(tmp_path / "x" / "Photo.png"), image(tmp_path / "y" / "photo.png")
    items = plan(a, b, output=f"{tmp_path}/out/").items
    assert [isinstance(item, ImageJob) for item in items].count(True) == jobs
    if caseless:
        assert "has the same output as" in items[1].error


def test_case_probe_leaves_no_file(tmp_path):
    (tmp_path / "Probe").touch()
    truth = (tmp_path / "pROBE").exists()
    assert outputs.ignores_case(tmp_path) is truth
    assert outputs.ignores_case(tmp_path / "will" / "be" / "result") is truth
    assert [path.name for path in tmp_path.iterdir()] == ["Probe"]


def test_repeated_input_is_one_job(tmp_path):
    photo = image(tmp_path / "in" / "a.jpg")
    assert len(plan(photo, photo, photo.parent, output=str(tmp_path / "out")).items) == 1


def test_file_with_several_names_is_one_job(tmp_path, monkeypatch):
    photo = image(tmp_path / "in" / "a.jpg")
    (tmp_path / "link").symlink_to(photo.parent)
    monkeypatch.chdir(tmp_path)
    names = ("in/a.jpg", photo, "in/../in/a.jpg", "link/a.jpg", "link")
    assert only(plan(*names, output="out/")).label == "in/a.jpg"


def test_overwrite_never_replaces_an_input(tmp_path):
    a, b = image(tmp_path / "a.png"), image(tmp_path / "b.png")
    assert "would replace an input" in only(plan(a, output=str(a), overwrite=True)).error
    assert "would replace an input" in only(plan(a, output=f"{tmp_path}/", overwrite=True)).error
    link = tmp_path / "link.png"
    link.symlink_to(a)
    assert "would replace an input" in only(plan(a, output=str(link), overwrite=True)).error
    first, second = plan(a, b, name="b.{ext}", overwrite=True).items
    assert "would replace an input" in first.error
    assert "has the same output as" in second.error


def test_overwrite_never_replaces_an_input_through_folders_that_do_not_exist(tmp_path, monkeypatch):
    image(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    for target in ("new/../a.png", "./new/deep/../../a.png", f"{tmp_path}/new/../a.png"):
        item = only(plan("a.png", output=target, overwrite=True))
        assert item.error == f"{target.removeprefix('./')}: would replace an input: pass another -o"
    assert "would replace" in only(plan("a.png", output="new/../a.png")).error
    assert not (tmp_path / "new").exists()


def test_input_as_its_own_output_is_an_error_and_not_skipped(tmp_path):
    photo = image(tmp_path / "a.png")
    (tmp_path / "other.png").hardlink_to(photo)
    for target in (photo, tmp_path / "other.png", tmp_path / "new" / ".." / "a.png"):
        assert "would replace" in only(plan(photo, output=str(target), skip_existing=True)).error


@pytest.mark.skipif(os.name != "posix", reason="special files of POSIX")
@pytest.mark.parametrize("option", ["overwrite", "skip_existing", "strip_metadata"])
@pytest.mark.parametrize("name", ["pipe.png", "link.png", "new/../pipe.png"])
def test_special_files_are_no_outputs(tmp_path, name, option):
    photo = image(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("pipe.png")
    target = f"{tmp_path}/{name}"
    item = only(plan(photo, output=target, **{option: True}))
    assert item.error == f"{target}: is a named pipe: give another output name"


def test_empty_outputs_count_as_absent_for_skip_existing(tmp_path):
    photo = image(tmp_path / "a.png")
    (tmp_path / "a_x4.png").touch()
    assert isinstance(only(plan(photo, skip_existing=True)), ImageJob)
    assert "already exists" in only(plan(photo)).error
    (tmp_path / "a_x4.png").write_bytes(b"x")
    assert only(plan(photo, skip_existing=True)).status is Status.SKIPPED


def test_overwrite_never_replaces_an_input_under_another_spelling(tmp_path):
    """Simulate a drive that ignores case, where writing `a.png` replaces `A.png`."""
    a, b = image(tmp_path / "a.png"), image(tmp_path / "b.png")
    os.link(a, tmp_path / "A.png")
    for photos in ((a,), (a, b)):
        items = plan(*photos, name="A.{ext}", overwrite=True).items
        assert "would replace an input" in items[0].error


def test_repeated_batch_skips_its_own_outputs_among_the_inputs(tmp_path):
    for name in ("a.png", "b.png"):
        image(tmp_path / name)
    image(tmp_path / "a_x4.png")
    result = plan(*sorted(tmp_path.glob("*.png")), skip_existing=True)
    by_name = {Path(getattr(item, "label", None) or item.input).name: item for item in result.items}
    assert by_name["a.png"].status is Status.SKIPPED
    assert by_name["a_x4.png"].status is Status.SKIPPED
    assert by_name["a_x4.png"].notes == (f"is the output of {tmp_path / 'a.png'}",)
    assert isinstance(by_name["b.png"], ImageJob)


def test_existing_output_fails_or_is_skipped_or_replaced(tmp_path):
    photo = image(tmp_path / "a.png")
    image(tmp_path / "a_x4.png")
    refused = only(plan(photo))
    assert refused.status is Status.FAILED
    assert "--overwrite" in refused.error
    assert only(plan(photo, skip_existing=True)).status is Status.SKIPPED
    assert isinstance(only(plan(photo, overwrite=True)), ImageJob)


def test_target_that_is_a_folder_fails(tmp_path):
    photo = image(tmp_path / "a.png")
    (tmp_path / "a_x4.png").mkdir()
    assert "folder" in only(plan(photo, overwrite=True)).error


@pytest.mark.parametrize("flags", [{}, {"overwrite": True}, {"skip_existing": True}])
def test_target_that_is_a_broken_link_fails(flags, tmp_path):
    photo = image(tmp_path / "a.png")
    (tmp_path / "a_x4.png").symlink_to(tmp_path / "gone.png")
    assert "is a broken link" in only(plan(photo, **flags)).error


def test_links_to_images_are_followed_and_links_to_folders_are_not(tmp_path):
    folder, outside = tmp_path / "in", image(tmp_path / "outside.png")
    inside = image(folder / "a.png")
    (folder / "deep").mkdir()
    (folder / "deep" / "link.png").symlink_to(inside)
    (folder / "b.png").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "away").symlink_to(tmp_path)
    (folder / "broken.png").symlink_to(tmp_path / "gone.png")
    out = tmp_path / "out"
    result = plan(folder, output=f"{out}/", run=RunOptions(recursive=True))
    targets = [job.target for job in result.items if isinstance(job, ImageJob)]
    assert targets == [out / "a.png", out / "b.png", out / "deep" / "link.png"]
    (broken,) = [item for item in result.items if isinstance(item, JobResult)]
    assert broken.input == str(folder / "broken.png")
    assert "broken.png" in broken.error


def test_link_to_a_folder_is_followed_if_it_is_an_argument(tmp_path):
    image(tmp_path / "in" / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert only(plan(tmp_path / "link", output=f"{tmp_path}/out/")).label.endswith("link/a.png")


def test_output_folder_is_skipped_under_another_name(tmp_path):
    image(tmp_path / "in" / "a.png")
    image(tmp_path / "in" / "results" / "old.png")
    (tmp_path / "out").symlink_to(tmp_path / "in" / "results")
    result = plan(tmp_path / "in", output=str(tmp_path / "out"), run=RunOptions(recursive=True))
    assert only(result).target == tmp_path / "out" / "a.png"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_in_a_folder_is_ignored(tmp_path):
    image(tmp_path / "in" / "a.png")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    result = plan(tmp_path / "in", output=f"{tmp_path}/out/")
    assert (only(result).target.name, result.ignored) == ("a.png", 1)


@pytest.mark.parametrize(
    ("listing", "names"),
    [
        (b"", []),
        (b"a.png\nb c.png\n", ["a.png", "b c.png"]),
        (b"a.png\r\nb.png", ["a.png", "b.png"]),
        (b"two\nlines.png\0b.png\0", ["two\nlines.png", "b.png"]),
        (b"odd\xff.png\n", [os.fsdecode(b"odd\xff.png")]),
    ],
)
def test_list_of_names_is_separated_by_lines_or_nul(listing, names):
    assert read_names(listing) == names


@pytest.mark.skipif(os.name == "nt", reason="folders are files nowhere else")
def test_output_below_a_file_fails(tmp_path):
    photo = image(tmp_path / "a.png")
    assert only(plan(photo, output=str(photo / "deep" / "b.png"))).status is Status.FAILED


def test_unreadable_inputs_become_failures(tmp_path):
    good, bad, gone = image(tmp_path / "a.png"), tmp_path / "b.png", tmp_path / "c.png"
    bad.write_bytes(b"no image")
    items = plan(good, bad, gone).items
    assert isinstance(items[0], ImageJob)
    for item, path in zip(items[1:], (bad, gone), strict=True):
        assert item.status is Status.FAILED
        assert item.input == str(path)
        assert str(path) in item.error
        assert "\n" not in item.error


def test_too_many_pixels_fail_with_a_hint_to_the_option(tmp_path):
    photo = image(tmp_path / "a.png")
    assert isinstance(only(plan(photo, run=RunOptions(max_pixels=48))), ImageJob)
    assert "--max-pixels" in only(plan(photo, run=RunOptions(max_pixels=47))).error


def test_dry_run_returns_planned_results(tmp_path):
    photo = image(tmp_path / "a.png")
    result = only(plan(photo, run=RunOptions(dry_run=True)))
    assert result.status is Status.PLANNED
    assert (result.size_in, result.size_out, result.scale) == ((8, 6), (32, 24), 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png"]


def test_standard_input_goes_to_standard_output(tmp_path):
    data = image(tmp_path / "a.webp").read_bytes()
    job = only(plan("-", stdin=data))
    assert (job.target, job.format, job.size_in) == (None, "webp", (8, 6))


def test_standard_input_in_a_folder_is_named_stdin(tmp_path):
    data = image(tmp_path / "a.png").read_bytes()
    job = only(plan("-", stdin=data, output=f"{tmp_path}/out/"))
    assert job.target == tmp_path / "out" / "stdin.png"


def test_standard_input_and_a_file_with_the_same_output_clash(tmp_path):
    file = image(tmp_path / "in" / "stdin.png")
    for data in (file.read_bytes(), image(tmp_path / "other.png", 4, 4).read_bytes()):
        first, second = plan("-", file, stdin=data, output=f"{tmp_path}/out/").items
        assert isinstance(first, ImageJob)
        assert second.status is Status.FAILED
        assert "has the same output as -" in second.error


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_is_read_once(tmp_path):
    data = image(tmp_path / "a.png").read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    job = only(plan(pipe, output=f"{tmp_path}/out/"))
    writer.join()
    assert (job.source, job.target) == (data, tmp_path / "out" / "pipe.png")


def float_psd() -> bytes:
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 3, 4, 32, 3)
    return head + bytes(4 * 3) + bytes(2 + 4 * 36)


PNM = b"P6 4 3 255\n" + bytes(36)
KINDS = {
    "tga": (b"", None),
    "ppm": (PNM, "PNM can only be read, so it is written as png"),
    "pam": (b"P7\nWIDTH 4\nHEIGHT 3\nDEPTH 3\nMAXVAL 255\nENDHDR\n" + bytes(36),
            "PNM can only be read, so it is written as png"),
    "pfm": (b"PF 4 3 -1\n" + bytes(144), "PNM can only be read, so it is written as tiff"),
    "jp2": (bytes(imagecodecs.jpeg2k_encode(np.zeros((3, 4, 3), np.uint8))),
            "JPEG 2000 can only be read, so it is written as png"),
    "qoi": (bytes(imagecodecs.qoi_encode(np.zeros((3, 4, 3), np.uint8))),
            "QOI can only be read, so it is written as png"),
    "psd": (float_psd(), "Photoshop can only be read, so it is written as tiff"),
}  # fmt: skip


@pytest.mark.parametrize("has_suffix", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_formats_that_are_not_written_get_another(kind, has_suffix, tmp_path):
    content, note = KINDS[kind]
    photo = tmp_path / (f"a.{kind}" if has_suffix else "a")
    if kind == "tga":
        PILImage.new("RGB", (4, 3)).save(tmp_path / "a.tga")
        photo = tmp_path / "a.tga"
    else:
        photo.write_bytes(content)
    job = only(plan(photo))
    suffix = "tga" if note is None else {"tiff": "tif", "png": "png"}[note.split()[-1]]
    assert (job.target, job.note) == (tmp_path / f"a_x4.{suffix}", note)


@pytest.mark.parametrize(("kind", "stem"), [("qoi", "qoi"), ("psd", "psd"), ("pfm", "pnm")])
def test_suffix_in_a_name_is_that_of_the_content(kind, stem, tmp_path):
    (tmp_path / "a").write_bytes(KINDS[kind][0])
    job = only(plan(tmp_path / "a", name="{stem}_{suffix}.{ext}"))
    assert job.target.stem == f"a_{stem}"


def test_streams_of_formats_that_are_not_written_become_png(tmp_path):
    job = only(plan("-", stdin=PNM, output=f"{tmp_path}/out/"))
    assert (job.target, job.format) == (tmp_path / "out" / "stdin.png", "png")


@pytest.mark.parametrize(
    "name", ["cut.jpg", "-"]
)  # fmt: skip
def test_every_error_names_the_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    result = only(plan(name, stdin=b"\xff\xd8\xff\xe0", output=f"{tmp_path}/out/"))
    assert result.status is Status.FAILED
    assert result.error.startswith(f"{name}: is ")


def test_transparent_bmp_becomes_png_unless_bmp_was_asked_for(data, tmp_path):
    photo = tmp_path / "a.bmp"
    photo.write_bytes((data / "images/cases/bmp-v4-alpha.bmp").read_bytes())
    job = only(plan(photo))
    assert job.target == tmp_path / "a_x4.png"
    assert job.note == "BMP cannot hold transparency, so it is written as png"
    for asked in ({"format": "bmp"}, {"output": str(tmp_path / "b.bmp")}):
        assert only(plan(photo, **asked)).format == "bmp"


def test_linear_jpeg_xl_becomes_png(data, tmp_path):
    photo = tmp_path / "a.jxl"
    photo.write_bytes((data / "images/cases/jxl-16.jxl").read_bytes())
    job = only(plan(photo))
    assert job.target == tmp_path / "a_x4.png"
    assert job.note == (
        "JPEG XL cannot name its colour space (H.273: (1, 8)), so it is written as png"
    )


def test_floats_in_dds_become_tiff(tmp_path):
    head = struct.pack("<4s7I44x", b"DDS ", 124, 0x1007, 3, 4, 0, 0, 1)
    head += struct.pack("<II4s5I5I", 32, 4, struct.pack("<I", 113), *[0] * 10)
    (tmp_path / "a.dds").write_bytes(head + bytes(3 * 4 * 8))
    job = only(plan(tmp_path / "a.dds"))
    assert job.target == tmp_path / "a_x4.tif"
    assert job.note == "DDS is written without floats, so it is written as tiff"


@pytest.mark.parametrize(("name", "written"), [("a.mpo", "a_x4.jpg"), ("a.GIF", "a_x4.GIF"),
                                               ("a.apng", "a_x4.apng")])  # fmt: skip
def test_spelling_of_the_suffix_is_kept_where_it_fits(name, written, tmp_path):
    format = {"a.mpo": "JPEG", "a.GIF": "GIF", "a.apng": "PNG"}[name]
    PILImage.new("RGB", (4, 3)).save(tmp_path / name, format)
    job = only(plan(tmp_path / name))
    assert (job.target, job.note) == (tmp_path / written, None)
