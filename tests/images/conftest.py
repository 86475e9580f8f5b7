"""Fixtures that are functions: noise, EXIF blocks and files written by Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.images import Image, Metadata


def _noise(
    dtype: str = "uint8",
    channels: int = 3,
    alpha: bool = False,
    size: tuple[int, int] = (53, 37),
    metadata: Metadata | None = None,
) -> Image:
    """Noise, which lossy steps destroy; size is (width, height)."""
    rng = np.random.default_rng(7)
    values = rng.integers(0, 65536, (size[1], size[0], channels + 1))
    scaled = {"uint8": values // 257, "uint16": values, "float32": values / 65535}[dtype]
    samples = scaled.astype(dtype)
    samples[0, 0] = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    samples[-1, -1] = 0
    plane = np.ascontiguousarray(samples[..., channels]) if alpha else None
    return Image(np.ascontiguousarray(samples[..., :channels]), plane, metadata or Metadata())


def _exif_block(orientation: int, order: str = "<") -> bytes:
    """An EXIF block with maker, orientation and exposure time, made by Pillow."""
    block = PILImage.Exif()
    block.endian = order
    block[0x010F] = "Some maker"
    block[0x0112] = orientation
    block.get_ifd(0x8769)[0x829A] = 0.5
    return block.tobytes().removeprefix(b"Exif\0\0")


def _pillow_bytes(image: PILImage.Image, format: str, **options: object) -> bytes:
    """An image as Pillow writes it."""
    target = io.BytesIO()
    image.save(target, format, **options)
    return target.getvalue()


@pytest.fixture
def noise() -> Callable[..., Image]:
    return _noise


@pytest.fixture
def exif_block() -> Callable[..., bytes]:
    return _exif_block


@pytest.fixture
def pillow_bytes() -> Callable[..., bytes]:
    return _pillow_bytes
