"""JPEG XL through imagecodecs; what travels beside the pixels, as the boxes that it is.

A JPEG that was packed into a JPEG XL file is unpacked and read as the JPEG that it is.
"""

from __future__ import annotations

import io
from typing import BinaryIO

import imagecodecs
import numpy as np

from upscale.errors import DependencyError
from upscale.images.codecs import jpeg, jxl_header
from upscale.images.codecs.base import Header, MalformedError, Raster, UnsupportedError
from upscale.images.codecs.iso_boxes import box, boxes
from upscale.images.codecs.jxl_header import Codestream
from upscale.images.encoding import ResolvedEncoding
from upscale.images.image import DEFAULT_MAX_PIXELS, Image, Metadata, Pixels
from upscale.images.metadata import cicp, exif
from upscale.images.pixels.alpha import unmultiply
from upscale.images.pixels.bits import looked_up, stretched

_CODESTREAM = b"\xff\x0a"
_ALL_THREADS = 0
_PACKED_JPEG = b"jbrd"
_MAX_CHANNELS = 8
_MAX_METADATA_BYTES = 16 * 1024 * 1024
_SRGB_TRANSFER, _TRANSFER_BITS, _TRANSFER_OFFSET = 13, 4, 2


def read_header(file: BinaryIO) -> Header:
    """Size, orientation, depth and metadata.

    Raises:
        MalformedError: Damaged or cut off.
        DependencyError: It has a profile, and what reads profiles is not installed.
    """
    data = file.read()
    found, plain = _parsed(data)
    if _PACKED_JPEG in plain:
        return jpeg.read_header(_unpacked(data, found))
    colour, profile = found.colour, None
    if colour is None:
        profile = _profile(data, found)
    block = plain.get(b"Exif", b"")
    start = 4 + int.from_bytes(block[:4], "big")
    metadata = Metadata(
        icc=profile,
        # The orientation of the codestream counts, not that of EXIF.
        exif=exif.reset_orientation(exif.without_prefix(block[start:] or None)),
        xmp=exif.reset_xmp_orientation(plain.get(b"xml ") or None),
        cicp=cicp.named(*colour) if colour else None,
    )
    return Header(
        found.width,
        found.height,
        found.orientation,
        metadata=metadata,
        bits=found.bits if 8 < found.bits < 16 and not found.floating else None,
        lossless=not found.xyb,
        notes=("only the first frame of its animation was read",) if found.animated else (),
    )


def read_shape(file: BinaryIO) -> Header:
    """Size and orientation alone.

    Raises:
        MalformedError: Damaged or cut off.
    """
    found, _ = _parsed(file.read())
    return Header(found.width, found.height, found.orientation)


def decode(file: BinaryIO) -> Raster:
    """Decode the image, or the first frame of an animation.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: It stores inks, or a great many channels.
        Exception: Whatever the decoder raises on damaged content.
    """
    data = file.read()
    found, plain = _parsed(data)
    if _PACKED_JPEG in plain:
        return jpeg.decode(_unpacked(data, found))
    if jxl_header.BLACK in found.channels or len(found.channels) > _MAX_CHANNELS:
        raise UnsupportedError("stores inks or other things than colours")
    samples = imagecodecs.jpegxl_decode(
        data, index=0, keeporientation=True, numthreads=_ALL_THREADS
    )
    # Without alpha, channels beside grey come as planes.
    if samples.shape[:2] != (found.height, found.width):
        samples = samples[0]
    raster = Raster.of(_in_range(samples, found))
    if raster.alpha is None or not found.associated:
        return raster
    return Raster(unmultiply(raster.pixels, raster.alpha), raster.alpha)


