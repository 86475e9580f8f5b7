from __future__ import annotations

import numpy as np
import pytest

from upscale.images.pixels.orientation import swaps_sides, upright

# How each orientation of the EXIF standard changes a stored image.
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shape", [(4, 7), (4, 7, 3)])
def test_orientations_turn_as_the_standard_says(orientation, shape):
    stored = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    turned = upright(stored, orientation)
    assert np.array_equal(turned, UPRIGHT[orientation](stored))
    assert turned.flags.c_contiguous


def test_orientations_5_to_8_exchange_width_and_height():
    assert [n for n in range(1, 9) if swaps_sides(n)] == [5, 6, 7, 8]
