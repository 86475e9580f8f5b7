"""The weights that this project has trained, beside the catalogue."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

from upscale import Upscaler
from upscale.checkpoints import CatalogEntry, catalog, locate, read_state_dict, resolve
from upscale.checkpoints.catalog_entries import bundled_source
from upscale.metrics import psnr

OWN = [entry for entry in catalog().values() if entry.file is not None]
MOST_BYTES = 40_000_000
SMALL = "realesr-animevideov3"


def by_name(entry: CatalogEntry) -> str:
    return entry.name


@pytest.mark.parametrize("entry", OWN, ids=by_name)
def test_file_matches_its_catalogue_entry(entry):
    path = bundled_source(entry)
    assert path is not None and path.stat().st_size == entry.size <= MOST_BYTES
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
    assert {tensor.dtype for tensor in load_file(path).values()} == {np.dtype(np.float16)}


@pytest.mark.parametrize("entry", OWN, ids=by_name)
def test_degraded_image_is_restored_better_than_by_bicubic(entry, data):
    good = cv2.imread(str(data / "photos/dog.webp"))[..., ::-1]
    side = good.shape[0] // entry.scale
    small = cv2.resize(good, (side, side), interpolation=cv2.INTER_AREA)
    noisy = small + np.random.default_rng(0).normal(0, 25, small.shape)
    noisy = np.clip(noisy, 0, 255).astype(np.uint8)
    noisy = cv2.imdecode(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1)
    ours = Upscaler(entry.name, device="cpu", precision="fp32").upscale(noisy)
    bicubic = cv2.resize(noisy, good.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    assert ours.shape == good.shape
    assert psnr(ours, good) > psnr(bicubic, good) + 1.5


def test_upscale_x4_fast_is_a_blend_whose_ends_are_selected_by_denoise():
    fast = load_file(locate(catalog()["upscale-x4-fast"]))
    other = {key: each.numpy() for key, each in read_state_dict(locate(catalog()[SMALL])).items()}
    for denoise, expected in (
        (1, fast),
        (0, other),
        (0.5, {key: (fast[key].astype("f4") + other[key].astype("f4")) / 2 for key in fast}),
        (None, fast),
    ):
        state = resolve("upscale-x4-fast", denoise=denoise).state()
        assert state.keys() == expected.keys()
        for key, tensor in state.items():
            assert np.array_equal(tensor.float().numpy(), expected[key].astype("f4"))


def test_upscale_x1_preserves_good_images(data):
    upscaler, scores = Upscaler("upscale-x1", device="cpu", precision="fp32"), []
    for name in ("sand", "dog", "girl", "night", "house"):
        good = cv2.imread(str(data / f"photos/scenes/{name}.webp"))[..., ::-1]
        scores.append(psnr(upscaler.upscale(good.copy()), good))
    assert np.mean(scores) > 37
    assert min(scores) > 28  # sand looks like noise