def encode(image: Image, target: BinaryIO, settled: ResolvedEncoding) -> None:
    """Encode uint8, uint16 or float32 pixels in sRGB, alpha, EXIF and XMP."""
    samples = image.samples()
    if samples.dtype != np.uint8 and not settled.lossless:
        samples = _linear(samples, image.pixels.shape[2])
    plain = imagecodecs.jpegxl_encode(
        np.ascontiguousarray(samples if samples.shape[2] > 1 else samples[..., 0]),
        level=None if settled.lossless else settled.quality,
        lossless=settled.lossless,
        usecontainer=True,
        numthreads=_ALL_THREADS,
    )
    target.write(_tagged(bytes(plain)))
    if image.metadata.exif:
        target.write(box(b"Exif", bytes(4) + image.metadata.exif))
    if image.metadata.xmp:
        target.write(box(b"xml ", image.metadata.xmp))


def _parsed(data: bytes) -> tuple[Codestream, dict[bytes, bytes]]:
    """What the codestream states, and the first box of each kind, unpacked."""
    if data.startswith(_CODESTREAM):
        return jxl_header.parse(data), {}
    plain: dict[bytes, bytes] = {}
    stream = b""
    for kind, body in boxes(data):
        if kind == b"jxlc":
            stream += body
        elif kind == b"jxlp":
            stream += body[4:]
        elif kind == b"brob" and body[:4] in (b"Exif", b"xml "):
            content = imagecodecs.brotli_decode(body[4:], out=_MAX_METADATA_BYTES)
            plain.setdefault(body[:4], bytes(content))
        else:
            plain.setdefault(kind, body)
    if not stream.startswith(_CODESTREAM):
        raise MalformedError("is damaged")
    return jxl_header.parse(stream), plain


def _unpacked(data: bytes, found: Codestream) -> BinaryIO:
    """The JPEG that was packed, byte for byte."""
    _check_size(found)
    return io.BytesIO(imagecodecs.jpegxl_decode_jpeg(data, numthreads=_ALL_THREADS))


def _profile(data: bytes, found: Codestream) -> bytes | None:
    """The profile of the pixels as they are decoded, which imagecodecs does not tell."""
    _check_size(found)
    try:
        from pillow_jxl import Decoder
    except ImportError as error:
        raise DependencyError(
            "its colour profile needs the package pillow-jxl-plugin; "
            "run: pip install 'upscale[jxl]'"
        ) from error
    return bytes(Decoder(num_threads=1)(data)[3]) or None


def _check_size(found: Codestream) -> None:
    """Refuse what would be decoded for its metadata before anyone else looks at its size."""
    if found.width * found.height > DEFAULT_MAX_PIXELS:
        raise UnsupportedError("is too large to read its colour profile")


def _in_range(samples: Pixels, found: Codestream) -> Pixels:
    """Samples over the whole range of a type that an image can have."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    if found.bits == 8 * samples.dtype.itemsize:
        return samples
    return stretched(samples, found.bits)


def _linear(samples: Pixels, colours: int) -> Pixels:
    """Light in place of sRGB, as the encoder takes 16 bits and floats for; alpha as it is."""
    whole = samples.dtype == np.uint16
    coded = np.linspace(0, 1, 65536) if whole else samples[..., :colours].astype(np.float64)
    light = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    result = samples.copy()
    if whole:
        table = np.rint(light * 65535).astype(np.uint16)
        result[..., :colours] = looked_up(table, samples[..., :colours])
    else:
        result[..., :colours] = light
    return result


def _tagged(data: bytes) -> bytes:
    """The file with sRGB named as its colour space, where the encoder has named linear light.

    What is lossless are sRGB's numbers anyway; what is not is stored independently of the space,
    and the name is the space to decode it to.
    """
    start = data.index(b"jxlc" + _CODESTREAM) + 4
    found = jxl_header.parse(data[start:])
    if found.colour is None or found.colour[1] == _SRGB_TRANSFER:
        return data
    byte, shift = divmod(found.transfer_at + _TRANSFER_OFFSET, 8)
    window = slice(start + byte, start + byte + 2)
    number = int.from_bytes(data[window], "little")
    number &= ~(((1 << _TRANSFER_BITS) - 1) << shift)
    number |= (_SRGB_TRANSFER - _TRANSFER_OFFSET) << shift
    return data[: window.start] + number.to_bytes(2, "little") + data[window.stop :]
