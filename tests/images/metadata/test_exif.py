from __future__ import annotations

import struct

import pytest
from PIL import Image

from upscale.images.metadata import exif


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_reset_and_nothing_else_is_changed(exif_block, orientation, order):
    block = exif_block(orientation, order)
    assert exif.orientation_of(block) == orientation
    reset = exif.reset_orientation(block)
    assert exif.orientation_of(reset) == 1
    changed = [at for at, (a, b) in enumerate(zip(block, reset, strict=True)) if a != b]
    assert len(changed) == (orientation != 1)
    read = Image.Exif()
    read.load(b"Exif\0\0" + reset)
    assert read[0x010F] == "Some maker" and read.get_ifd(0x8769)[0x829A] == 0.5


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_orientations_that_do_not_exist_mean_upright(exif_block, value):
    assert exif.orientation_of(exif_block(value)) == 1


def test_damaged_blocks_are_upright_and_unchanged(exif_block):
    whole = exif_block(6)
    blocks = [whole[:length] for length in range(len(whole))]
    blocks += [b"II*\0" + struct.pack("<I", start) for start in (0, 7, 2**32 - 1)]
    blocks += [b"II*\0\x08\0\0\0\xff\xff" + bytes(30), b"nonsense", b"MM\0*\0\0\0\x08\xff"]
    for block in blocks:
        if exif.orientation_of(block) == 1:
            assert exif.reset_orientation(block) == block
    assert exif.orientation_of(None) == 1 and exif.reset_orientation(None) is None
