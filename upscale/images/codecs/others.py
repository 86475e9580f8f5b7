"""Targa, QOI, ICO, Photoshop and DDS, which are only read, and in 8 bits, mostly by Pillow."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

import imagecodecs
from PIL import DdsImagePlugin, IcoImagePlugin, Image, PsdImagePlugin, TgaImagePlugin

from upscale.images.codecs import pillow, png
from upscale.images.codecs.base import Header, MalformedError, Raster, UnsupportedError
from upscale.images.image import Metadata
from upscale.images.metadata import exif

_QOI_END = bytes(7) + b"\1"
_PNG = b"\x89PNG"
_ICO_HEAD, _ICO_ENTRY = "<HHH", "<BBBBHHII"
_PSD_IPTC, _PSD_EXIF, _PSD_XMP = 1028, 1058, 1060
_DDS_FLOATS = range(94, 97)


def read_tga(file: BinaryIO) -> Header:
    """Size of a Targa image.

    Raises:
        Exception: Whatever Pillow raises on damaged content.
    """
    return _header(TgaImagePlugin.TgaImageFile(file))


def decode_tga(file: BinaryIO) -> Raster:
    """Decode a Targa image; alpha of which nothing is visible is a field left empty.

    Raises:
        Exception: Whatever Pillow raises on damaged content.
    """
    raster = pillow.raster_of(TgaImagePlugin.TgaImageFile(file))
    unused = raster.alpha is not None and not raster.alpha.any()
    return Raster(raster.pixels) if unused else raster


def read_qoi(file: BinaryIO) -> Header:
    """Size of a QOI image.

    Raises:
        struct.error: Cut off.
    """
    width, height = struct.unpack(">4xII2x", file.read(14))
    return Header(width, height)


def decode_qoi(file: BinaryIO) -> Raster:
    """Decode a QOI image.

    Raises:
        MalformedError: Cut off, which the decoder does not notice.
        Exception: Whatever imagecodecs raises on damaged content.
    """
    data = file.read()
    if _QOI_END not in data[-2 * len(_QOI_END) :]:
        raise MalformedError("is cut off")
    return Raster.of(imagecodecs.qoi_decode(data))


def read_ico(file: BinaryIO) -> Header:
    """Size of the largest image of an ICO file, as the image itself states it.

    Raises:
        MalformedError: Damaged or cut off.
    """
    _, data = _largest(file)
    if data.startswith(_PNG):
        return png.read_header(io.BytesIO(data))
    # A bitmap counts the rows of its mask, too.
    width, rows = struct.unpack_from("<ii", data, 4)
    return Header(abs(width), abs(rows) // 2)


def decode_ico(file: BinaryIO) -> Raster:
    """Decode the largest image of an ICO file.

    Raises:
        Exception: Whatever the decoders raise on damaged content.
    """
    entry, data = _largest(file)
    if data.startswith(_PNG):
        return png.decode_bytes(data)
    alone = struct.pack(_ICO_HEAD, 0, 1, 1) + struct.pack(_ICO_ENTRY, *entry[:-1], 22) + data
    return pillow.raster_of(IcoImagePlugin.IcoImageFile(io.BytesIO(alone)))


def read_psd(file: BinaryIO) -> Header:
    """Size and metadata of a Photoshop document.

    Raises:
        UnsupportedError: It has more than 8 bits a sample.
        Exception: Whatever Pillow raises on damaged content.
    """
    pil_image = _psd(file)
    resources = {number: body for number, _, body in pil_image.resources}
    block = exif.without_prefix(resources.get(_PSD_EXIF))
    metadata = Metadata(
        icc=pil_image.info.get("icc_profile") or None,
        # The canvas is stored upright.
        exif=exif.reset_orientation(block),
        xmp=exif.reset_xmp_orientation(resources.get(_PSD_XMP)),
        iptc=resources.get(_PSD_IPTC) or None,
    )
    notes = ("its layers were left out",) if pil_image.layers else ()
    return Header(*pil_image.size, metadata=metadata, notes=notes)


def decode_psd(file: BinaryIO) -> Raster:
    """Decode the image that all layers of a Photoshop document make.

    Raises:
        Exception: Whatever Pillow raises on damaged content.
    """
    return pillow.raster_of(_psd(file))


def read_dds(file: BinaryIO) -> Header:
    """Size of a DDS texture.

    Raises:
        UnsupportedError: It stores floats.
        Exception: Whatever Pillow raises on damaged content.
    """
    file.seek(128)
    if struct.unpack("<I", file.read(4).ljust(4, b"\0"))[0] in _DDS_FLOATS:
        raise UnsupportedError("stores floats")
    file.seek(0)
    return _header(DdsImagePlugin.DdsImageFile(file))


def decode_dds(file: BinaryIO) -> Raster:
    """Decode the largest level of a DDS texture.

    Raises:
        Exception: Whatever Pillow raises on damaged content.
    """
    return pillow.raster_of(DdsImagePlugin.DdsImageFile(file))


def _header(pil_image: Image.Image) -> Header:
    width, height = pil_image.size
    return Header(width, height)


def _largest(file: BinaryIO) -> tuple[tuple[int, ...], bytes]:
    """The entry of an ICO file with most pixels, then most bits, and its content."""
    data = file.read()
    _, _, count = struct.unpack_from(_ICO_HEAD, data)
    places = range(6, min(6 + 16 * count, len(data) - 15), 16)
    entries = [struct.unpack_from(_ICO_ENTRY, data, at) for at in places]
    if not entries:
        raise MalformedError("is damaged")
    # A side of 256 is stated as 0.
    best = max(entries, key=lambda entry: ((entry[0] or 256) * (entry[1] or 256), entry[5]))
    return best, data[best[7] : best[7] + best[6]]


def _psd(file: BinaryIO) -> PsdImagePlugin.PsdImageFile:
    file.seek(22)
    (bits,) = struct.unpack(">H", file.read(2))
    if bits > 8:
        raise UnsupportedError(f"has {bits} bits a sample")
    file.seek(0)
    return PsdImagePlugin.PsdImageFile(file)
