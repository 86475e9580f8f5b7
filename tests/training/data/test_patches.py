from __future__ import annotations

import random
from itertools import islice, product
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from upscale_training.data.index import images_below
from upscale_training.data.lmdb import build_lmdb
from upscale_training.data.patches import PatchDataset, batches
from upscale_training.data.pixels import read_rgb
from upscale_training.recipe import DataSettings, Source

from benchmarks.peers import PeerMissingError, load_basicsr
from tests.training.data.files import write
from upscale.errors import TrainingError


def dataset(*sources: Path | Source, scale: int = 4, seed: int = 7, **settings) -> PatchDataset:
    named = [source if isinstance(source, Source) else Source(source) for source in sources]
    return PatchDataset(DataSettings(tuple(named), **({"margin": 0} | settings)), seed, scale)


def taken(found: PatchDataset, count: int, **settings) -> list[torch.Tensor]:
    """The patches of some batches."""
    return [one.hr for one in islice(batches(found, **settings), count)]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.fixture
def photos(data) -> DataSettings:
    return DataSettings(
        (Source(data / "photos/crops"), Source(data / "photos/graphics", weight=0.5)),
        patch=128,
        margin=0,
        rotations=True,
    )


def test_a_patch_is_a_square_of_its_image(numbered):
    found = dataset(numbered("in", 3, 40, 56), patch=16, flips=False)
    places = set()
    for number in range(60):
        which, rows, columns = found[number].hr.numpy()
        top, left = rows[0, 0], columns[0, 0]
        assert (which == which[0, 0]).all()
        assert (rows == np.arange(top, top + 16)[:, None]).all()
        assert (columns == np.arange(left, left + 16)).all()
        places.add((int(top), int(left)))
    assert len(places) > 50
    tops, lefts = zip(*places, strict=True)
    assert max(tops) <= 24 and max(lefts) <= 40


def test_patches_reach_every_edge(numbered):
    found = dataset(numbered("in", 1, 10, 11), patch=8, flips=False)
    places = {tuple(found[number].hr[1:, 0, 0].tolist()) for number in range(300)}
    assert places == set(product(range(3), range(4)))


@pytest.mark.parametrize(
    ("flips", "rotations", "ways"), [(False, False, 1), (True, False, 2), (False, True, 4),
                                     (True, True, 8)]
)  # fmt: skip
def test_patches_are_flipped_and_rotated_equally_often(numbered, flips, rotations, ways):
    found = dataset(numbered("in", 1, 8, 8), patch=8, flips=flips, rotations=rotations)
    corners = [
        tuple(found[number].hr[1:, [0, 0], [0, 7]].flatten().tolist()) for number in range(800)
    ]
    counts = [corners.count(corner) for corner in set(corners)]
    assert len(counts) == ways
    assert min(counts) > 0.7 * 800 / ways


def test_a_sample_is_a_function_of_seed_and_number(photos):
    one, other = PatchDataset(photos, 1, 4), PatchDataset(photos, 1, 4)
    expected = [one[number].hr for number in range(8)]
    assert equal([other[number].hr for number in reversed(range(8))][::-1], expected)
    assert not equal([PatchDataset(photos, 2, 4)[number].hr for number in range(8)], expected)


