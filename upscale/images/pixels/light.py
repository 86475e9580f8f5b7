"""Linear light: conversion to and from the curve of sRGB, for formats that hold one of the two."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from upscale.images.image import Image
from upscale.images.metadata.icc import in_linear_srgb, in_srgb
from upscale.images.pixels.colour import tone_curve
from upscale.images.pixels.depth import full_scale
from upscale.images.pixels.row_chunks import row_chunks

LINEAR, SRGB = 8, 13
"""Numbers of transfer functions in ITU-T H.273."""

REC_709 = 1
"""Number of the primaries of sRGB in ITU-T H.273."""


def is_scene_light(image: Image) -> bool:
    """Return whether an image has floats that its metadata calls linear light."""
    numbers = image.metadata.colour_numbers
    return image.depth == 32 and numbers is not None and numbers[1] == LINEAR


def in_linear_light(image: Image) -> Image:
    """Convert an image to floats in linear light. Values are 1 where the image is white.

    Colours with a profile get the primaries of sRGB. Those in linear light are not clipped.
    """
    curve = tone_curve(image.pixels, image.metadata)
    numbers = image.metadata.colour_numbers
    is_linear = curve is not None and curve.is_linear
    image = image if is_linear else in_srgb(image)
    pixels, full = np.empty(image.pixels.shape, np.float32), full_scale(image.pixels.dtype)
    for rows in row_chunks(pixels.shape):
        values = image.pixels[rows].astype(np.float32) / np.float32(full)
        pixels[rows] = values if is_linear else _decoded(values)
    if is_linear and image.metadata.icc is not None:
        pixels = in_linear_srgb(pixels, image.metadata.icc)
    alpha = image.alpha
    if alpha is not None:
        alpha = (alpha / np.float32(full_scale(alpha.dtype))).astype(np.float32)
    primaries = REC_709 if numbers is None else numbers[0]
    metadata = replace(image.metadata, icc=None, cicp=(primaries, LINEAR))
    origin = replace(image.origin, bits=image.bits)  # the type no longer tells
    return replace(image, pixels=pixels, alpha=alpha, metadata=metadata, origin=origin)


def in_srgb_curve(image: Image) -> Image:
    """Give floats in linear light the curve of sRGB; the primaries stay, and nothing is clipped."""
    pixels = np.empty_like(image.pixels)
    for rows in row_chunks(pixels.shape):
        light = image.pixels[rows]
        curved = np.maximum(light, 0.0031308) ** (1 / 2.4) * 1.055 - 0.055
        pixels[rows] = np.where(light <= 0.0031308, light * 12.92, curved)
    primaries = (image.metadata.cicp or (REC_709, LINEAR))[0]
    cicp = None if primaries == REC_709 else (primaries, SRGB)
    return replace(image, pixels=pixels, metadata=replace(image.metadata, cicp=cicp))


def _decoded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    curved = ((np.maximum(values, 0.04045) + 0.055) / 1.055) ** 2.4
    return np.where(values <= 0.04045, values / 12.92, curved).astype(np.float32)
