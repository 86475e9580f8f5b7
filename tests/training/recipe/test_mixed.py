from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image
from upscale_training.recipes.mixed import main

from upscale.metrics import psnr


@pytest.fixture(scope="module", params=[2, 4])
def pairs(request, tmp_path_factory, data):
    """Scale and folder of pairs of one photograph and five drawings."""
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "photos").mkdir()
    shutil.copy(data / "photos/scenes/girl.webp", folder / "photos")
    main(request.param, folder / "out", [folder / "photos"], 5)
    return request.param, folder


def opened(path):
    return Image.open(path).convert("RGB")


def test_each_lr_image_shows_its_hr_image(pairs):
    scale, folder = pairs
    files = sorted((folder / "out").glob("*/gt/*.png"))
    assert [path.parts[-3] for path in files] == ["clean", "light", *["text"] * 5]
    for path in files:
        hr, lr = opened(path), opened(path.parent.with_name("lq") / path.name)
        assert hr.size == (lr.width * scale, lr.height * scale)
        small = hr.resize(lr.size, Image.Resampling.BICUBIC)
        assert psnr(np.asarray(small), np.asarray(lr)) > 20


def test_clean_images_are_only_made_smaller_and_light_ones_are_damaged(pairs):
    _scale, folder = pairs
    out = folder / "out"
    nearest = {}
    for kind in ("clean", "light"):
        hr, lr = (opened(out / kind / side / "0000.png") for side in ("gt", "lq"))
        values = [
            psnr(np.asarray(hr.resize(lr.size, filter)), np.asarray(lr))
            for filter in (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BOX)
        ]
        nearest[kind] = max(values)
    assert nearest["clean"] == np.inf
    assert 25 < nearest["light"] < 45


def test_each_call_writes_the_same_pairs(pairs):
    scale, folder = pairs
    main(scale, folder / "again", [folder / "photos"], 5)
    first = {path.relative_to(folder / "out"): path for path in (folder / "out").glob("*/*/*")}
    assert len(first) == 14
    for name, path in first.items():
        assert path.read_bytes() == (folder / "again" / name).read_bytes()
