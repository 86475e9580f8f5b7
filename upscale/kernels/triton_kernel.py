"""A 3x3 convolution of channels-last maps on the matrix units of a GPU, compiled by Triton.

Importing this module requires Triton; the rest of the program uses `triton_conv.py`.

A program computes `block_pixels` neighbouring pixels of `block_outputs` channels. The pixels of a
row are read once for the three taps in it: each tap has its own sums, and at the end the sums are
shifted by one pixel against each other and added. This pays off for narrow layers. With 32 outputs
and 128 or 256 pixels, nine reads of each pixel allow 26 to 28 operations per byte from the L2
cache, weights included, and three reads allow 55 to 70; a GPU whose cache delivers 5 TB/s and whose
matrix units reach 800 TFLOP/s needs 160.
"""

# Triton functions are not Python that a type checker or annotations could describe.
# pyright: basic, reportMissingImports=false
# ruff: noqa: ANN001, ANN201, ANN202, PLR0917

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _offsets(image, row, column, image_stride, row_stride, pixel_stride):
    """Return offsets of pixels in a map, in 64 bits: large maps have more than 2^31 values."""
    return (
        image.to(tl.int64) * image_stride
        + row.to(tl.int64) * row_stride
        + column.to(tl.int64) * pixel_stride
    )


@triton.jit
def _pixels(
    data, image_stride, row_stride, pixel_stride, row, column, height, width, channel,
    channels: tl.constexpr, upsample: tl.constexpr, block_channels: tl.constexpr,
):  # fmt: skip
    """Load a block of pixels of the upsampled map, (pixels, channels), with 0 outside the map."""
    lane = channel + tl.arange(0, block_channels)
    inside = ((column >= 0) & (column < width) & (row >= 0) & (row < height))[:, None]
    if channels % block_channels:
        inside = inside & (lane < channels)[None, :]
    places = _offsets(
        tl.program_id(1), row // upsample, column // upsample,
        image_stride, row_stride, pixel_stride,
    )  # fmt: skip
    return tl.load(data + places[:, None] + lane[None, :], mask=inside, other=0.0)


@triton.jit
def _add_map(
    left, middle, right, data, image_stride, row_stride, pixel_stride, weights,
    row, column, height, width, channels: tl.constexpr, upsample: tl.constexpr,
    block_channels: tl.constexpr, block_outputs: tl.constexpr,
):  # fmt: skip
    """Add the products of one map to the sums of the left, middle and right taps.

    `row` and `column` locate the upper left tap in the upsampled map and are negative outside it.
    Weights are (3 rows, 3 columns, channels, outputs), with channels padded to whole blocks.
    """
    lane = tl.arange(0, block_channels)
    chunks: tl.constexpr = (channels + block_channels - 1) // block_channels
    tap: tl.constexpr = chunks * block_channels * block_outputs
    within = lane[:, None] * block_outputs + tl.arange(0, block_outputs)[None, :]
    for step in range(0, 3 * chunks):
        down = step // chunks
        channel = (step % chunks) * block_channels
        pixels = _pixels(
            data, image_stride, row_stride, pixel_stride, row + down, column, height, width,
            channel, channels, upsample, block_channels,
        )  # fmt: skip
        taps = weights + 3 * down * tap + channel * block_outputs + within
        left = tl.dot(pixels, tl.load(taps), left)
        middle = tl.dot(pixels, tl.load(taps + tap), middle)
        right = tl.dot(pixels, tl.load(taps + 2 * tap), right)
    return left, middle, right


@triton.jit
def _shifted(sums, by: tl.constexpr, side: tl.constexpr, block_outputs: tl.constexpr):
    """Return the sums shifted by `by` pixels, with wrap-around."""
    source = (tl.arange(0, side) + side + by) % side
    return tl.gather(sums, tl.broadcast_to(source[:, None], (side, block_outputs)), 0)


