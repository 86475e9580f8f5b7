"""Files that are not read are named, with what to do; the message is one line."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pytest

from upscale.errors import ImageError
from upscale.images import read_file, read_size

RAW = "is a raw file; develop it first, for example with darktable or RawTherapee, and export TIFF"
TEXTURE = "convert it to DDS or PNG first"
RENDER = "export it as PNG first, in the size that you need"
CONVERT = "convert it to PNG first"
VIDEO = "is a video; upscale it with the command `upscale video`"

STARTS = {
    "cr3": (b"\0\0\0\x18ftypcrx \0\0\0\1", RAW),
    "raf": (b"FUJIFILMCCD-RAW 0201", RAW),
    "orf": (b"IIRO\x08\0\0\0", RAW),
    "rw2": (b"IIU\0\x08\0\0\0", RAW),
    "x3f": (b"FOVb\0\0\2\0", RAW),
    "crw": (b"II\x1a\0\0\0HEAPCCDR", RAW),
    "ktx": (b"\xabKTX 11\xbb\r\n\x1a\n", f"is a KTX texture, which is not supported; {TEXTURE}"),
    "ktx2": (b"\xabKTX 20\xbb\r\n\x1a\n", f"is a KTX2 texture, which is not supported; {TEXTURE}"),
    "svg": (b"<svg xmlns=''>", f"is an SVG drawing, which is not supported; {RENDER}"),
    "svg with a declaration": (
        b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a remark -->\n<!DOCTYPE svg>\n<svg>",
        f"is an SVG drawing, which is not supported; {RENDER}",
    ),
    "html": (b"\n<!DOCTYPE html><html><svg>", "is a web page; download the image itself"),
    "pdf": (
        b"%PDF-1.7",
        "is a PDF document, which is not supported; export its pages as PNG or TIFF first",
    ),
    "eps": (
        b"%!PS-Adobe-3.0 EPSF-3.0",
        f"is a PostScript or EPS document, which is not supported; {RENDER}",
    ),
    "binary eps": (b"\xc5\xd0\xd3\xc6", f"is an EPS document, which is not supported; {RENDER}"),
    "cursor": (
        b"\0\0\2\0\1\0 \0\0\0\0\0\x10\0\0\0",
        f"is a cursor (CUR), which is not supported; {CONVERT}",
    ),
    "jxr": (b"II\xbc\1", f"is a JPEG XR image, which is not supported; {CONVERT}"),
    "xcf": (
        b"gimp xcf v011\0",
        "is a GIMP document (XCF), which is not supported; export it as PNG or TIFF first",
    ),
    "mp4": (b"\0\0\0\x1cftypisom", VIDEO),
    "mkv": (b"\x1a\x45\xdf\xa3\x93\x42", VIDEO),
    "avi": (b"RIFF\0\0\0\0AVI LIST", VIDEO),
    "mov": (b"\0\0\0\x08wide\0\0\0\0mdat", VIDEO),
    "ts": ((b"G" + bytes(187)) * 8, VIDEO),
    "mpeg": (b"\0\0\1\xba", VIDEO),
    "zip": (b"PK\3\4", "is a ZIP archive or a document in one; extract its images first"),
    "wav": (
        b"RIFF\0\0\0\0WAVEfmt ",
        "is an audio file; give an image, for example JPEG, PNG, TIFF or WebP",
    ),
    "text": (
        b"Dear reader",
        "is not an image; give an image, for example JPEG, PNG, TIFF or WebP",
    ),
}


@pytest.mark.parametrize("name", STARTS)
def test_kinds_that_are_not_read_are_named(name):
    start, message = STARTS[name]
    for read in (read_file, read_size):
        with pytest.raises(ImageError) as caught:
            read(start + bytes(1000))
        assert str(caught.value) == f"the image: {message}"


def noise(dtype: str, channels: int = 3) -> np.ndarray:
    values = np.random.default_rng(2).integers(0, 256, (20, 30, channels)).astype(dtype)
    return values if channels > 1 else values[..., 0]


def with_start_of_frame(marker: int, bits: int) -> bytes:
    frame = struct.pack(">BBHBHHB", 0xFF, marker, 11, bits, 20, 30, 1) + bytes((1, 0x11, 0))
    return b"\xff\xd8\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0\1\1\0\0\1\0\1\0\0" + frame


JPEGS = {
    "JPEG-LS": (bytes(imagecodecs.jpegls_encode(noise("u1"))), "a JPEG-LS image"),
    "12 bits": (with_start_of_frame(0xC1, 12), "a 12-bit JPEG"),
    "12 bits, progressive": (with_start_of_frame(0xC2, 12), "a 12-bit JPEG"),
    "lossless of 16 bits": (
        bytes(imagecodecs.ljpeg_encode(noise("u2", 1), bitspersample=16)),
        "a lossless JPEG of 16 bits per sample",
    ),
    "hierarchical": (with_start_of_frame(0xC5, 8), "a hierarchical JPEG"),
}


@pytest.mark.parametrize("name", JPEGS)
def test_kinds_of_jpeg_that_are_not_read_are_named(name):
    data, kind = JPEGS[name]
    for read in (read_file, read_size):
        with pytest.raises(ImageError) as caught:
            read(data)
        message = f"the image: is {kind}, which is not supported; convert it to PNG or TIFF first"
        assert str(caught.value) == message


CASES = {
    "jpg-12bit.jpg": "is a 12-bit JPEG, which is not supported; convert it to PNG or TIFF first",
    "cur.cur": f"is a cursor (CUR), which is not supported; {CONVERT}",
    "img.cr3": RAW,
    "photo.cr2": RAW,
    "png-cgbi.png": "is an iPhone PNG (CgBI); convert it to a plain PNG first, for example with "
    "pngcrush -revert-iphone-optimizations",
    "psd-no-composite.psd": "has no merged image; save it in Photoshop with Maximize "
    "Compatibility, or export it as PNG or TIFF",
}


@pytest.mark.parametrize("name", CASES)
def test_cases_have_the_right_reason(data, name):
    path = data / "images/cases" / name
    for read in (read_file, read_size):
        with pytest.raises(ImageError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: {CASES[name]}"


def test_lossless_jpeg_of_8_bits_is_read():
    samples = noise("u1", 1)
    data = bytes(imagecodecs.ljpeg_encode(samples, bitspersample=8))
    assert io.BytesIO(data).read(2) == b"\xff\xd8"
    assert np.array_equal(read_file(data).pixels[..., 0], samples)
