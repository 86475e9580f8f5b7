from __future__ import annotations

import os

import numpy as np
import pytest
from upscale_training.data.index import (
    IndexEntry,
    check_name,
    images_below,
    read_index,
    write_index,
)
from upscale_training.data.listing import list_images, list_pairs

from tests.training.data.files import write
from tests.training.data.official import load_official
from upscale.errors import ImageError, OutputError, TrainingError


def test_a_folder_is_searched_recursively_in_the_order_of_names(tmp_path):
    for name in ("b.png", "a/z.JPG", "a/b/c.webp", "a/notes.txt", ".hidden/x.png", "a/._b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    assert images_below(tmp_path) == ["a/b/c.webp", "a/z.JPG", "b.png"]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_links_to_folders_are_followed_without_cycles(numbered, tmp_path):
    folder = numbered("in", 1)
    (folder / "more").symlink_to(numbered("elsewhere", 2))
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    assert images_below(folder) == ["000.png", "more/000.png", "more/001.png"]


def test_a_missing_folder_raises_an_error(tmp_path):
    with pytest.raises(TrainingError, match=r"nowhere: cannot be read"):
        images_below(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "0001_s001.png (480,360,3)",
            IndexEntry("0001_s001.png", (360, 480)),
        ),  # BasicSR's meta_info
        ("baboon.png (120,125,3) 1", IndexEntry("baboon.png", (125, 120))),  # of its LMDBs
        (
            "DF2K_multiscale/000001T0.png",
            IndexEntry("DF2K_multiscale/000001T0.png"),
        ),  # Real-ESRGAN's
        ("HR/1.png, LR/1x4.png", IndexEntry("HR/1.png", lr="LR/1x4.png")),  # its pairs
        ("an image (1).png (5,6,3)", IndexEntry("an image (1).png", (6, 5))),
        ("an image 2.png", IndexEntry("an image 2.png")),
        ("grey.png (5,6)", IndexEntry("grey.png", (6, 5))),
    ],
)
def test_lines_of_official_files_are_parsed(tmp_path, text, line):
    (tmp_path / "meta_info.txt").write_bytes(f"{text}\r\n\n{text}".encode())
    assert read_index(tmp_path / "meta_info.txt") == (line, line)


def test_a_written_index_reads_the_same(tmp_path):
    odd = os.fsdecode(b"caf\xe9.png")  # not UTF-8
    lines = (
        IndexEntry("ä b.png", (3, 4)),
        IndexEntry("c.png"),
        IndexEntry("d.png", lr="e.png"),
        IndexEntry(odd),
    )
    write_index(tmp_path / "index.txt", lines)
    assert read_index(tmp_path / "index.txt") == lines
    with pytest.raises(OutputError, match="exists"):
        write_index(tmp_path / "index.txt", lines)


def test_an_empty_index_raises_an_error(tmp_path):
    (tmp_path / "index.txt").write_text("\n \n")
    with pytest.raises(TrainingError, match="lists no images"):
        read_index(tmp_path / "index.txt")


@pytest.mark.parametrize("name", ["a, b.png", "a\nb.png", "a.png (1,2,3)", " a.png"])
def test_names_that_an_index_cannot_contain_raise_an_error(name):
    with pytest.raises(ImageError, match="an index cannot contain this name"):
        check_name(name)


def test_images_are_listed_with_their_sizes(data):
    folder = data / "photos" / "crops"
    names = images_below(folder)
    lines = dict(list_images(folder, names, 1))
    assert list(lines) == names
    assert all(lines[name] == IndexEntry(name, (160, 160)) for name in names)


def test_basicsr_reads_our_index(tmp_path, pairs):
    high, low = pairs
    lines = [line for _, line in list_images(high, images_below(high), 1)]
    write_index(tmp_path / "index.txt", lines)
    found = load_official().paired_paths_from_meta_info_file(
        [str(low), str(high)], ["lq", "gt"], str(tmp_path / "index.txt"), "{}"
    )
    assert [one["gt_path"] for one in found] == [f"{high}/{number}.png" for number in range(6)]
    assert [one["lq_path"] for one in found] == [f"{low}/{number}.png" for number in range(6)]


def test_matching_pairs_are_listed(pairs):
    high, low = pairs
    (low / "2.png").unlink()
    write(low / "4.png", np.zeros((9, 9, 3)))
    write(high / "5.png", np.zeros((8, 8, 3)))
    found = dict(list_pairs(high, low, 4, images_below(high), 1))
    assert {name for name, line in found.items() if isinstance(line, IndexEntry)} == {
        "0.png", "1.png", "3.png"
    }  # fmt: skip
    assert found["0.png"] == IndexEntry("0.png", lr="0.png")
    assert "no LR image" in str(found["2.png"])
    assert "not 4 times its LR image of 9x9" in str(found["4.png"])
    assert "is 8x8" in str(found["5.png"])
