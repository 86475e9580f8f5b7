from __future__ import annotations

import pickle
import tracemalloc
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import torch
from upscale_training.data.names import PackedNames
from upscale_training.data.patches import PatchDataset
from upscale_training.data.sources import list_entries
from upscale_training.recipe import DataSettings, Source

COUNT = 30_000


def test_names_of_any_bytes_come_back():
    names = ["a.png", "", "sub/ü 1.png", b"\xff.png".decode("utf-8", "surrogateescape")]
    packed = PackedNames.of(names)
    assert list(packed) == names
    assert list(packed.moved(torch.as_tensor)) == names
    assert list(pickle.loads(pickle.dumps(packed))) == names
    assert list(PackedNames.of([])) == []


def test_an_index_needs_few_bytes_for_each_image(tmp_path):
    """A list of paths needs 300 bytes and more for each image, in every process."""
    names = [f"{number // 1000:04}/{number:08}_s001.png" for number in range(COUNT)]
    (tmp_path / "index.txt").write_text("\n".join(names))
    (tmp_path / "set").mkdir()
    source = Source(tmp_path / "set", index=tmp_path / "index.txt")
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    found = list_entries(source, 4)
    used = (tracemalloc.get_traced_memory()[0] - before) / COUNT
    tracemalloc.stop()
    assert len(found) == COUNT
    assert str(found[COUNT - 1].hr) == str(tmp_path / "set" / names[-1])
    assert used < len(names[0]) + 8 + 4


def test_workers_share_the_names_instead_of_copying_them(tmp_path):
    """What a worker receives, by fork or spawn, does not grow with the number of images."""
    (tmp_path / "set").mkdir()

    def sent(count: int) -> int:
        index = tmp_path / f"{count}.txt"
        index.write_text("\n".join(f"{number:08}.png" for number in range(count)))
        source = Source(tmp_path / "set", index=index)
        found = PatchDataset(DataSettings((source,), patch=16, margin=0), 1, 4)
        found.share_memory()
        return len(bytes(ForkingPickler.dumps(found)))

    assert abs(sent(20_000) - sent(2)) < 200


def test_an_image_is_found_across_sources(numbered, tmp_path):
    one, other = numbered("one", 3), numbered("other", 4)
    sources = (Source(one), Source(other))
    found = PatchDataset(DataSettings(sources, patch=16, margin=0), 1, 4)
    paths = [found._entry(index).hr.path for index in range(7)]
    assert paths == [str(Path(each)) for each in (*sorted(one.iterdir()), *sorted(other.iterdir()))]
    assert np.unique([found[number].hr[0, 0, 0] for number in range(7)]).tolist() == [0, 1, 2, 3]
