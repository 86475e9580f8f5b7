"""Numbered images, such as `frames/00001.png`, as the source or the output of a video.

FFmpeg stops at the first missing number without a word, and reads any file that a pattern names. So
the files are looked for here.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from upscale.errors import VideoError
from upscale.files.printable import printable

READABLE = frozenset(
    [
        *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".tga"),
        *(".ppm", ".pgm", ".pnm", ".jp2"),
    ]
)
"""Suffixes of images whose samples are integers and shown as they are, which FFmpeg decodes."""

_FIELD = re.compile(r"%0?(\d?)d")
_NAME = re.compile(r"(.*?)(\d+)(\.[A-Za-z0-9]+)")
_MOST_DIGITS = 12


@dataclass(frozen=True, slots=True)
class ImagePattern:
    """Names of numbered images.

    Attributes:
        folder: Folder of the images.
        before: Part of the names before the number.
        digits: Least number of digits, with leading zeros.
        after: Part of the names after the number, with the suffix.
    """

    folder: Path
    before: str
    digits: int
    after: str

    def __str__(self) -> str:
        """Return the pattern as the user writes it."""
        return str(self.folder / f"{self.before}%0{self.digits}d{self.after}")

    @property
    def suffix(self) -> str:
        """The suffix of the images in lower case, such as `.png`."""
        return Path(self.after).suffix.lower() or Path(f"x{self.after}").suffix.lower()

    def path(self, number: int) -> Path:
        """Return the file with a number."""
        return self.folder / self.name(number)

    def name(self, number: int) -> str:
        """Return the name of the file with a number."""
        return f"{self.before}{number:0{self.digits}d}{self.after}"

    def ffmpeg_name(self) -> str:
        """Return the pattern as FFmpeg's image2 reads it."""
        folder, before, after = (
            text.replace("%", "%%") for text in (str(self.folder), self.before, self.after)
        )
        return str(Path(folder) / f"{before}%0{self.digits}d{after}")

    def numbers(self) -> list[int]:
        """Return the numbers of all files with such a name, sorted.

        Raises:
            OSError: The folder cannot be read.
        """
        return sorted(
            int(digits)
            for path in self.folder.iterdir()
            if (digits := self._digits(path.name)) and self.name(int(digits)) == path.name
        )

    def _digits(self, name: str) -> str:
        if not (name.startswith(self.before) and name.endswith(self.after)):
            return ""
        digits = name[len(self.before) : len(name) - len(self.after)]
        is_number = digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS
        return digits if is_number else ""


@dataclass(frozen=True, slots=True)
class NumberedImages:
    """Images that are shown one after another.

    Attributes:
        pattern: Names of the images.
        first: Number of the first image.
        count: Number of images.
        rate: Images per second.
    """

    pattern: ImagePattern
    first: int
    count: int
    rate: Fraction

    def paths(self) -> Iterator[Path]:
        """Yield the files in order."""
        return (self.pattern.path(self.first + place) for place in range(self.count))


def image_pattern(path: Path) -> ImagePattern | None:
    """Return the pattern that a path is, such as `frames/%05d.png`; None if it is none.

    Example:
        >>> image_pattern(Path("frames/shot_%04d.png")).name(7)
        'shot_0007.png'
        >>> image_pattern(Path("100%.mp4")) is None
        True
    """
    fields = list(_FIELD.finditer(path.name))
    if len(fields) != 1:
        return None
    start, end = fields[0].span()
    return ImagePattern(path.parent, path.name[:start], int(fields[0][1] or 1), path.name[end:])


def find_images(source: Path, rate: Fraction) -> NumberedImages:
    """Find the images that a pattern or a folder names.

    Args:
        source: Pattern such as `frames/%05d.png`, or a folder of nothing but numbered images.
        rate: Images per second.

    Raises:
        VideoError: There is no image, one is missing in between or is not a file, or the folder has
            images of several patterns.
    """
    pattern = image_pattern(source)
    try:
        if pattern is None:
            pattern = _pattern_of_folder(source)
        numbers = pattern.numbers()
    except OSError as error:
        raise VideoError(f"{printable(source)}: cannot be read ({error.strerror})") from error
    if pattern.suffix not in READABLE:
        raise VideoError(
            f"{printable(str(pattern))}: such images cannot be read as a video; convert them to PNG"
        )
    if not numbers:
        raise VideoError(f"{printable(str(pattern))}: no such image exists; check the name")
    for before, after in pairwise(numbers):
        if after != before + 1:
            missing = printable(pattern.name(before + 1))
            raise VideoError(f"{printable(str(pattern))}: {missing} is missing; restore it")
    images = NumberedImages(pattern, numbers[0], len(numbers), rate)
    for path in images.paths():
        _check_is_file(path)
    return images


def _pattern_of_folder(folder: Path) -> ImagePattern:
    """Return the pattern of a folder's images; other visible files are an error."""
    if not folder.is_dir():
        raise VideoError(
            f"{printable(folder)}: is not a folder of images or a pattern such as frames/%05d.png;"
            " leave out --fps for a video"
        )
    names = sorted(each.name for each in folder.iterdir() if _is_image(each))
    matches = [_NAME.fullmatch(name) for name in names]
    parts = {(match[1], match[3]): match[0] for match in matches if match}
    strange = next((name for name, match in zip(names, matches, strict=True) if not match), None)
    if strange is not None:
        raise VideoError(f"{printable(folder / strange)}: has no number; move it elsewhere")
    if not parts:
        raise VideoError(f"{printable(folder)}: contains no images; give another folder")
    if len(parts) > 1:
        one, other = list(parts.values())[:2]
        raise VideoError(
            f"{printable(folder)}: has images of several kinds, such as {printable(one)} and"
            f" {printable(other)}; give a pattern such as {printable(str(folder / '%05d.png'))}"
        )
    ((before, after),) = parts
    digits = min(len(match[2]) for match in matches if match)
    return ImagePattern(folder, before, digits, after)


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in READABLE


def _check_is_file(path: Path) -> None:
    """Check that FFmpeg does not wait for a pipe or read a device."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise VideoError(f"{printable(path)}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(mode):
        raise VideoError(f"{printable(path)}: is not a regular file; remove it")
