"""Shards are read at random, from folders and object stores, and are what WebDataset reads."""

from __future__ import annotations

import io
import json
import tarfile
from itertools import islice
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest
import torch
import webdataset
from upscale_training.data.index import images_below
from upscale_training.data.patches import PatchDataset, batches
from upscale_training.data.pixels import read_rgb
from upscale_training.data.shard_writer import build_shards
from upscale_training.data.shards import find_shards, index_shards, read_members
from upscale_training.data.sources import Listing, list_entries
from upscale_training.recipe import DataSettings, Source

from upscale.errors import DependencyError, ImageError, TrainingError

SIZE = 8000
"""Bytes of a shard: of four images."""


def build(folder: Path, target: Path, size: int = SIZE, jobs: int = 1) -> dict:
    return dict(build_shards(folder, images_below(folder), target, jobs, size=size))


def stored(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


def patches(source: Source, count: int = 4, **settings) -> list[torch.Tensor]:
    found = PatchDataset(DataSettings((source,), patch=16, margin=0, rotations=True), 7, 4)
    return [one.hr for one in islice(batches(found, batch=3, **settings), count)]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.fixture
def packed(numbered, tmp_path) -> tuple[Path, Path]:
    """A folder of 9 images, and shards of them."""
    folder = numbered("in", 9)
    assert all(build(folder, tmp_path / "out").values())
    return folder, tmp_path / "out"


@pytest.fixture
def store(packed):
    """The address of the shards in an object store."""
    system = fsspec.filesystem("memory")
    for name, content in stored(packed[1]).items():
        system.pipe(f"/bucket/train/{name}", content)
    yield "memory://bucket/train"
    system.rm("/bucket", recursive=True)


def test_webdataset_reads_them(packed):
    folder, target = packed
    shards = find_shards(target)
    assert len(shards) == 3
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"{number:03}" for number in range(9)]
    for sample, name in zip(samples, images_below(folder), strict=True):
        assert (read_rgb(sample["png"]) == read_rgb(folder / name)).all()
        assert json.loads(sample["json"]) == {"name": name, "width": 56, "height": 40}


def test_a_shard_is_complete_from_its_size_on(packed):
    shards = [read_members(shard) for shard in find_shards(packed[1])]
    ends = [[each.start + each.size for each in members] for members in shards]
    assert all(end[-3] < SIZE - 512 and end[-1] > SIZE - 512 for end in ends[:-1])
    assert sum(map(len, shards)) == 2 * 9


def test_the_index_names_where_the_archive_has_its_files(packed):
    for shard in find_shards(packed[1]):
        from_index = read_members(shard)
        Path(shard).with_suffix(".idx").unlink()
        assert read_members(shard) == from_index


@pytest.mark.parametrize("workers", [0, 1])
def test_shards_give_the_samples_of_their_folder(packed, workers):
    folder, target = packed
    assert same(patches(Source(shards=target), first=2, workers=workers),
                patches(Source(folder), first=2))  # fmt: skip


def test_an_object_store_gives_the_same_samples(packed, store):
    expected = patches(Source(packed[0]), first=0)
    assert same(patches(Source(shards=store), first=0), expected)
    assert same(patches(Source(shards=f"{store}/shard-{{000000..000002}}.tar"), first=0), expected)
    assert same(patches(Source(shards=store), 2, first=2), expected[2:])
    shares = [patches(Source(shards=store), 2, first=0, rank=rank, world=2) for rank in range(2)]
    together = [part for pair in zip(*shares, strict=True) for part in pair]
    assert same(together, expected)


def test_a_moved_shard_is_the_same_listing(packed, store):
    listings = {
        Listing.of(source, list_entries(source, 4))
        for source in (Source(shards=packed[1]), Source(shards=store))
    }
    assert len(listings) == 1


def test_pairs_have_the_same_names_in_both(pairs, tmp_path):
    high, low = pairs
    (low / "0.png").rename(low / "zero.png")  # another order
    (high / "0.png").rename(high / "zero.png")
    for folder in pairs:
        build(folder, tmp_path / "out" / folder.name, 4000)
    sets = Source(shards=tmp_path / "out" / "high", low=tmp_path / "out" / "low")
    entries = list_entries(sets, 4)
    assert len(entries) == 6
    for entry in entries:
        good, bad = entry.read(4)
        assert bad is not None
        assert (good[::4, ::4] == bad).all()
    (low / "3.png").unlink()
    build(low, tmp_path / "less", 4000)
    with pytest.raises(TrainingError, match=r"less: 3\.png has no LR image in it"):
        list_entries(Source(shards=tmp_path / "out" / "high", low=tmp_path / "less"), 4)


