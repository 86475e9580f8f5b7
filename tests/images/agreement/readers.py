"""Readers that are independent of ours: programs and Python packages.

Each is a function of a path that returns the first image of the file, upright. It runs in a
sandbox. Files have plain names there, so no program takes a part of a name for an option.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.images.agreement.samples import Decoded, decoded
from tests.images.agreement.sandbox import Refusal
from upscale.images import ImageSequence, read_file

MAX_PIXELS = 12_000_000
_SECONDS = 25
_PREFIXES = {"jpeg2000": "jp2", "pnm": "pnm", "avif": "avif"}
_PAM_HEAD = re.compile(rb"P7\n.*?ENDHDR\n", re.DOTALL)
_AVIF_TURN = re.compile(r"irot \(Rotation\)\s*: (\d)")
_AVIF_MIRROR = re.compile(r"imir \(Mirror\)\s*: (?:Mode )?(\d)")
_VIPS_KINDS = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "c8", "f8")
_VIPS_CMYK = 15
_VIPS_PLAIN = (0, 1, 17, 22, 25, 26, 28)
"""Interpretations of libvips whose samples are grey or RGB: B_W, sRGB, RGB16, scRGB ..."""


def ours(path: Path) -> tuple[Decoded, tuple[str, ...]]:
    """Read a file as `upscale` does; also returns what it notes about conversions."""
    content = read_file(path, max_pixels=MAX_PIXELS)
    image = next(iter(content.frames())).image if isinstance(content, ImageSequence) else content
    return decoded(image.samples()), image.origin.notes


def imagemagick(path: Path, format: str) -> Decoded:
    """Read with ImageMagick 6 or 7; of an ICO, the largest image with most colours, as we do."""
    program = shutil.which("magick") or shutil.which("convert") or ""
    prefix = _PREFIXES.get(format, format)
    pages = "" if format == "ico" else "[0]"
    compose = ["-coalesce"] if format == "gif" else []
    done = _run(
        [program, "-limit", "disk", "0", "-limit", "thread", "1", f"{prefix}:{path}{pages}"],
        [*compose, "-auto-orient", "-colorspace", "sRGB", "-depth", "16", "pam:-"],
    )
    images = list(_pam_images(done))
    if not images:
        raise Refusal("no image came out")
    return max(images, key=lambda image: (image.samples.size, len(np.unique(image.samples))))


def vips(path: Path, format: str) -> Decoded:
    """Read with the program of libvips, and by its loaders alone, not through ImageMagick."""
    with tempfile.TemporaryDirectory() as folder:
        raw, converted = Path(folder, "raw.v"), Path(folder, "converted.v")
        _run(["vips", "autorot", path, raw])
        interpretation = _vips_interpretation(raw)
        if interpretation in _VIPS_PLAIN:
            return _vips_image(raw)
        if interpretation == _VIPS_CMYK:
            _run(
                ["vips", "icc_transform", raw, converted, "srgb", "--embedded"],
                ["--intent", "perceptual", "--black-point-compensation"],
            )
        else:
            _run(["vips", "colourspace", raw, converted, "srgb"])
        return _vips_image(converted)


def ffmpeg(path: Path, format: str) -> Decoded:
    """Read with FFmpeg, whose conversions are exact to 8 bits only."""
    done = _run(
        ["ffmpeg", "-v", "error", "-nostdin", "-threads", "1", "-i", path, "-frames:v", "1"],
        ["-sws_flags", "accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"],
        ["-map", "0:v:0", "-pix_fmt", "rgba", "-c:v", "pam", "-f", "image2pipe", "-"],
    )
    images = list(_pam_images(done))
    if not images:
        raise Refusal("no image came out")
    return images[0]


def pillow(path: Path, format: str) -> Decoded:
    """Read with Pillow, where we do not."""
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    with Image.open(path) as opened:
        # In an animated PNG, the image that is not a frame is for programs without animations.
        if opened.info.get("default_image") and opened.n_frames > 2:
            opened.seek(1)
        image = ImageOps.exif_transpose(opened)
    if image.mode == "I" or (image.mode.startswith("I;16") and "transparency" in image.info):
        raise Refusal("its range or transparency is not decoded")
    if image.mode.startswith("I;16"):
        return decoded(np.asarray(image).astype(np.uint16))
    if image.mode == "F":
        return decoded(np.asarray(image))
    return decoded(np.asarray(image.convert("RGBA")))


def opencv(path: Path, format: str) -> Decoded:
    """Read with OpenCV, with alpha, so it does not turn images by their EXIF orientation."""
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise Refusal("not read")
    if image.ndim == 3:
        image[..., :3] = image[..., 2::-1].copy()
    return decoded(image)


def psd_tools(path: Path, format: str) -> Decoded:
    """Read the merged image with psd-tools, without its profile."""
    from psd_tools import PSDImage

    document = PSDImage.open(path)
    if not document.has_preview():
        raise Refusal("has no merged image")
    image = document.topil(apply_icc=False)
    if image is None:
        raise Refusal("no image came out")
    return decoded(np.asarray(image.convert("RGBA")))


def opj_decompress(path: Path, format: str) -> Decoded:
    """Read with OpenJPEG's program, as RGB where it can convert the colours."""
    command = ("opj_decompress", "-quiet", "-upsample", "-i", path)
    try:
        return _through_png(*command, "-force-rgb", "-o")
    except Refusal:
        return _through_png(*command, "-o")


