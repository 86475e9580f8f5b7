"""A toy image format as a third party would add it: one module that registers one codec.

A file is text: `TOY <width> <height> <channels>`, then all samples in decimal.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from upscale.images import Image
from upscale.images.codecs.base import Header, MalformedError, Raster
from upscale.images.codecs.registry import Codec, Traits, starts_with
from upscale.images.encoding import ResolvedEncoding


def read_header(file: BinaryIO) -> Header:
    _, width, height, _ = file.readline().split()
    return Header(int(width), int(height))


def decode(file: BinaryIO) -> Raster:
    _, width, height, channels = file.readline().split()
    samples = np.array(file.read().split(), np.uint8)
    if samples.size != int(width) * int(height) * int(channels):
        raise MalformedError("is cut off")
    return Raster.of(samples.reshape(int(height), int(width), int(channels)))


def encode(image: Image, target: BinaryIO, encoding: ResolvedEncoding) -> None:
    target.write(f"TOY {image.width} {image.height} {image.pixels.shape[2]}\n".encode())
    target.write(" ".join(map(str, image.pixels.ravel())).encode())


CODEC = Codec(
    name="toy",
    label="Toy",
    suffixes=("toy", "toytext"),
    sniff=starts_with(b"TOY "),
    read_header=read_header,
    decode=decode,
    traits=Traits(depth=8, max_side=5000),
    encode=encode,
)
