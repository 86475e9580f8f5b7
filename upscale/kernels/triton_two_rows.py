"""The convolution of `triton_kernel.py` with two output rows a program and weights that stay.

Importing this module requires Triton; the rest of the program uses `triton_conv.py`.

A program loads the weights of all its channels once, keeps them in shared memory, and computes
`blocks` blocks of `block_pixels` neighbouring pixels in two neighbouring rows. Four rows of the map
are read for them, where one row alone needs three. With blocks of 64 pixels this allows 139
operations per byte from the L2 cache, twice as many as `triton_kernel.py`. The taps to the left and
in the middle are one product of twice the width, which reads the pixels from shared memory twice
instead of three times.
"""

# Triton functions are not Python that a type checker or annotations could describe.
# pyright: basic, reportMissingImports=false
# ruff: noqa: ANN001, ANN201, ANN202, PLR0917

from __future__ import annotations

import triton
import triton.language as tl

from upscale.kernels.triton_kernel import _pixels, _shifted, _store


@triton.jit
def _taps(weights, block_channels: tl.constexpr, block_outputs: tl.constexpr):
    """Return the weights of a chunk of channels: for each of 3 rows, left and middle, then right.

    They are stored as (3 rows, left and middle as (channels, 2 x outputs), right as (channels,
    outputs)).
    """
    lane = tl.arange(0, block_channels)[:, None]
    size: tl.constexpr = block_channels * block_outputs
    pair = weights + lane * (2 * block_outputs) + tl.arange(0, 2 * block_outputs)[None, :]
    right = weights + 2 * size + lane * block_outputs + tl.arange(0, block_outputs)[None, :]
    return (
        tl.load(pair), tl.load(right),
        tl.load(pair + 3 * size), tl.load(right + 3 * size),
        tl.load(pair + 6 * size), tl.load(right + 6 * size),
    )  # fmt: skip


@triton.jit
def _add_chunk(
    sums, taps, data, image_stride, row_stride, pixel_stride, channel, row, column, height, width,
    channels: tl.constexpr, upsample: tl.constexpr, block_channels: tl.constexpr,
):  # fmt: skip
    """Add the products of a chunk of channels to the sums of the upper and the lower row.

    `row` and `column` locate the upper left tap of the upper row in the upsampled map.
    """
    upper, upper_right, lower, lower_right = sums
    for down in tl.static_range(4):
        pixels = _pixels(
            data, image_stride, row_stride, pixel_stride, row + down, column, height, width,
            channel, channels, upsample, block_channels,
        )  # fmt: skip
        if down < 3:
            upper = tl.dot(pixels, taps[2 * down], upper)
            upper_right = tl.dot(pixels, taps[2 * down + 1], upper_right)
        if down > 0:
            lower = tl.dot(pixels, taps[2 * down - 2], lower)
            lower_right = tl.dot(pixels, taps[2 * down - 1], lower_right)
    return upper, upper_right, lower, lower_right


@triton.jit
def _joined(pair, right, block_pixels: tl.constexpr, block_outputs: tl.constexpr):
    """Return the sums of the three taps, shifted by one pixel against each other."""
    both = tl.permute(tl.reshape(pair, (block_pixels, 2, block_outputs)), (0, 2, 1))
    left, middle = tl.split(both)
    sums = middle + _shifted(left, -1, block_pixels, block_outputs)
    return sums + _shifted(right, 1, block_pixels, block_outputs)


@triton.jit(do_not_specialize=["height", "width", "rows", "columns"])
def convolve_two_rows(
    first, second, weights, bias, slope, residual, other, target,
    first_image, first_row, first_pixel, second_image, second_row, second_pixel,
    residual_image, residual_row, residual_pixel, other_image, other_row, other_pixel,
    target_image, target_row, target_pixel,
    height, width, rows, columns, scale,
    first_channels: tl.constexpr, second_channels: tl.constexpr, outputs: tl.constexpr,
    padding: tl.constexpr, upsample: tl.constexpr, residuals: tl.constexpr,
    block_pixels: tl.constexpr, block_channels: tl.constexpr, block_outputs: tl.constexpr,
    blocks: tl.constexpr, stages: tl.constexpr,
):  # fmt: skip
    """Compute one layer of one or two maps; see `triton_kernel.convolve`.

    The grid of programs is (groups of `blocks` blocks of pixels, images, blocks of outputs). Pixels
    are numbered through pairs of rows.
    """
    first_chunks: tl.constexpr = (first_channels + block_channels - 1) // block_channels
    chunks: tl.constexpr = first_chunks + (second_channels + block_channels - 1) // block_channels
    values: tl.constexpr = 9 * block_channels * block_outputs
    weights += tl.program_id(2) * (chunks * values)
    taps = ()
    for chunk in tl.static_range(chunks):
        taps = taps + _taps(weights + chunk * values, block_channels, block_outputs)
    output = tl.program_id(2) * block_outputs + tl.arange(0, block_outputs)
    shift, factor = tl.load(bias + output), tl.load(slope + output)
    lane = tl.arange(0, block_pixels)
    own = (lane > 0) & (lane < block_pixels - 1)
    span = columns + 2
    for step in tl.range(0, blocks, num_stages=stages):
        place = (tl.program_id(0) * blocks + step) * (block_pixels - 2) + lane
        row, column = place // span * 2, place % span
        pair = tl.full((block_pixels, 2 * block_outputs), 0.0, dtype=tl.float32)
        right = tl.full((block_pixels, block_outputs), 0.0, dtype=tl.float32)
        sums = (pair, right, pair, right)
        for chunk in tl.static_range(chunks):
            if chunk < first_chunks:
                sums = _add_chunk(
                    sums, taps[6 * chunk : 6 * chunk + 6],
                    first, first_image, first_row, first_pixel, chunk * block_channels,
                    row - padding, column - padding, height, width,
                    first_channels, upsample, block_channels,
                )  # fmt: skip
            else:
                sums = _add_chunk(
                    sums, taps[6 * chunk : 6 * chunk + 6],
                    second, second_image, second_row, second_pixel,
                    (chunk - first_chunks) * block_channels,
                    row - padding, column - padding, height, width,
                    second_channels, upsample, block_channels,
                )  # fmt: skip
        for down in tl.static_range(2):
            _store(
                _joined(sums[2 * down], sums[2 * down + 1], block_pixels, block_outputs),
                shift, factor, residual, other, target,
                residual_image, residual_row, residual_pixel, other_image, other_row, other_pixel,
                target_image, target_row, target_pixel, row + down, column, rows, columns, scale,
                own, output, outputs, residuals,
            )  # fmt: skip
