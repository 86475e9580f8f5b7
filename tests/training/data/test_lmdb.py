from __future__ import annotations

import os

import cv2
import numpy as np
import pytest
from upscale_training.data import lmdb as ours
from upscale_training.data.index import images_below
from upscale_training.data.lmdb import build_lmdb, is_lmdb, key_of, read_keys, read_value
from upscale_training.data.pixels import read_rgb

from tests.training.data.files import write
from tests.training.data.official import load_official
from upscale.errors import ImageError, OutputError, TrainingError


@pytest.fixture
def few(data):
    folder = data / "photos" / "graphics"
    return folder, images_below(folder)[:7]


def test_basicsr_reads_our_lmdb(few, tmp_path):
    folder, names = few
    target = tmp_path / "ours.lmdb"
    assert [result for _, result in build_lmdb(folder, names, target, 2)] == [True] * 7
    official = load_official()
    keys = official.paths_from_lmdb(str(target))
    assert keys == sorted(name.removesuffix(".webp") for name in names)
    client = official.FileClient("lmdb", db_paths=[str(target)], client_keys=["gt"])
    for key in keys:
        levels = np.frombuffer(client.get(key, "gt"), np.uint8)
        shown = cv2.imdecode(levels, cv2.IMREAD_COLOR)[..., ::-1]
        assert (shown == read_rgb(folder / f"{key}.webp")).all()
    pairs = official.paired_paths_from_lmdb([str(target)] * 2, ["lq", "gt"])
    assert [pair["gt_path"] for pair in pairs] == keys


def test_an_lmdb_of_basicsr_is_read(few, tmp_path):
    folder, names = few
    target = tmp_path / "theirs.lmdb"
    maker = load_official().LmdbMaker(str(target), map_size=2**28)
    for name in names:
        pixels = read_rgb(folder / name)
        _, packed = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))
        maker.put(packed.tobytes(), name.removesuffix(".webp"), pixels.shape)
    maker.close()
    assert is_lmdb(target)
    assert read_keys(target) == [name.removesuffix(".webp") for name in names]
    for name in names:
        value = read_value(target, name.removesuffix(".webp"))
        assert (read_rgb(value) == read_rgb(folder / name)).all()


def test_any_name_becomes_a_unique_key_that_basicsr_finds(tmp_path):
    names = ["a b.png", "a.b.png", "a_b.png", "a%20b.png", "日本/é.png", os.fsdecode(b"\xe9.png")]
    for number, name in enumerate(names):
        write(tmp_path / "in" / f"{number}.png", np.full((3, 4, 3), number))
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / f"{number}.png").rename(tmp_path / "in" / name)
    keys = [key_of(name) for name in names]
    assert len(set(keys)) == len(names)
    list(build_lmdb(tmp_path / "in", names, tmp_path / "odd.lmdb", 1))
    official = load_official()
    assert sorted(official.paths_from_lmdb(str(tmp_path / "odd.lmdb"))) == sorted(keys)
    client = official.FileClient("lmdb", db_paths=str(tmp_path / "odd.lmdb"))
    for number, key in enumerate(keys):
        assert (read_rgb(client.get(key)) == number).all()


def test_images_with_the_same_key_are_reported(tmp_path):
    for name in ("a.png", "a.jpg", "b.png"):
        write(tmp_path / "in" / name, np.zeros((4, 4, 3)))
    found = dict(build_lmdb(tmp_path / "in", ["a.jpg", "a.png", "b.png"], tmp_path / "x.lmdb", 1))
    assert found["a.jpg"] is True and found["b.png"] is True
    assert "same outputs as a.jpg" in str(found["a.png"])


def test_a_damaged_image_is_skipped(numbered, tmp_path):
    folder = numbered("in", 3)
    (folder / "001.png").write_bytes(b"?")
    found = dict(build_lmdb(folder, images_below(folder), tmp_path / "x.lmdb", 1))
    assert isinstance(found["001.png"], ImageError)
    assert read_keys(tmp_path / "x.lmdb") == ["000", "002"]


