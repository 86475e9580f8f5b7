from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from upscale.compare import ImageSet
from upscale.errors import CheckpointError, ImageError, OutputError, UsageError
from upscale.jobs import Advanced, Finished, ModelInfo, Planned, Started, Status
from upscale.jobs.comparison import (
    MARGIN,
    ComparedModel,
    check_target,
    compare_models,
    match_inputs,
    read_sets,
    write_page,
)
from upscale.jobs.inputs import Finder, Source
from upscale.options import CompareOptions, Options, SizeOptions


def put(path: Path, width: int = 12, height: int = 8, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def decoded(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


# --- files -----------------------------------------------------------------------------------


def matched(root: Path, *names: str, folders: tuple[str, ...] = ("a", "b")):
    """Create files below `root`; return the matched and the unmatched ones."""
    for name in names:
        put(root / name)
    matched_files = match_inputs([root / folder for folder in folders])
    sets = {
        one.name: [p.relative_to(root).as_posix() for p in one.paths] for one in matched_files.sets
    }
    return sets, [path.relative_to(root).as_posix() for path in matched_files.unmatched]


def test_folders_are_matched_by_path_without_suffix(tmp_path):
    sets, unmatched = matched(
        tmp_path, "a/x.png", "a/in/y.jpg", "b/in/y.webp", "b/x.png", "b/in/x.png"
    )
    assert sets == {"in/y": ["a/in/y.jpg", "b/in/y.webp"], "x": ["a/x.png", "b/x.png"]}
    assert unmatched == ["b/in/x.png"]


@pytest.mark.parametrize("name", ["x_x4.png", "x_x2.5.jpg", "x_640x480.webp"])
def test_size_suffix_is_ignored_in_matching(name, tmp_path):
    assert matched(tmp_path, "a/x.png", f"b/{name}") == ({"x": ["a/x.png", f"b/{name}"]}, [])


def test_equal_names_take_precedence_over_stripped_names(tmp_path):
    sets, unmatched = matched(tmp_path, "a/x.png", "b/x.png", "b/x_x4.png")
    assert sets == {"x": ["a/x.png", "b/x.png"]}
    assert unmatched == ["b/x_x4.png"]


def test_all_results_of_an_input_are_versions_of_it(tmp_path):
    sets, _ = matched(tmp_path, "a/x.png", "b/x_x2.png", "b/x_x4.png")
    assert sets == {"x": ["a/x.png", "b/x_x2.png", "b/x_x4.png"]}


def test_sets_need_an_image_in_every_folder(tmp_path):
    names = ("a/x.png", "b/x.png", "c/x_x4.png", "a/y.png", "b/y.png")
    sets, unmatched = matched(tmp_path, *names, folders=("a", "b", "c"))
    assert sets == {"x": ["a/x.png", "b/x.png", "c/x_x4.png"]}
    assert unmatched == ["a/y.png", "b/y.png"]


def test_other_files_hidden_files_and_nested_inputs_are_ignored(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("x")
    names = ("a/x.png", "a/.x.png", "a/.hidden/z.png", "a/out/x.png", "a/out/w.png")
    sets, unmatched = matched(tmp_path, *names, folders=("a", "a/out"))
    assert sets == {"x": ["a/x.png", "a/out/x.png"]}
    assert unmatched == ["a/out/w.png"]


def test_files_are_versions_in_the_given_order(tmp_path):
    paths = [put(tmp_path / name) for name in ("c.png", "a.png", "b.png")]
    (one,) = match_inputs(paths).sets
    assert list(one.paths) == paths


def test_single_input_or_mixed_inputs_raise(tmp_path):
    path = put(tmp_path / "a" / "x.png")
    for inputs in ([path], [path.parent], [path, path.parent], []):
        with pytest.raises(UsageError):
            match_inputs(inputs)


def test_labels_are_relative_to_the_common_folder(tmp_path):
    put(tmp_path / "before" / "in" / "x.png")
    put(tmp_path / "after" / "in" / "x_x4.png")
    matched_files = match_inputs([tmp_path / "before", tmp_path / "after"])
    (one,) = read_sets(matched_files, lambda error: pytest.fail(str(error)))
    labels = [Path(version.label).as_posix() for version in one.versions]
    assert labels == ["before/in/x.png", "after/in/x_x4.png"]
    files = match_inputs([tmp_path / "before/in/x.png", put(tmp_path / "before/in/y.png")])
    (two,) = read_sets(files, lambda error: pytest.fail(str(error)))
    assert [version.label for version in two.versions] == ["x.png", "y.png"]


def test_unreadable_image_drops_only_its_set(tmp_path):
    for name in ("a/x.png", "b/x.png", "a/y.png", "b/y.png"):
        put(tmp_path / name)
    (tmp_path / "b" / "x.png").write_bytes(b"no image")
    errors = []
    sets = list(read_sets(match_inputs([tmp_path / "a", tmp_path / "b"]), errors.append))
    assert [one.name for one in sets] == ["y"]
    assert len(errors) == 1
    assert "x.png" in str(errors[0])


# --- pages -----------------------------------------------------------------------------------


def example_set(tmp_path) -> ImageSet:
    paths = [put(tmp_path / name) for name in ("a.png", "b.png")]
    (one,) = read_sets(match_inputs(paths), lambda error: pytest.fail(str(error)))
    return one


def test_page_is_written_atomically(tmp_path):
    target = tmp_path / "new" / "page.html"
    one = example_set(tmp_path)

    def broken():
        yield one
        raise ImageError("x: damaged")

    with pytest.raises(ImageError, match="damaged"):
        write_page(target, "title", broken(), overwrite=False)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.png", "b.png"]
    assert write_page(target, "title", [one, one], overwrite=False) == 2
    assert target.read_bytes().count(b"<section ") == 2
    assert [path.name for path in target.parent.iterdir()] == ["page.html"]


def test_existing_page_is_kept_without_overwrite(tmp_path):
    target = tmp_path / "page.html"
    target.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        write_page(target, "title", [example_set(tmp_path)], overwrite=False)
    assert target.read_text() == "mine"
    write_page(target, "title", [example_set(tmp_path)], overwrite=True)
    assert target.read_bytes().startswith(b"<!doctype html>")


def test_no_page_is_written_without_sets(tmp_path):
    assert write_page(tmp_path / "page.html", "title", [], overwrite=False) == 0
    assert list(tmp_path.iterdir()) == []


def test_unsuitable_targets_are_rejected(tmp_path):
    existing = tmp_path / "page.html"
    existing.write_text("mine")
    (tmp_path / "folder.html").mkdir()
    for name, error in (("page.png", UsageError), ("page.html", OutputError)):
        with pytest.raises(error):
            check_target(tmp_path / name, [], overwrite=False)
    with pytest.raises(OutputError, match="folder"):
        check_target(tmp_path / "folder.html", [], overwrite=True)
    with pytest.raises(OutputError, match="input"):
        check_target(existing, [tmp_path / "." / "page.html"], overwrite=True)
    check_target(tmp_path / "new.HTM", [existing], overwrite=False)


# --- networks --------------------------------------------------------------------------------


class Neighbours:
    """Upscaler that repeats pixels after a box blur, which makes a missing margin visible."""

    def __init__(self, reach: int = 20, error: Exception | None = None):
        self.shapes = []
        self._reach = reach
        self._error = error

    def run(self, array, *, scale=None, size=None, progress=None):
        if self._error is not None:
            raise self._error
        self.shapes.append(array.shape)
        progress(SimpleNamespace(done=1, total=1))
        side = 2 * self._reach + 1
        pixels = cv2.blur(array, (side, side), borderType=cv2.BORDER_CONSTANT)
        pixels = pixels.reshape(array.shape)
        rows = np.arange(size[1]) * array.shape[0] // size[1]
        columns = np.arange(size[0]) * array.shape[1] // size[0]
        report = SimpleNamespace(tile=0, device="cpu", precision="fp32", resize=None)
        return SimpleNamespace(pixels=pixels[rows][:, columns], report=report)


def run(sources, models, *, crop=None, size=None, makers=None, events=None):
    """Compare models, each (name, scale), on files."""
    compared = tuple(ComparedModel(name, ModelInfo(name, scale)) for name, scale in models)
    made = {}

    def make(name):
        made[name] = (makers or {}).get(name, Neighbours)()
        return made[name]

    options = Options(size=size or SizeOptions(), compare=CompareOptions(crop=crop))
    sets, results = compare_models(
        Finder(False, None),
        [Source(str(path), path) for path in sources],
        compared,
        options,
        make=make,
        device="cpu",
        listener=(events if events is not None else []).append,
    )
    return sets, results, made


def test_crop_equals_the_same_part_of_the_whole_result(tmp_path):
    path = put(tmp_path / "a.png", 400, 300)
    (whole,), _, _ = run([path], [("net", 2)])
    for x, y, width, height in ((150, 120, 60, 40), (0, 0, 50, 30), (371, 271, 29, 29)):
        (one,), _, made = run([path], [("net", 2)], crop=(x, y, width, height))
        large = decoded(whole.versions[1].content)
        part = large[2 * y : 2 * (y + height), 2 * x : 2 * (x + width)]
        np.testing.assert_array_equal(decoded(one.versions[1].content), part)
        seen = made["net"].shapes[0]
        assert seen[1] <= width + 2 * MARGIN
        assert seen[0] <= height + 2 * MARGIN


def test_first_version_is_the_unscaled_crop(tmp_path):
    path = put(tmp_path / "a.png", 400, 300)
    (one,), _, _ = run([path], [("net", 4)], crop=(30, 40, 50, 20))
    assert one.versions[0].label == "input"
    assert one.versions[0].size == (50, 20)
    pixels = cv2.imread(str(path))[40:60, 30:80]
    np.testing.assert_array_equal(decoded(one.versions[0].content), pixels)


def test_networks_of_different_scales_give_equal_sizes(tmp_path):
    path = put(tmp_path / "a.png", 40, 30)
    (one,), _, _ = run([path], [("x2", 2), ("x4", 4), ("x1", 1)])
    assert [v.label for v in one.versions] == ["input", "x2", "x4", "x1"]
    assert [v.size for v in one.versions] == [(40, 30), (160, 120), (160, 120), (160, 120)]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (SizeOptions(scale=3), (60, 30)),
        (SizeOptions(scale=2.5), (50, 25)),
        (SizeOptions(width=200), (40, 20)),
        (SizeOptions(max_side=50), (10, 5)),
        (SizeOptions(scale=0.01), (1, 1)),
    ],
)
def test_requested_size_refers_to_the_whole_image(size, expected, tmp_path):
    path = put(tmp_path / "a.png", 100, 80)
    (one,), (result,), _ = run([path], [("net", 4)], crop=(70, 60, 20, 10), size=size)
    assert one.versions[1].size == result.size_out == expected


def test_notes_contain_time_and_device(tmp_path):
    (one,), _, _ = run([put(tmp_path / "a.png")], [("net", 4)])
    assert one.versions[0].note == ""
    assert one.versions[1].note.endswith(" s, cpu fp32")
    assert float(one.versions[1].note.split()[0]) >= 0


def test_transparency_is_preserved(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 4)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    (one,), _, _ = run([tmp_path / "a.png"], [("net", 2)], crop=(10, 10, 20, 20))
    assert [decoded(v.content).shape for v in one.versions] == [(20, 20, 4), (40, 40, 4)]


def test_automatic_crop_is_chosen_for_each_image(tmp_path):
    for name, x in (("a", 100), ("b", 700)):
        pixels = np.full((700, 1000, 3), 128, np.uint8)
        rng = np.random.default_rng(0)
        pixels[300:460, x : x + 160] = rng.integers(0, 256, (40, 40, 3)).repeat(4, 0).repeat(4, 1)
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    sets, _, _ = run(paths, [("net", 1)], crop="auto")
    for one in sets:
        assert one.versions[0].size == (288, 192)
        assert decoded(one.versions[0].content).std() > 20


def test_crop_beyond_the_edge_fails_only_that_image(tmp_path):
    small, large = put(tmp_path / "small.png", 30, 30), put(tmp_path / "large.png", 90, 90)
    sets, results, _ = run([small, large], [("net", 2)], crop=(20, 20, 40, 40))
    assert [Path(one.name).name for one in sets] == ["large.png"]
    assert [result.status for result in results] == [Status.FAILED, Status.DONE]
    assert "small.png: is 30x30" in results[0].error


def test_failed_network_does_not_stop_the_others(tmp_path):
    def absent():
        raise CheckpointError("bad: cannot be loaded")

    makers = {"bad": absent, "weak": lambda: Neighbours(error=MemoryError())}
    paths = [put(tmp_path / "a.png"), put(tmp_path / "b.png")]
    sets, results, _ = run(paths, [("bad", 4), ("weak", 4), ("good", 2)], makers=makers)
    assert [[v.label for v in one.versions] for one in sets] == [["input", "good"]] * 2
    assert sets[0].versions[1].size == (48, 32)
    by_model = {result.model: result for result in results}
    assert by_model["bad"].error == "bad: cannot be loaded"
    assert "not enough memory" in by_model["weak"].error
    assert by_model["good"].status is Status.DONE
    assert len(results) == 6


def test_image_without_any_result_is_left_out(tmp_path):
    bad = {"bad": lambda: Neighbours(error=RuntimeError("x"))}
    sets, results, _ = run([put(tmp_path / "a.png")], [("bad", 4)], makers=bad)
    assert sets == []
    assert results[0].status is Status.FAILED


def test_usage_error_of_a_network_propagates(tmp_path):
    def refuse():
        raise UsageError("--denoise does not work with net")

    with pytest.raises(UsageError, match="denoise"):
        run([put(tmp_path / "a.png")], [("net", 4)], makers={"net": refuse})


def test_networks_are_loaded_once_and_only_with_images(tmp_path):
    loads = []

    def make():
        loads.append(1)
        return Neighbours()

    paths = [put(tmp_path / "a.png"), put(tmp_path / "b.png")]
    run(paths, [("net", 2)], makers={"net": make})
    assert len(loads) == 1
    _, results, made = run([tmp_path / "none.png"], [("net", 2), ("other", 2)])
    assert made == {}
    assert [result.status for result in results] == [Status.FAILED]


def test_events_cover_every_network_on_every_image(tmp_path):
    events = []
    paths = [put(tmp_path / "a.png"), tmp_path / "none.png", put(tmp_path / "b.png")]
    run(paths, [("one", 2), ("two", 2)], events=events)
    assert events[0] == Planned(5, 0, ("cpu",), 5)
    started = [event.input for event in events if isinstance(event, Started)]
    assert started == ["a, one", "b, one", "a, two", "b, two"]
    assert sum(isinstance(event, Finished) for event in events) == 5
    assert Advanced("cpu", 1, 1) in events


def test_only_crops_are_kept_in_memory(tmp_path):
    path = put(tmp_path / "a.png", 600, 500)
    kept = []

    class Keeper(Neighbours):
        def run(self, array, **more):
            while array.base is not None:
                array = array.base
            kept.append(array.shape)
            return super().run(array, **more)

    run([path], [("net", 1)], crop=(200, 200, 50, 50), makers={"net": Keeper})
    assert kept == [(50 + 2 * MARGIN, 50 + 2 * MARGIN, 3)]