def test_an_image_is_cropped_differently_in_each_epoch(numbered):
    found = dataset(numbered("in", 1, 200, 200), patch=8)
    assert len({found[number].hr.numpy().tobytes() for number in range(40)}) > 35


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_any_number_of_workers_gives_the_same_batches(photos, workers):
    found = PatchDataset(photos, 1, 4)
    expected = taken(found, 6, batch=5, first=3)
    assert equal(taken(found, 6, batch=5, first=3, workers=workers), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_lmdb_gives_the_patches_of_its_folder(numbered, tmp_path, workers):
    folder = numbered("in", 7)
    list(build_lmdb(folder, images_below(folder), tmp_path / "in.lmdb", 1))
    expected = taken(dataset(folder, patch=16), 5, batch=3, first=0)
    packed = dataset(tmp_path / "in.lmdb", patch=16)
    assert equal(taken(packed, 5, batch=3, first=0, workers=workers), expected)


def test_batches_from_a_later_iteration_are_those_of_an_uninterrupted_run(photos):
    whole = taken(PatchDataset(photos, 1, 4), 12, batch=3, first=0, accumulate=2)
    rest = taken(PatchDataset(photos, 1, 4), 4, batch=3, first=4, accumulate=2, workers=0)
    assert equal(rest, whole[8:])


def test_two_processes_share_the_samples_of_one(photos):
    found = PatchDataset(photos, 1, 4)
    alone = taken(found, 5, batch=6, first=2)
    shares = [taken(found, 5, batch=3, first=2, rank=rank, world=2) for rank in range(2)]
    assert equal([torch.cat(parts) for parts in zip(*shares, strict=True)], alone)


def test_an_epoch_visits_every_image_once(numbered):
    found = dataset(numbered("in", 23), patch=8)
    first, second = (
        [int(found[number].hr[0, 0, 0]) for number in range(start, start + 23)] for start in (0, 23)
    )
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second


def test_loading_uses_no_random_numbers_of_the_run(numbered):
    found = dataset(numbered("in", 4), patch=8)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    taken(found, 2, batch=2, first=0, workers=1)
    assert torch.equal(torch.rand(3), expected)


def test_an_image_that_is_too_small_is_mirrored(numbered):
    found = dataset(numbered("in", 1, 5, 30), patch=12, flips=False)
    rows, columns = found[0].hr.numpy()[1:]
    assert rows[:, 0].tolist() == [0, 1, 2, 3, 4, 4, 3, 2, 1, 0, 0, 1]
    assert (np.diff(columns.astype(int), axis=1) == 1).all()


@pytest.mark.parametrize("patch", [8, 48, 96])
def test_a_pair_is_cropped_and_rotated_alike(pairs, patch):
    high, low = pairs
    found = dataset(Source(high, low), patch=patch, rotations=True)
    for number in range(60):
        sample = found[number]
        assert sample.lr is not None
        assert sample.lr.shape == (3, patch // 4, patch // 4)
        assert torch.equal(sample.hr, sample.lr.repeat_interleave(4, 1).repeat_interleave(4, 2))


def test_pairs_are_cropped_as_in_the_official_code(pairs, monkeypatch):
    try:
        [official] = load_basicsr("data.transforms")
    except (PeerMissingError, ModuleNotFoundError) as error:
        pytest.skip(f"{error} (the README's test command installs it)")
    high, low = (read_rgb(folder / "0.png") for folder in pairs)
    found = dataset(Source(*pairs, index=_listed(pairs[0], "0.png")), patch=16, flips=False)
    ours = {_key(found[number].hr, found[number].lr) for number in range(1500)}
    theirs = set()
    for top, left in product(range(low.shape[0] - 3), range(low.shape[1] - 3)):
        places = iter((top, left))
        monkeypatch.setattr(random, "randint", lambda *_, places=places: next(places))
        cut = official.paired_random_crop(high, low, 16, 4)
        theirs.add(_key(*(torch.from_numpy(part.transpose(2, 0, 1).copy()) for part in cut)))
    assert ours == theirs


def _listed(folder: Path, *names: str) -> Path:
    index = folder.parent / "listed.txt"
    index.write_text("\n".join(names))
    return index


def _key(*patches: torch.Tensor | None) -> bytes:
    return b"".join(patch.numpy().tobytes() for patch in patches if patch is not None)


def test_damaged_images_are_replaced_by_the_next_of_the_epoch(numbered):
    folder = numbered("in", 9)
    whole = dataset(folder, patch=8)
    order = [int(whole[number].hr[0, 0, 0]) for number in range(9)]
    bad = [order[3], order[4], order[8]]
    for which in bad:
        path = folder / f"{which:03}.png"
        path.write_bytes(path.read_bytes()[:90])
    found = dataset(folder, patch=8)
    samples = [found[number] for number in range(9)]
    expected = [*order[:3], order[5], order[5], order[5], order[6], order[7], order[0]]
    assert [int(sample.hr[0, 0, 0]) for sample in samples] == expected
    assert [len(sample.damaged) for sample in samples] == [0, 0, 0, 2, 1, 0, 0, 0, 1]
    assert f"{bad[0]:03}.png" in samples[3].damaged[0]


def test_a_batch_reports_the_damaged_images_of_its_workers(numbered):
    folder = numbered("in", 4)
    (folder / "002.png").write_bytes(b"nothing of the kind")
    found = dataset(folder, patch=8)
    told = [next(batches(found, batch=4, first=0, workers=workers)) for workers in (0, 2)]
    assert torch.equal(told[0].hr, told[1].hr)
    assert len({one.damaged for one in told}) == 1
    assert "002.png" in told[0].damaged[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_set_without_readable_images_raises_an_error_of_one_line(tmp_path, workers):
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).write_bytes(b"?")
    loading = batches(dataset(tmp_path, patch=8), batch=1, first=0, workers=workers)
    with pytest.raises(TrainingError, match=r"^none of 2 images can be read; first: .*$"):
        next(loading)


def test_a_pair_whose_sizes_do_not_match_is_skipped(pairs):
    high, low = pairs
    write(low / "3.png", np.zeros((9, 9, 3)))
    found = dataset(Source(high, low), patch=8)
    told = [line for number in range(6) for line in found[number].damaged]
    assert len(told) == 1
    assert "3.png" in told[0] and "4 times" in told[0] and "9x9" in told[0]


def test_patches_that_will_be_degraded_have_a_margin(numbered):
    found = dataset(numbered("in", 2, 40, 56), patch=16, margin=6)
    assert found[0].hr.shape == (3, 28, 28)


def test_pairs_have_no_margin(numbered):
    folder = numbered("in", 2, 40, 56)
    found = dataset(Source(folder, low=folder), scale=1, patch=16, margin=6)
    assert found[0].hr.shape == (3, 16, 16) and found[0].lr.shape == (3, 16, 16)


def test_workers_read_after_this_process_has_used_opencvs_threads(numbered):
    """A process that is forked now would wait for ever."""
    cv2.resize(np.zeros((2000, 2000, 3), np.uint8), (512, 512))
    found = dataset(numbered("in", 2, 40, 56), patch=16)
    assert len(taken(found, 2, batch=2, first=0, workers=1)) == 2
