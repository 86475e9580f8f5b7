"""JPEG XL: pixels through imagecodecs; header, metadata and colour space are parsed here.

imagecodecs returns neither size nor metadata and writes no metadata. A JPEG that was recompressed
as JPEG XL is restored and read as a JPEG.
"""

from __future__ import annotations

import io
from typing import BinaryIO

import imagecodecs
import numpy as np

from upscale.images.codecs import jpeg, jxl_header
from upscale.images.codecs.base import (
    Header,
    MalformedError,
    Raster,
    UnsupportedError,
    optional_package,
)
from upscale.images.codecs.iso_boxes import box, boxes
from upscale.images.codecs.jxl_header import Codestream
from upscale.images.codecs.registry import Codec, Traits, register, starts_with
from upscale.images.encoding import ResolvedEncoding
from upscale.images.image import DEFAULT_MAX_PIXELS, Image, Metadata, Pixels
from upscale.images.metadata import cicp, exif, xmp
from upscale.images.pixels.alpha import unmultiply
from upscale.images.pixels.depth import stretched
from upscale.images.pixels.row_chunks import looked_up

_CODESTREAM = b"\xff\x0a"
_ALL_THREADS = 0
_JPEG_DATA = b"jbrd"
_MAX_CHANNELS = 8
_MAX_METADATA_BYTES = 16 * 1024 * 1024
_TRANSFER_BITS, _TRANSFER_OFFSET = 4, 2


def read_header(file: BinaryIO) -> Header:
    """Read size, orientation, depth and metadata.

    Raises:
        MalformedError: Damaged or cut off.
        DependencyError: It has a profile, and the package that reads profiles is not installed.
    """
    data = file.read()
    stream, metadata_boxes = _parsed(data)
    if _JPEG_DATA in metadata_boxes:
        return jpeg.read_header(_restored_jpeg(data, stream))
    colour, profile = stream.colour, None
    if colour is None:
        profile = _profile(data, stream)
    block = metadata_boxes.get(b"Exif", b"")
    start = 4 + int.from_bytes(block[:4], "big")
    animation = ("only the first frame of its animation was read",) if stream.is_animated else ()
    gain_map = ("its gain map was left out",) if b"jhgm" in metadata_boxes else ()
    metadata = Metadata(
        icc=profile,
        # The orientation of the codestream applies, not that of EXIF.
        exif=exif.reset_orientation(exif.without_prefix(block[start:] or None)),
        xmp=xmp.reset_orientation(metadata_boxes.get(b"xml ") or None),
        cicp=cicp.named(*colour) if colour else None,
    )
    return Header(
        stream.width,
        stream.height,
        stream.orientation,
        metadata=metadata,
        bits=stream.bits if 8 < stream.bits < 16 and not stream.is_float else None,
        lossless=not stream.is_xyb,
        notes=(*animation, *gain_map),
    )


def read_shape(file: BinaryIO) -> Header:
    """Read size and orientation.

    Raises:
        MalformedError: Damaged or cut off.
    """
    stream, _ = _parsed(file.read())
    return Header(stream.width, stream.height, stream.orientation)


def decode(file: BinaryIO) -> Raster:
    """Decode the image, or the first frame of an animation.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: It stores CMYK, or too many channels.
    """
    data = file.read()
    stream, metadata_boxes = _parsed(data)
    if _JPEG_DATA in metadata_boxes:
        return jpeg.decode(_restored_jpeg(data, stream))
    if jxl_header.BLACK in stream.channels or len(stream.channels) > _MAX_CHANNELS:
        raise UnsupportedError("stores CMYK or more than colours and alpha")
    samples = imagecodecs.jpegxl_decode(
        data, index=0, keeporientation=True, numthreads=_ALL_THREADS
    )
    # Without alpha, imagecodecs returns the extra channels of grey images as planes.
    if samples.shape[:2] != (stream.height, stream.width):
        samples = samples[0]
    raster = Raster.of(_in_range(samples, stream))
    if raster.alpha is None or not stream.is_premultiplied:
        return raster
    return Raster(unmultiply(raster.pixels, raster.alpha), raster.alpha)