@triton.jit
def _store(
    sums, bias, slope, residual, other, target,
    residual_image, residual_row, residual_pixel, other_image, other_row, other_pixel,
    target_image, target_row, target_pixel, row, column, rows, columns, scale, own, output,
    outputs: tl.constexpr, residuals: tl.constexpr,
):  # fmt: skip
    """Add bias, activation and residuals to sums of pixels, and store those inside the output.

    The first column of the output is number 1; `own` marks the pixels that no other program stores.
    """
    sums += bias[None, :]
    sums = tl.where(sums < 0, sums * slope[None, :], sums)
    own = own & (row < rows) & (column > 0) & (column <= columns)
    stored = own[:, None] & (output < outputs)[None, :]
    image = tl.program_id(1)
    if residuals > 0:
        places = _offsets(image, row, column - 1, residual_image, residual_row, residual_pixel)
        added = tl.load(residual + places[:, None] + output[None, :], mask=stored, other=0.0)
        sums = added.to(tl.float32) + scale * sums
    if residuals > 1:
        places = _offsets(image, row, column - 1, other_image, other_row, other_pixel)
        added = tl.load(other + places[:, None] + output[None, :], mask=stored, other=0.0)
        sums = added.to(tl.float32) + scale * sums
    places = _offsets(image, row, column - 1, target_image, target_row, target_pixel)
    at = target + places[:, None] + output[None, :]
    tl.store(at, sums.to(target.dtype.element_ty), mask=stored)


@triton.jit(do_not_specialize=["height", "width", "rows", "columns"])
def convolve(
    first, second, weights, bias, slope, residual, other, target,
    first_image, first_row, first_pixel, second_image, second_row, second_pixel,
    residual_image, residual_row, residual_pixel, other_image, other_row, other_pixel,
    target_image, target_row, target_pixel,
    height, width, rows, columns, scale,
    first_channels: tl.constexpr, second_channels: tl.constexpr, outputs: tl.constexpr,
    padding: tl.constexpr, upsample: tl.constexpr, residuals: tl.constexpr,
    block_pixels: tl.constexpr, block_channels: tl.constexpr, block_outputs: tl.constexpr,
):  # fmt: skip
    """Compute one layer of one or two maps; see `upscale.models.layers.Layer`.

    The grid of programs is (blocks of pixels, images, blocks of outputs). Pixels are numbered
    through rows that are two pixels longer than the output's, so that the sums of the three taps
    of a pixel are side by side; the first and last pixel of a block belong to its neighbours.
    `height` and `width` are the size of the upsampled maps, `rows` and `columns` the size of the
    output. Channels are adjacent in all maps.
    """
    span = columns + 2
    place = tl.program_id(0) * (block_pixels - 2) + tl.arange(0, block_pixels)
    row, column = place // span, place % span
    zero = tl.full((block_pixels, block_outputs), 0.0, dtype=tl.float32)
    values: tl.constexpr = 9 * block_channels * block_outputs
    first_values: tl.constexpr = (first_channels + block_channels - 1) // block_channels * values
    all_values: tl.constexpr = (
        first_values + (second_channels + block_channels - 1) // block_channels * values
    )
    weights += tl.program_id(2) * all_values
    left, middle, right = _add_map(
        zero, zero, zero, first, first_image, first_row, first_pixel, weights,
        row - padding, column - padding, height, width, first_channels, upsample,
        block_channels, block_outputs,
    )  # fmt: skip
    if second_channels > 0:
        left, middle, right = _add_map(
            left, middle, right, second, second_image, second_row, second_pixel,
            weights + first_values, row - padding, column - padding, height, width,
            second_channels, upsample, block_channels, block_outputs,
        )  # fmt: skip
    sums = middle + _shifted(left, -1, block_pixels, block_outputs)
    sums += _shifted(right, 1, block_pixels, block_outputs)

    lane = tl.arange(0, block_pixels)
    output = tl.program_id(2) * block_outputs + tl.arange(0, block_outputs)
    _store(
        sums, tl.load(bias + output), tl.load(slope + output), residual, other, target,
        residual_image, residual_row, residual_pixel, other_image, other_row, other_pixel,
        target_image, target_row, target_pixel, row, column, rows, columns, scale,
        (lane > 0) & (lane < block_pixels - 1), output, outputs, residuals,
    )  # fmt: skip
