"""The kernels as compiled for each generation of cards: registers, spills and shared memory.

A card with these numbers may still be slow; one with hundreds of spills, or without matrix
instructions, surely is.
"""

from __future__ import annotations

import os
import sys

import pytest

from tests.kernels.assembly import compiled
from tests.kernels.standins import SHARED_MEMORY, card
from upscale.kernels import triton_conv
from upscale.kernels.tile_configs import LONG_ROW, TWO_ROWS, Shape, shared_bytes

SHAPES = {
    "first": Shape((3, 0), 64, 1, 1, 0, "float16"),
    "dense 1": Shape((64, 0), 32, 1, 1, 0, "float16"),
    "dense 4": Shape((64, 96), 32, 1, 1, 0, "float16"),
    "dense 5": Shape((64, 128), 64, 1, 1, 2, "float16"),
    "doubling": Shape((64, 0), 64, 1, 2, 0, "float16"),
    "last": Shape((64, 0), 3, 1, 1, 0, "float16"),
}

MAX_SPILLS = 80
"""Spills of a layer with 192 channels, 64 outputs. The first layer had 1,226 before its maps were
aligned, and rows of 256 pixels had 147 to 3,300 on cards whose matrix units do not read shared
memory."""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    pytest.importorskip("triton", reason="no Triton, which comes with torch's builds for CUDA")
    names = ["upscale.kernels.triton_kernel", "upscale.kernels.triton_two_rows"]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TRITON_INTERPRET", raising=False)
        if "TRITON_CACHE_DIR" not in os.environ:
            patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        for name in names:
            sys.modules.pop(name, None)
        yield triton_conv.load_kernels()
    for name in names:
        sys.modules.pop(name, None)


def check(kernels, capability, shape, precision="fp16"):
    for config in card(*capability).configs(shape):
        kernel = kernels.one_row if config.rows == 1 else kernels.two_rows
        made = compiled(kernel, capability, shape, config, precision=precision)
        assert made.matrix_products, config
        assert made.registers <= 255 and made.spills <= MAX_SPILLS, (config, made)
        assert made.shared <= SHARED_MEMORY[capability], (config, made)
        if config.rows == 2:
            # The estimate decides which configs are compiled at all.
            assert made.shared <= shared_bytes(config, shape, capability), (config, made)


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)], ids=str)
def test_the_narrowest_dense_layer_compiles_for_matrix_units(kernels, capability):
    check(kernels, capability, SHAPES["dense 1"])


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("capability", SHARED_MEMORY, ids=str)
def test_every_layer_compiles_for_every_card(kernels, capability, name):
    check(kernels, capability, SHAPES[name])


@pytest.mark.slow
@pytest.mark.parametrize("capability", [(8, 0), (9, 0)], ids=str)
def test_bfloat16_compiles(kernels, capability):
    check(kernels, capability, SHAPES["dense 1"], "bf16")


@pytest.mark.slow
def test_configs_that_are_not_tried_are_as_bad_as_their_comments_say(kernels):
    layer = SHAPES["dense 1"]
    long = compiled(kernels.one_row, (8, 6), layer, LONG_ROW, precision="fp16")
    assert long.spills > 100
    empty = compiled(kernels.two_rows, (10, 0), layer, TWO_ROWS, precision="fp16")
    assert empty.matrix_products == 0
