from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from upscale_training.data.crop import SubImageCropper
from upscale_training.data.derive import DeriveResult, derive
from upscale_training.data.index import images_below
from upscale_training.data.multiscale import MultiscaleCopier
from upscale_training.data.parallel import CLAIM_FILE
from upscale_training.data.pixels import read_rgb

from tests.training.data.files import write
from upscale.errors import ImageError, OutputError, UsageError


def make(maker, source: Path, target: Path, jobs: int = 1):
    return dict(derive(maker, source, images_below(source), target, jobs))


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """What a folder holds; a file that was written again has another time."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in files
    }


def test_copies_are_those_of_the_official_script(wide, tmp_path):
    source = wide
    assert set(make(MultiscaleCopier(), source, tmp_path / "out", jobs=2).values()) == {
        DeriveResult(4, 0)
    }
    for name in images_below(source):
        image = Image.fromarray(read_rgb(source / name))
        width, height = image.size
        assert width > height
        sizes = [(int(width * factor), int(height * factor)) for factor in (0.75, 0.5, 1 / 3)]
        sizes.append((int(400 * (width / height)), 400))
        for number, size in enumerate(sizes):
            expected = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
            copy = cv2.imread(str(tmp_path / "out" / f"{Path(name).stem}T{number}.png"))
            assert (copy[..., ::-1] == expected).all()


def test_the_shorter_side_of_an_upright_copy_is_400():
    assert MultiscaleCopier().outputs(1001, 2003)["T3"] == (400, 800)


def test_no_copy_is_larger_than_its_image():
    sizes = {"T0": (450, 375), "T1": (300, 250), "T2": (200, 166), "T3": (480, 400)}
    assert MultiscaleCopier().outputs(600, 500) == sizes
    assert list(MultiscaleCopier().outputs(500, 400)) == ["T0", "T1", "T2"]
    assert list(MultiscaleCopier().outputs(2, 2)) == ["T0", "T1"]
    assert MultiscaleCopier().outputs(1, 1) == {}


def official_starts(length: int, size: int, step: int, threshold: int) -> list[int]:
    """Of Real-ESRGAN's extract_subimages.py, which needs an image of at least the size."""
    starts = np.arange(0, length - size + 1, step)
    if length - (starts[-1] + size) > threshold:
        starts = np.append(starts, length - size)
    return starts.tolist()


@pytest.mark.parametrize("settings", [(480, 240, 0), (480, 240, 48), (100, 130, 0), (7, 3, 2)])
def test_sub_images_are_those_of_the_official_script(settings):
    pieces = SubImageCropper(*settings)
    for width in range(settings[0], settings[0] + 400, 7):
        height = 2 * settings[0] + width % 50
        expected = [
            (top, left)
            for top in official_starts(height, *settings)
            for left in official_starts(width, *settings)
        ]
        assert list(pieces.outputs(width, height).values()) == expected


def test_sub_images_have_the_pixels_of_the_image(tmp_path, wide):
    source = wide
    names = images_below(source)[:2]
    found = dict(derive(SubImageCropper(), source, names, tmp_path / "out", 1))
    assert set(found.values()) == {DeriveResult(4, 0)}
    for name in names:
        whole = read_rgb(source / name)
        bottom, right = whole.shape[0] - 480, whole.shape[1] - 480
        corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
        for number, (top, left) in enumerate(corners, 1):
            piece = read_rgb(tmp_path / "out" / f"{Path(name).stem}_s00{number}.png")
            assert (piece == whole[top : top + 480, left : left + 480]).all()


def test_an_image_smaller_than_a_sub_image_is_kept_whole(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 900, 3), np.uint8)
    write(tmp_path / "in" / "a.png", pixels)
    assert make(SubImageCropper(), tmp_path / "in", tmp_path / "out") == {
        "a.png": DeriveResult(3, 0)
    }
    for number, left in enumerate((0, 240, 420), 1):
        piece = read_rgb(tmp_path / "out" / f"a_s00{number}.png")
        assert (piece == pixels[:, left : left + 480]).all()


