"""Read hostile files; run as a separate program, which they may crash.

    python hostile.py walk FOLDER            every file of a folder
    python hostile.py fuzz FORMAT CASES SEED  random damage to good files of a format

Prints `image` or `rejected` for each case; anything else is an error.
"""

from __future__ import annotations

import itertools
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

from tests.damage import damaged
from upscale.errors import ImageError
from upscale.images import Frame, Image, ImageSequence, Metadata, encode_file, read_file, read_size
from upscale.images.formats import writable_traits

TRAITS = writable_traits()

MOST_FRAMES = 60
# Read, but not written: good files of these are made by other programs.
FOREIGN = {
    "jpeg2000": "J2K",
    "tga": "TGA",
    "ico": "ICO",
    "pnm": "PPM",
    "dds": "DDS",
    "qoi": "QOI",
    "psd": "PSD",
}


def try_to_read(source: Path | bytes, max_pixels: int) -> str:
    """Read a whole file, and then what can be read of it; an error must be one line."""
    outcome = read_strictly_or_not(source, max_pixels, keep_damaged=False)
    kept = read_strictly_or_not(source, max_pixels, keep_damaged=True)
    assert outcome == "rejected" or kept == "image"
    return outcome


def read_strictly_or_not(source: Path | bytes, max_pixels: int, *, keep_damaged: bool) -> str:
    try:
        result = read_file(source, max_pixels=max_pixels, keep_damaged=keep_damaged)
        if keep_damaged and isinstance(result, Image):
            assert result.width * result.height <= max_pixels
        elif isinstance(result, Image):
            assert read_size(source) == (result.width, result.height), source
        else:
            for frame in itertools.islice(result.frames(), MOST_FRAMES):
                assert 0 < frame.image.width * frame.image.height <= max_pixels
    except ImageError as error:
        assert str(error).isprintable() and len(str(error)) < 400, str(error)
        return "rejected"
    return "image"


def walk(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            print(try_to_read(path, 100_000_000), flush=True)


def good_files(format: str) -> list[bytes]:
    """Small valid files of a format, one of each kind."""
    rng = np.random.default_rng(5)
    metadata = Metadata(exif=b"II*\0\x08\0\0\0\0\0\0\0\0\0", xmp=b"<x:xmpmeta/>", dpi=(90, 90))
    pixels = rng.integers(0, 65536, (13, 17, 3)).astype(np.uint16)
    if format in FOREIGN:
        return [foreign(pixels, FOREIGN[format])]
    traits, deep = TRAITS[format], Image(pixels, None, metadata)
    flat = Image((pixels >> 8).astype(np.uint8), None, metadata)
    clear = Image(flat.pixels, flat.pixels[..., 1].copy(), metadata)
    grey = Image(flat.pixels[..., :1].copy(), None, metadata)
    kinds = [flat, grey, *([deep] if traits.depth > 8 else [])]
    kinds += [clear] if traits.alpha != "none" else []
    files = [encode_file(kind, format) for kind in kinds]
    if traits.frames != "one":
        animated = traits.frames == "animation"
        frames = [Frame(kind, Fraction(1, 9) if animated else None) for kind in (clear, clear)]
        several = ImageSequence(lambda: iter(frames), 2, 0, animated, format)
        files.append(encode_file(several, format))
    return files


def foreign(pixels: np.ndarray, format: str) -> bytes:
    import io

    import imagecodecs
    from PIL import Image as PILImage

    flat = (pixels >> 8).astype(np.uint8)
    if format == "J2K":
        return bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="jp2"))
    if format == "PSD":
        return photoshop(flat)
    if format == "QOI":
        return bytes(imagecodecs.qoi_encode(flat))
    target = io.BytesIO()
    PILImage.fromarray(flat).save(target, format)
    return target.getvalue()


def photoshop(flat: np.ndarray) -> bytes:
    """A Photoshop document with one layer, a transparent channel and compressed rows."""
    import struct

    height, width = flat.shape[:2]
    planes = np.moveaxis(np.dstack((flat, flat[..., :1])), 2, 0)
    rows = [bytes((width - 1,)) + row.tobytes() for plane in planes for row in plane]
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 4, height, width, 8, 3) + bytes(8)
    layers = struct.pack(">IIhH", 8, 4, -1, 0)
    lengths = struct.pack(f">{len(rows)}H", *map(len, rows))
    return head + layers + b"\0\1" + lengths + b"".join(rows)


def fuzz(format: str, cases: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    files = good_files(format)
    name = Path(f"fuzzed.{format}")
    for number in range(cases):
        data = damaged(files[number % len(files)], rng)
        source: Path | bytes = data
        if format == "tga":
            # Only the suffix identifies this format.
            name = Path(sys.argv[-1]) / "fuzzed.tga"
            name.write_bytes(data)
            source = name
        print(f"{number}", end=" ", flush=True)
        print(try_to_read(source, 1_000_000), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "walk":
        walk(Path(sys.argv[2]))
    else:
        fuzz(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