def encode(image: Image, target: BinaryIO, encoding: ResolvedEncoding) -> None:
    """Encode uint8, uint16 or float32 pixels in sRGB with alpha, EXIF and XMP."""
    samples = image.samples()
    if samples.dtype != np.uint8 and not encoding.lossless:
        samples = _linear(samples, image.pixels.shape[2])
    plain = imagecodecs.jpegxl_encode(
        np.ascontiguousarray(samples if samples.shape[2] > 1 else samples[..., 0]),
        level=None if encoding.lossless else encoding.quality,
        lossless=encoding.lossless,
        usecontainer=True,
        numthreads=_ALL_THREADS,
    )
    target.write(_tagged(bytes(plain)))
    if image.metadata.exif:
        target.write(box(b"Exif", bytes(4) + image.metadata.exif))
    if image.metadata.xmp:
        target.write(box(b"xml ", image.metadata.xmp))


def _parsed(data: bytes) -> tuple[Codestream, dict[bytes, bytes]]:
    """Parse the codestream's header, and return the first box of each kind, decompressed."""
    if data.startswith(_CODESTREAM):
        return jxl_header.parse(data), {}
    first_boxes: dict[bytes, bytes] = {}
    codestream = b""
    for kind, body in boxes(data):
        if kind == b"jxlc":
            codestream += body
        elif kind == b"jxlp":
            codestream += body[4:]
        elif kind == b"brob" and body[:4] in (b"Exif", b"xml "):
            content = imagecodecs.brotli_decode(body[4:], out=_MAX_METADATA_BYTES)
            first_boxes.setdefault(body[:4], bytes(content))
        else:
            first_boxes.setdefault(kind, body)
    if not codestream.startswith(_CODESTREAM):
        raise MalformedError("is damaged")
    return jxl_header.parse(codestream), first_boxes


def _restored_jpeg(data: bytes, stream: Codestream) -> BinaryIO:
    """Restore a recompressed JPEG byte for byte."""
    _check_size(stream)
    return io.BytesIO(imagecodecs.jpegxl_decode_jpeg(data, numthreads=_ALL_THREADS))


def _profile(data: bytes, stream: Codestream) -> bytes | None:
    """Return the profile of the decoded pixels, which imagecodecs does not return."""
    _check_size(stream)
    package = optional_package("pillow_jxl", "its colour profile", "pillow-jxl-plugin", "jxl")
    return bytes(package.Decoder(num_threads=1)(data)[3]) or None


def _check_size(stream: Codestream) -> None:
    """Refuse huge images that would be decoded for their metadata before the size check."""
    if stream.width * stream.height > DEFAULT_MAX_PIXELS:
        raise UnsupportedError("is too large to read its colour profile")


def _in_range(samples: Pixels, stream: Codestream) -> Pixels:
    """Scale samples to the whole range of a type that `Image` supports."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    if stream.bits == 8 * samples.dtype.itemsize:
        return samples
    return stretched(samples, stream.bits)


def _linear(samples: Pixels, colours: int) -> Pixels:
    """Convert sRGB to linear light, which the encoder expects of 16 bits and floats; not alpha."""
    is_integer = samples.dtype == np.uint16
    coded = np.linspace(0, 1, 65536) if is_integer else samples[..., :colours].astype(np.float64)
    light = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    result = samples.copy()
    if is_integer:
        table = np.rint(light * 65535).astype(np.uint16)
        result[..., :colours] = looked_up(table, samples[..., :colours])
    else:
        result[..., :colours] = light
    return result


def _tagged(data: bytes) -> bytes:
    """Return the file with sRGB as its colour space, where the encoder has named linear light.

    Lossless files hold sRGB values anyway. Lossy ones are stored independently of the space, which
    only names the space to decode to.
    """
    start = data.index(b"jxlc" + _CODESTREAM) + 4
    stream = jxl_header.parse(data[start:])
    if stream.colour is None or stream.colour[1] == cicp.SRGB[1]:
        return data
    byte, shift = divmod(stream.transfer_position + _TRANSFER_OFFSET, 8)
    window = slice(start + byte, start + byte + 2)
    number = int.from_bytes(data[window], "little")
    number &= ~(((1 << _TRANSFER_BITS) - 1) << shift)
    number |= (cicp.SRGB[1] - _TRANSFER_OFFSET) << shift
    return data[: window.start] + number.to_bytes(2, "little") + data[window.stop :]


register(
    Codec(
        name="jxl",
        label="JPEG XL",
        suffixes=("jxl",),
        sniff=starts_with(_CODESTREAM, b"\0\0\0\x0cJXL "),
        read_header=read_header,
        read_shape=read_shape,
        decode=decode,
        traits=Traits(
            depth=32,
            alpha="full",
            lossy=True,
            max_side=2**30 - 1,
            carries=frozenset({"exif", "xmp"}),
        ),
        encode=encode,
        reads_more=True,
        rank=9,
    )
)
