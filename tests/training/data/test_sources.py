from __future__ import annotations

import cv2
import numpy as np
import pytest
from upscale_training.data.index import images_below
from upscale_training.data.lmdb import build_lmdb
from upscale_training.data.pixels import read_rgb
from upscale_training.data.sources import ImageRef, SourceEntry, list_entries
from upscale_training.recipe import Source

from tests.training.data.files import write
from upscale.errors import ImageError, TrainingError


def names(found: tuple[SourceEntry, ...]) -> list[tuple[str, str | None]]:
    return [
        (str(one.hr).rpartition("/")[2], one.lr and str(one.lr).rpartition("/")[2]) for one in found
    ]


def test_a_folder_gives_all_its_images(data):
    folder = data / "photos"
    found = list_entries(Source(folder), 4)
    assert len(found) == len([path for path in folder.rglob("*") if path.is_file()]) > 40
    assert found[0].lr is None
    assert found[0].hr.read().shape == (160, 160, 3)


def test_an_index_selects_images_and_may_repeat_them(numbered, tmp_path):
    folder = numbered("in", 3)
    (tmp_path / "meta.txt").write_text("002.png (40,56,3)\n000.png (40,56,3)\n002.png (40,56,3)\n")
    found = list_entries(Source(folder, index=tmp_path / "meta.txt"), 4)
    assert names(found) == [("002.png", None), ("000.png", None), ("002.png", None)]
    assert found[0].hr.read()[0, 0, 0] == 2


def test_pairs_are_found_by_name(pairs):
    high, low = pairs
    (low / "1.png").rename(low / "1x4.png")  # as DIV2K has it
    (low / "2.png").rename(low / "2x4_s003.png")  # and its sub-images
    (high / "2.png").rename(high / "2_s003.png")
    pixels = cv2.imread(str(low / "3.png"))
    (low / "3.png").unlink()
    cv2.imwrite(str(low / "3.webp"), pixels, [cv2.IMWRITE_WEBP_QUALITY, 101])
    found = list_entries(Source(high, low), 4)
    assert names(found) == [
        ("0.png", "0.png"), ("1.png", "1x4.png"), ("2_s003.png", "2x4_s003.png"),
        ("3.png", "3.webp"), ("4.png", "4.png"), ("5.png", "5.png"),
    ]  # fmt: skip
    for entry in found:
        good, bad = entry.read(4)
        assert bad is not None
        assert (good[::4, ::4] == bad).all()


def test_pairs_are_found_by_an_index(pairs, tmp_path):
    high, low = pairs
    (low / "1.png").rename(low / "another.png")
    (tmp_path / "pairs.txt").write_text("1.png, another.png\n0.png, 0.png\n4.png\n")
    found = list_entries(Source(high, low, tmp_path / "pairs.txt"), 4)
    assert names(found) == [("1.png", "another.png"), ("0.png", "0.png"), ("4.png", "4.png")]


def test_an_image_without_lr_image_raises_an_error(pairs):
    high, low = pairs
    (low / "1.png").unlink()
    (low / "3.png").unlink()
    with pytest.raises(TrainingError, match=r"low: 1\.png and 1 more have no LR image in it; use"):
        list_entries(Source(high, low), 4)


def test_a_pair_of_wrong_sizes_is_an_error_when_it_is_read(pairs):
    high, low = pairs
    write(low / "0.png", np.zeros((4, 4, 3)))
    with pytest.raises(ImageError, match=r"0\.png: is .*, not 4 times its LR image of 4x4"):
        list_entries(Source(high, low), 4)[0].read(4)


def test_the_rest_of_a_division_by_the_scale_is_cut_for_benchmarks_only(pairs):
    high, low = pairs
    whole = np.arange(43 * 50 * 3, dtype=np.uint8).reshape(43, 50, 3)
    write(high / "0.png", whole)
    write(low / "0.png", np.zeros((10, 12, 3)))
    entry = list_entries(Source(high, low), 4)[0]
    assert (entry.read_cut(4)[0] == read_rgb(high / "0.png")[:40, :48]).all()
    with pytest.raises(ImageError, match="not 4 times"):
        entry.read(4)
    write(high / "0.png", whole[:39])
    with pytest.raises(ImageError, match="not 4 times"):
        entry.read_cut(4)


def test_an_archive_says_what_can_be_read(tmp_path):
    (tmp_path / "shard.tar").write_bytes(b"?")
    with pytest.raises(TrainingError, match=r"shard\.tar: is a file, and only folders"):
        list_entries(Source(tmp_path / "shard.tar"), 4)


def test_pairs_of_lmdbs_have_the_same_keys(pairs, tmp_path):
    for folder in pairs:
        list(build_lmdb(folder, images_below(folder), tmp_path / f"{folder.name}.lmdb", 1))
    found = list_entries(Source(tmp_path / "high.lmdb", tmp_path / "low.lmdb"), 4)
    assert names(found) == [(str(number), str(number)) for number in range(6)]
    good, bad = found[3].read(4)
    assert bad is not None
    assert (bad == read_rgb(pairs[1] / "3.png")).all()
    assert (good[::4, ::4] == bad).all()
    with pytest.raises(TrainingError, match="must be an LMDB"):
        list_entries(Source(tmp_path / "high.lmdb", pairs[1]), 4)
    index = tmp_path / "low.lmdb" / "meta_info.txt"
    index.write_text(index.read_text().replace("2.png", "two.png"))
    with pytest.raises(TrainingError, match="2 has no LR image in it"):
        list_entries(Source(tmp_path / "high.lmdb", tmp_path / "low.lmdb"), 4)
    (tmp_path / "some.txt").write_text("4.png (1,1,3) 1\n0.png (1,1,3) 1\n")
    chosen = Source(tmp_path / "high.lmdb", tmp_path / "low.lmdb", tmp_path / "some.txt")
    assert names(list_entries(chosen, 4)) == [("4", "4"), ("0", "0")]


@pytest.mark.parametrize("kind", ["empty", "file", "nothing"])
def test_a_source_without_images_raises_an_error(tmp_path, kind):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"?")
    with pytest.raises(TrainingError, match=f"{kind}: "):
        list_entries(Source(tmp_path / kind), 4)


def test_an_image_of_an_lmdb_is_named_by_its_key(pairs, tmp_path):
    list(build_lmdb(pairs[0], images_below(pairs[0]), tmp_path / "a.lmdb", 1))
    with pytest.raises(ImageError, match=r"a\.lmdb: contains no 77"):
        ImageRef(str(tmp_path / "a.lmdb"), "77").read()
