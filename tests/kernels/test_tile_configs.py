from __future__ import annotations

import pytest

from tests.kernels.standins import SHARED_MEMORY, card
from upscale.kernels.tile_configs import (
    LONG_ROW,
    MAX_SUMS,
    ONE_ROW,
    SHORT_ROW,
    TWO_ROWS,
    TWO_ROWS_UNSTAGED,
    Shape,
    shared_bytes,
)


def shape(*channels, outputs=32):
    return Shape((*channels, 0)[:2], outputs, 1, 1, 0, "float16")


@pytest.mark.parametrize("capability", SHARED_MEMORY)
def test_every_card_has_candidates_that_fit_its_registers_and_shared_memory(capability):
    for channels in ((3,), (64,), (64, 64), (64, 128), (200,)):
        for outputs in (3, 32, 48, 64, 130):
            layer = shape(*channels, outputs=outputs)
            configs = card(*capability).configs(layer)
            assert len(configs) >= 2
            for config in configs:
                block = config.block_outputs(outputs)
                assert config.pixels * config.rows * block <= MAX_SUMS
                assert shared_bytes(config, layer, capability) <= SHARED_MEMORY[capability]


def test_rows_of_256_pixels_are_tried_where_matrix_units_read_shared_memory():
    tried = [each for each in SHARED_MEMORY if LONG_ROW in card(*each).configs(shape(64))]
    assert tried == [(9, 0), (10, 0)]


@pytest.mark.parametrize("outputs", [48, 64, 130])
def test_wide_layers_are_tried_with_short_rows(outputs):
    one_row = [each for each in card(8, 0).configs(shape(64, outputs=outputs)) if each.rows == 1]
    assert one_row == [ONE_ROW[0], SHORT_ROW]


def test_two_rows_are_tried_where_their_weights_fit_and_triton_compiles_them():
    def rows(capability, *channels):
        configs = card(*capability).configs(shape(*channels))
        return [each for each in configs if each.rows == 2]

    assert rows((9, 0), 64) == rows((9, 0), 64, 64) == [TWO_ROWS, TWO_ROWS_UNSTAGED]
    assert rows((9, 0), 64, 96) == [TWO_ROWS_UNSTAGED]
    assert rows((8, 0), 64) == rows((8, 6), 64) == rows((12, 0), 64) == [TWO_ROWS]
    assert rows((8, 6), 64, 96) == rows((10, 0), 64) == []


def test_narrow_maps_are_read_in_narrow_blocks():
    assert TWO_ROWS.block_channels(shape(3)) == TWO_ROWS.block_channels(shape(12)) == 16
    assert TWO_ROWS.block_channels(shape(64, 32)) == 32