def djxl(path: Path, format: str) -> Decoded:
    """Read with the program of libjxl."""
    return _through_png("djxl", "--quiet", "--num_threads=0", path)


def avifdec(path: Path, format: str) -> Decoded:
    """Read with the program of libavif, which describes turns and mirrors, but does not apply them.

    PNG files of newer versions have the turn in EXIF instead, which is ignored here.
    """
    image = _through_png("avifdec", path)
    info = _run(["avifdec", "--info", path]).decode(errors="replace")
    turn, mirror = _AVIF_TURN.search(info), _AVIF_MIRROR.search(info)
    samples = np.rot90(image.samples, int(turn[1])) if turn else image.samples
    # Mode 0 exchanges top and bottom, mode 1 left and right.
    return Decoded(np.flip(samples, int(mirror[1])) if mirror else samples, image.bits)


@dataclass(frozen=True, slots=True)
class Reader:
    """An independent reader.

    Attributes:
        name: Name in reports.
        read: Function of a path and a format that returns the first image, or raises.
        formats: Formats that are given to it.
        programs: Names of its program, of which one must be installed.
        package: Name of the Python package that it needs.
        levels: Levels of 8 bits by which its conversions may be off.
    """

    name: str
    read: Callable[[Path, str], Decoded]
    formats: frozenset[str]
    programs: tuple[str, ...] = ()
    package: str | None = None
    levels: float = 0.0

    def is_installed(self) -> bool:
        if self.package is not None:
            return importlib.util.find_spec(self.package) is not None
        return any(shutil.which(program) for program in self.programs)


def _formats(*names: str) -> frozenset[str]:
    return frozenset(" ".join(names).split())


READERS = (
    Reader(
        "ImageMagick",
        imagemagick,
        _formats(
            "jpeg png tiff webp gif avif heic bmp jpeg2000 pnm psd dds tga ico",
            "cur dcx exr hdr pam pcx psb sgi",
        ),
        ("magick", "convert"),
    ),
    Reader(
        "libvips",
        vips,
        _formats("jpeg png tiff webp gif avif heic jxl jpeg2000 pnm"),
        ("vips",),
    ),
    Reader(
        "FFmpeg",
        ffmpeg,
        _formats("png gif bmp tga dds psd jpeg2000 pnm qoi exr pam pcx sgi"),
        ("ffmpeg",),
        levels=1.0,
    ),
    Reader("Pillow", pillow, _formats("png tiff pnm qoi"), package="PIL"),
    Reader("OpenCV", opencv, _formats("bmp gif jpeg2000 tiff hdr"), package="cv2"),
    Reader("psd-tools", psd_tools, frozenset({"psd", "psb"}), package="psd_tools"),
    Reader("opj_decompress", opj_decompress, frozenset({"jpeg2000"}), ("opj_decompress",)),
    Reader("djxl", djxl, frozenset({"jxl"}), ("djxl",)),
    Reader("avifdec", avifdec, frozenset({"avif"}), ("avifdec",)),
)


def _run(*parts: list[str | Path]) -> bytes:
    """Run a program and return its standard output.

    Raises:
        Refusal: It failed.
    """
    command = [str(argument) for part in parts for argument in part]
    done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise Refusal(lines[0] if lines else f"exit status {done.returncode}")
    return done.stdout


def _through_png(*command: str | Path) -> Decoded:
    """Run a program that writes a PNG to the path after its last argument."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "out.png")
        _run([*command, target])
        return opencv(target, "png")


def _pam_images(data: bytes) -> Iterator[Decoded]:
    """Yield the images in a row of PAM files."""
    while head := _PAM_HEAD.match(data):
        fields = dict(line.split(b" ", 1) for line in head[0].splitlines() if b" " in line)
        shape = tuple(int(fields[name]) for name in (b"HEIGHT", b"WIDTH", b"DEPTH"))
        most = int(fields[b"MAXVAL"])
        kind = np.dtype(">u2" if most > 255 else "u1")
        end = head.end() + int(np.prod(shape)) * kind.itemsize
        samples = np.frombuffer(data[head.end() : end], kind).reshape(shape)
        yield decoded(samples.astype(kind.newbyteorder("=")), most)
        data = data[end:]


def _vips_head(path: Path) -> tuple[str, tuple[int, ...]]:
    """Return the byte order and the numbers at the start of a .v file."""
    with path.open("rb") as file:
        head = file.read(64)
    order = ">" if head.startswith(b"\x08\xf2\xa6\xb6") else "<"
    return order, struct.unpack_from(order + "7i", head, 4)


def _vips_interpretation(path: Path) -> int:
    return _vips_head(path)[1][-1]


def _vips_image(path: Path) -> Decoded:
    order, (width, height, bands, _, kind, *_) = _vips_head(path)
    samples = np.fromfile(path, order + _VIPS_KINDS[kind], width * height * bands, offset=64)
    samples = samples.reshape(height, width, bands)
    return decoded(samples.astype(samples.dtype.newbyteorder("=")))