def test_an_interrupted_run_resumes_and_gives_the_same_shards(packed, tmp_path):
    folder, target = packed
    part = tmp_path / "part"
    steps = build_shards(folder, images_below(folder), part, 1, size=SIZE)
    assert len(list(islice(steps, 5))) == 5
    steps.close()
    assert set(stored(part)) == {"shard-000000.idx", "shard-000000.tar"}
    (part / "shard-000000.idx").unlink()  # as after a kill between both files
    results = build(folder, part)
    assert 0 < sum(not added for added in results.values()) < 5
    assert stored(part) == stored(target)
    assert not any(build(folder, part).values())


def test_an_image_that_cannot_be_read_is_left_out(numbered, tmp_path):
    folder = numbered("in", 3)
    (folder / "001.png").write_bytes(b"nothing")
    results = build(folder, tmp_path / "out")
    assert isinstance(results["001.png"], ImageError)
    assert list(index_shards(find_shards(tmp_path / "out"))[0]) == ["000.png", "002.png"]
    for name in ("000.png", "002.png"):
        (folder / name).write_bytes(b"nothing")
    with pytest.raises(TrainingError, match="no image could be read"):
        build(folder, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def archive(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as target:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            target.addfile(header, io.BytesIO(content))
    return path


def test_archives_of_others_are_read(tmp_path):
    """Other files, deep folders, hidden files of a Mac, long names, and two images of one key."""
    content = cv2.imencode(".webp", np.full((8, 8, 3), 90, np.uint8))[1].tobytes()
    names = ["a/b.webp", f"{'long' * 40}.webp", "c.left.webp", "c.right.webp"]
    files = {"a/b.txt": b"text", "a/._b.webp": b"mac", **dict.fromkeys(names, content)}
    path = archive(tmp_path / "x.tar", files)
    entries = list_entries(Source(shards=path), 4)
    assert [entry.hr.key for entry in entries] == names
    assert all(entry.hr.read().shape == (8, 8, 3) for entry in entries)
    (tmp_path / "x.idx").write_text("v1.1 1\nwebp 512 70\n")  # older, without names
    assert [entry.hr.key for entry in list_entries(Source(shards=path), 4)] == names


def test_errors_name_the_shard_and_the_reason(packed, tmp_path, store):
    shard = Path(find_shards(packed[1])[0])
    entry = list_entries(Source(shards=packed[1]), 4)[2]
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(ImageError, match=r"shard-000000\.tar: ends before byte \d+; copy it again"):
        entry.hr.read()
    with pytest.raises(TrainingError, match=r"shard-000000\.tar: has 3000 bytes, and its index"):
        list_entries(Source(shards=packed[1]), 4)
    shard.with_suffix(".idx").unlink()
    with pytest.raises(TrainingError, match=r"is no complete, uncompressed tar .* create it again"):
        list_entries(Source(shards=packed[1]), 4)
    compressed = archive(tmp_path / "y.tar", {"a.png": b"?"}, "w:gz")
    with pytest.raises(TrainingError, match=r"y\.tar: is no complete, uncompressed tar"):
        list_entries(Source(shards=compressed), 4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match=r"empty: contains no \.tar files"):
        find_shards(tmp_path / "empty")
    with pytest.raises(TrainingError, match=r"x\.tar: cannot be read"):
        list_entries(Source(shards="memory://bucket/x.tar"), 4)
    with pytest.raises(TrainingError, match="is no range"):
        find_shards("s3://bucket/{9..1}.tar")
    with pytest.raises(TrainingError, match="contains no images"):
        list_entries(Source(shards=archive(tmp_path / "t.tar", {"a.txt": b"?"})), 4)


def test_a_store_that_cannot_be_reached_ends_the_run_instead_of_changing_samples(store):
    found = PatchDataset(DataSettings((Source(shards=store),), patch=16, margin=0), 7, 4)
    fsspec.filesystem("memory").rm("/bucket/train/shard-000001.tar")
    with pytest.raises(TrainingError, match=r"bucket/train/shard-000001\.tar: cannot be read"):
        [found[number] for number in range(9)]


def test_a_missing_package_is_named_in_one_line(monkeypatch):
    def missing(name: str):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.get_filesystem_class", missing)
    with pytest.raises(DependencyError, match=r"train: needs a package .*; Install s3fs to access"):
        list_entries(Source(shards="s3://bucket/train"), 4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "lacks path"),
        ({"path": Path("a"), "shards": Path("b")}, "either path or shards"),
        ({"shards": Path("b"), "index": Path("i")}, "shards have no index"),
        ({"path": Path("a"), "low": "s3://bucket/low"}, "is an address"),
    ],
)
def test_a_source_is_of_one_kind(values, message):
    with pytest.raises(ValueError, match=message):
        Source(**values)
