"""Photoshop documents of 8 bits per sample: the flattened image, read through Pillow."""

from __future__ import annotations

import struct
from typing import BinaryIO

from PIL import PsdImagePlugin

from upscale.images.codecs import pillow
from upscale.images.codecs.base import Header, Raster, UnsupportedError
from upscale.images.codecs.registry import Codec, register, starts_with
from upscale.images.image import Metadata
from upscale.images.metadata import exif, xmp

_IPTC, _EXIF, _XMP = 1028, 1058, 1060


def read_header(file: BinaryIO) -> Header:
    """Read size and metadata.

    Raises:
        UnsupportedError: It has more than 8 bits per sample.
    """
    pil_image = _open(file)
    resources = {number: body for number, _, body in pil_image.resources}
    metadata = Metadata(
        icc=pil_image.info.get("icc_profile") or None,
        # The canvas is stored upright.
        exif=exif.reset_orientation(exif.without_prefix(resources.get(_EXIF))),
        xmp=xmp.reset_orientation(resources.get(_XMP)),
        iptc=resources.get(_IPTC) or None,
    )
    notes = ("its layers were left out",) if pil_image.layers else ()
    return Header(*pil_image.size, metadata=metadata, notes=notes)


def decode(file: BinaryIO) -> Raster:
    """Decode the flattened image.

    Raises:
        UnsupportedError: It has more than 8 bits per sample.
    """
    return pillow.raster_of(_open(file))


def _open(file: BinaryIO) -> PsdImagePlugin.PsdImageFile:
    file.seek(22)
    (bits,) = struct.unpack(">H", file.read(2))
    if bits > 8:
        raise UnsupportedError(f"has {bits} bits per sample")
    file.seek(0)
    return PsdImagePlugin.PsdImageFile(file)


register(
    Codec(
        name="psd",
        label="Photoshop",
        suffixes=("psd",),
        sniff=starts_with(b"8BPS\0\1"),
        read_header=read_header,
        decode=decode,
    )
)
