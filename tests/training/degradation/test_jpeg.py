"""JPEG against libjpeg (through Pillow), and the official one against DiffJPEG."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from upscale_training.degradation import official
from upscale_training.degradation.jpeg import CHROMA_TABLE, LUMA_TABLE, jpeg, tables
from upscale_training.degradation.operations import Jpeg

QUALITIES = [30, 41, 50, 62, 75, 88, 95]
SIZES = [(1, 1), (2, 3), (60, 1), (5, 4), (8, 8), (9, 5), (16, 17), (33, 31), (90, 121), (100, 100)]


def pillow(image, quality):
    """(3, H, W) in [0, 1] through a file, as Pillow writes and reads it by default."""
    levels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(file), np.float32)
    return torch.from_numpy(decoded).permute(2, 0, 1)


def difference(images, quality):
    """Mean and greatest difference to Pillow in levels."""
    ours = jpeg(images, [Jpeg(quality)] * len(images)) * 255
    theirs = torch.stack([pillow(image, quality) for image in images])
    found = (ours - theirs).abs()
    return found.mean().item(), found.max().item()


@pytest.mark.parametrize("quality", QUALITIES)
def test_photographs_are_libjpegs(photographs, quality):
    for images in (photographs, photographs.mean(1, keepdim=True).expand(-1, 3, -1, -1)):
        assert difference(images, quality)[0] < 1e-3


@pytest.mark.parametrize("quality", [1, 10, *QUALITIES, 99, 100])
def test_noise_in_full_colour_is_libjpegs_but_for_rare_roundings(quality):
    images = torch.rand(2, 3, 65, 47, generator=torch.Generator().manual_seed(1))
    mean, greatest = difference(images, quality)
    assert mean < 1e-3
    assert greatest <= 1


@pytest.mark.parametrize("height, width", SIZES)
def test_any_size(photographs, smooth, height, width):
    noise = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(2))
    for images in (photographs[..., :height, :width], smooth(2, height, width), noise):
        for quality in (30, 75, 95, 100):
            assert difference(images, quality)[0] < 0.02


@pytest.mark.parametrize("level", [0, 1, 100, 127, 129, 144, 254, 255])
@pytest.mark.parametrize("quality", [30, 50, 85])
def test_flat_images_are_libjpegs_up_to_the_edge(level, quality):
    images = torch.full((1, 3, 100, 100), level / 255)
    images[:, 1] = 0.5
    assert difference(images, quality) == (0, 0)


@pytest.mark.parametrize("quality", [1, 30, 49, 50, 51, 75, 95, 100])
def test_tables_are_those_in_a_file(quality):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
    for place, base in enumerate((LUMA_TABLE, CHROMA_TABLE)):
        written = Image.open(file).quantization[place]
        found = tables(base, torch.tensor([float(quality)]))[0].flatten().tolist()
        assert sorted(found) == sorted(written)
        assert found == written


def test_each_image_has_its_own_quality(photographs):
    operations = [Jpeg(quality) for quality in (30, 50.4, 70, 95)]
    together = jpeg(photographs, operations)
    for place, operation in enumerate(operations):
        alone = jpeg(photographs[place : place + 1], [Jpeg(round(operation.quality))])
        assert torch.equal(alone[0], together[place])


@pytest.mark.parametrize("crop", [(96, 128), (90, 121)])
def test_official_jpeg_is_diffjpeg(basicsr, photographs, crop):
    images = photographs[..., : crop[0], : crop[1]]
    images = images * 0.9 + 0.031  # no ties, which sums in another order would break
    qualities = [31.3, 49.7, 66.6, 94.2]
    theirs = basicsr.DiffJPEG(False)(images, torch.tensor(qualities)).detach()
    found = (official.jpeg(images, [Jpeg(quality) for quality in qualities]) - theirs).abs()
    assert (found > 1e-4).float().mean() < 1e-3
    assert found.mean() < 1e-5


def test_the_official_fault_is_corrected(photographs):
    """Grey images at quality 50: DiffJPEG is levels away from libjpeg."""
    grey = photographs.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    theirs = torch.stack([pillow(image, 50) for image in grey])
    faulty = (official.jpeg(grey, [Jpeg(50)] * 4) * 255 - theirs).abs().mean()
    assert faulty > 1