def test_outputs_have_the_folders_of_their_images(numbered, tmp_path):
    numbered("in", 1)
    (tmp_path / "in" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "in" / "000.png").rename(tmp_path / "in" / "deep" / "er" / "a.b.png")
    make(SubImageCropper(), tmp_path / "in", tmp_path / "new" / "out")
    assert images_below(tmp_path / "new" / "out") == ["deep/er/a.b_s001.png"]


def test_existing_outputs_are_kept_and_missing_ones_written(numbered, tmp_path):
    source, target = numbered("in", 4), tmp_path / "out"
    make(SubImageCropper(24, 8), source, target)
    before = state(target)
    assert set(make(SubImageCropper(24, 8), source, target, jobs=2).values()) == {
        DeriveResult(0, 15)
    }
    assert state(target) == before
    gone = ["000_s001.png", "002_s015.png"]
    for name in gone:
        (target / name).unlink()
    again = make(SubImageCropper(24, 8), source, target)
    assert [made.written for made in again.values()] == [1, 0, 1, 0]
    after = state(target)
    assert {name: content for name, (_, content) in after.items()} == {
        name: content for name, (_, content) in before.items()
    }
    assert {name for name in after if after[name] != before[name]} == set(gone)


def test_stale_temporary_files_of_a_killed_run_are_removed(numbered, tmp_path):
    source, target = numbered("in", 1), tmp_path / "out"
    make(SubImageCropper(), source, target)
    part = target / ".upscale-0123456789abcdef.part"
    part.write_bytes(b"half")
    make(SubImageCropper(), source, target)
    assert not part.exists()


def test_a_folder_with_other_files_raises_an_error(numbered, tmp_path):
    source, target = numbered("in", 1), tmp_path / "out"
    make(SubImageCropper(), source, target)
    before = state(target)
    with pytest.raises(OutputError, match="has other inputs or settings"):
        make(SubImageCropper(step=120), source, target)
    with pytest.raises(OutputError, match="has other inputs or settings"):
        make(MultiscaleCopier(), source, target)
    with pytest.raises(OutputError, match="has other inputs or settings"):
        make(SubImageCropper(), numbered("other", 1), target)
    (target / CLAIM_FILE).unlink()
    with pytest.raises(OutputError, match="contains other files"):
        make(SubImageCropper(), source, target)
    assert {**state(target), CLAIM_FILE: before[CLAIM_FILE]} == before


def test_outputs_among_the_inputs_raise_an_error(numbered, tmp_path, monkeypatch):
    source = numbered("in", 1)
    for target in (source, source / "out", Path("in/../in/out")):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError, match="use a folder outside of it"):
            make(SubImageCropper(), source, target)
    assert os.listdir(source) == ["000.png"]  # noqa: PTH208


def test_images_with_the_same_outputs_are_reported(numbered, tmp_path):
    source = numbered("in", 2)
    (source / "001.png").rename(source / "000.webp")
    found = make(SubImageCropper(), source, tmp_path / "out")
    assert found["000.png"] == DeriveResult(1, 0)
    assert "same outputs as 000.png" in str(found["000.webp"])


@pytest.mark.parametrize("jobs", [1, 2])
def test_damaged_images_do_not_stop_the_others(numbered, tmp_path, jobs):
    source = numbered("in", 5)
    whole = (source / "001.png").read_bytes()
    (source / "001.png").write_bytes(whole[:99])
    (source / "003.png").write_bytes(b"")
    found = make(MultiscaleCopier(), source, tmp_path / "out", jobs)
    assert [isinstance(found[name], ImageError) for name in sorted(found)] == [
        False, True, False, True, False
    ]  # fmt: skip
    assert not [name for name in images_below(tmp_path / "out") if name.startswith(("001", "003"))]