def test_it_appears_when_it_is_complete_and_resumes(numbered, tmp_path):
    folder, target = numbered("in", 6), tmp_path / "x.lmdb"
    names = images_below(folder)
    steps = build_lmdb(folder, names, target, 1)
    assert [next(steps) for _ in range(3)] == [(name, True) for name in names[:3]]
    steps.close()
    assert not target.exists()
    again = dict(build_lmdb(folder, names, target, 1))
    assert sum(added is True for added in again.values()) <= 4
    assert sum(added is False for added in again.values()) >= 2
    assert read_keys(target) == [f"{number:03}" for number in range(6)]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    with pytest.raises(OutputError, match="exists already"):
        list(build_lmdb(folder, names, target, 1))


def test_it_grows_as_needed(numbered, tmp_path, monkeypatch):
    monkeypatch.setattr(ours, "_FIRST_MAP_BYTES", 64 * 1024)
    monkeypatch.setattr(ours, "_COMMIT_BYTES", 2 * 1024)
    random = np.random.default_rng(0)
    for number in range(20):
        write(tmp_path / "in" / f"{number}.png", random.integers(0, 256, (64, 64, 3)))
    target = tmp_path / "x.lmdb"
    list(build_lmdb(tmp_path / "in", images_below(tmp_path / "in"), target, 1))
    assert (target / "data.mdb").stat().st_size > 64 * 1024
    for number in range(20):
        value = read_value(target, str(number))
        assert (read_rgb(value) == read_rgb(tmp_path / "in" / f"{number}.png")).all()


def test_impossible_targets_raise_an_error(numbered, tmp_path):
    folder = numbered("in", 1)
    with pytest.raises(OutputError, match=r"must end in \.lmdb"):
        list(build_lmdb(folder, ["000.png"], tmp_path / "x", 1))
    (folder / "000.png").write_bytes(b"?")
    with pytest.raises(TrainingError, match="no image could be read"):
        list(build_lmdb(folder, ["000.png"], tmp_path / "x.lmdb", 1))
    assert not (tmp_path / "x.lmdb").exists()


def test_a_damaged_lmdb_is_an_error_in_one_line(tmp_path):
    (tmp_path / "x.lmdb").mkdir()
    (tmp_path / "x.lmdb" / "data.mdb").write_bytes(b"nothing of the kind" * 999)
    with pytest.raises(ImageError, match=r"x\.lmdb: cannot be read"):
        read_value(tmp_path / "x.lmdb", "a")
    with pytest.raises(TrainingError, match=r"x\.lmdb: cannot be read"):
        read_keys(tmp_path / "x.lmdb")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.99])
def test_an_lmdb_that_was_cut_is_an_error_instead_of_a_crash(few, tmp_path, share):
    folder, names = few
    target = tmp_path / "cut.lmdb"
    list(build_lmdb(folder, names, target, 1))
    data, keys = target / "data.mdb", read_keys(target)
    os.truncate(data, int(data.stat().st_size * share))
    with pytest.raises(TrainingError, match=r"cut\.lmdb: (data\.mdb has \d+ of|cannot be read)"):
        read_keys(target)
    for key in keys:
        with pytest.raises(ImageError, match=r"cut\.lmdb: (data\.mdb has \d+ of|cannot be read)"):
            read_value(target, key)


def test_an_lmdb_without_index_gives_all_its_keys(numbered, tmp_path):
    lmdb = pytest.importorskip("lmdb")
    folder = numbered("in", 3)
    names = images_below(folder)
    with (
        lmdb.open(str(tmp_path / "names.lmdb"), map_size=1 << 22) as environment,
        environment.begin(write=True) as transaction,
    ):
        for name in names:
            transaction.put(name.encode(), (folder / name).read_bytes())
    assert read_keys(tmp_path / "names.lmdb") == names
    (tmp_path / "some.txt").write_text(f"{names[1]} (40,56,3) 1\n")
    (key,) = read_keys(tmp_path / "names.lmdb", tmp_path / "some.txt")
    assert (read_rgb(read_value(tmp_path / "names.lmdb", key)) == read_rgb(folder / key)).all()
    list(build_lmdb(folder, names, tmp_path / "own.lmdb", 1))
    (tmp_path / "own.lmdb" / "meta_info.txt").unlink()
    assert read_keys(tmp_path / "own.lmdb") == ["000", "001", "002"]
