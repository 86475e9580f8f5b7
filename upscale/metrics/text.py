"""Legibility of text: the character error rate of an OCR program, Tesseract."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from upscale.errors import DependencyError
from upscale.metrics.samples import MetricError, Pixels, check_pair, to_grey

PROGRAM = "tesseract"
FEWEST_CHARACTERS = 6
"""References with less text cannot be used."""

_ENLARGEMENT = 2
_SPARSE_TEXT = "11"
_WORD_LEVEL = "5"
_SECONDS = 120
# Tesseract reads short words into foliage and sand, but no long ones with confidence.
_CONFIDENCE = 80.0
_LONG_WORD = 3
_PADDING = 0.25


@dataclass(frozen=True, slots=True)
class Word:
    """A word that the program has read.

    Attributes:
        text: Its characters.
        confidence: Confidence in percent.
        line: Number of its block, paragraph and line.
        left: Left edge in pixels, at twice the size of the image.
        top: Upper edge.
        right: Right edge.
        bottom: Lower edge.
    """

    text: str
    confidence: float
    line: tuple[str, ...]
    left: int
    top: int
    right: int
    bottom: int

    @property
    def centre(self) -> tuple[float, float]:
        """Horizontal and vertical position of the centre."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    @property
    def is_certain(self) -> bool:
        """Whether this is text and not texture."""
        letters = sum(character.isalnum() for character in self.text)
        return self.confidence >= _CONFIDENCE and letters >= _LONG_WORD


@dataclass(frozen=True, slots=True)
class _Region:
    left: float
    top: float
    right: float
    bottom: float

    def text(self, words: Sequence[Word]) -> str:
        """Return the words inside, from left to right, separated by one space."""
        inside = [word for word in words if self._contains(word)]
        return " ".join(word.text for word in sorted(inside, key=lambda word: word.left))

    def _contains(self, word: Word) -> bool:
        x, y = word.centre
        return self.left <= x <= self.right and self.top <= y <= self.bottom


class CharacterErrorRate:
    """Character error rate of the text in an image; the reference is read by the same program.

    Lines of the reference with a word of three letters or digits that is read with a confidence of
    80 % are taken for text. The result is the edit distance between the characters of the image and
    of the reference in the places of these lines, divided by the number of characters of the
    reference, at most 1. Case counts. Both images are read at twice their size.

    Raises:
        DependencyError: The program or its English data is not installed.
    """

    def __init__(self) -> None:
        self._program = _find_program()
        self._known: dict[bytes, tuple[Word, ...]] = {}

    def __call__(self, a: Pixels, b: Pixels, *, border: int = 0) -> float:
        """Return the error rate of an image; 0 is best.

        Args:
            a: Image of shape (H, W), (H, W, 1) or (H, W, 3), RGB; uint8, uint16, or floats.
            b: Reference of the same size.
            border: Number of pixels to ignore on every side.

        Raises:
            ValueError: A shape or type is not supported, or the border is negative.
            MetricError: The sizes differ, the reference has too little text, or the program fails.
        """
        image, reference = check_pair(a, b, border)
        truth_words = self._read(reference)
        regions = _text_regions(truth_words)
        truths = [region.text(truth_words) for region in regions]
        length = sum(map(len, truths))
        if length < FEWEST_CHARACTERS:
            raise MetricError("the reference contains no text that can be read")
        words = self._read(image)
        texts = [region.text(words) for region in regions]
        errors = sum(edit_distance(*pair) for pair in zip(texts, truths, strict=True))
        return min(1.0, errors / length)

    def _read(self, pixels: Pixels) -> tuple[Word, ...]:
        """Return the words in an image; an image is read once."""
        file = _enlarged_pgm(pixels)
        key = hashlib.sha256(file).digest()
        if key not in self._known:
            self._known[key] = _parse(_run(self._program, file))
        return self._known[key]


def edit_distance(text: str, other: str) -> int:
    """Return the number of characters to insert, delete or replace (Levenshtein distance).

    Args:
        text: A text.
        other: Another text.

    Example:
        >>> from upscale.metrics.text import edit_distance
        >>> edit_distance("kitten", "sitting")
        3
    """
    before = list(range(len(other) + 1))
    for character in text:
        row = [before[0] + 1]
        for column, ((diagonal, above), wanted) in enumerate(
            zip(pairwise(before), other, strict=True)
        ):
            row.append(min(above + 1, row[column] + 1, diagonal + (character != wanted)))
        before = row
    return before[-1]


def _find_program() -> str:
    """Return the path of the program."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise DependencyError(
            f"needs the program {PROGRAM}: install the system's package tesseract-ocr (Debian, "
            "Ubuntu) or tesseract (Fedora, Homebrew)"
        )
    languages = subprocess.run([program, "--list-langs"], capture_output=True, check=False)
    if b"eng" not in (languages.stdout + languages.stderr).split():
        raise DependencyError(
            f"needs the English data of {PROGRAM}: install the system's package tesseract-ocr-eng"
        )
    return program


def _enlarged_pgm(pixels: Pixels) -> bytes:
    """Return an image as the PGM file that the program reads."""
    grey = np.rint(to_grey(pixels)[..., 0]).clip(0, 255).astype(np.uint8)
    size = grey.shape[1] * _ENLARGEMENT, grey.shape[0] * _ENLARGEMENT
    large = cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC)
    return b"P5 %d %d 255\n" % size + large.tobytes()


def _run(program: str, file: bytes) -> str:
    """Return the words as the program's table of tab-separated values."""
    command = [program, "-", "-", "--psm", _SPARSE_TEXT, "-l", "eng", "--dpi", "150", "tsv"]
    # One thread: results do not depend on the machine, and small images are read faster.
    environ = os.environ | {"OMP_THREAD_LIMIT": "1"}
    try:
        ended = subprocess.run(
            command, input=file, capture_output=True, check=True, timeout=_SECONDS, env=environ
        )
    except subprocess.TimeoutExpired as error:
        raise MetricError(f"{PROGRAM} took longer than {_SECONDS} s") from error
    except (subprocess.CalledProcessError, OSError) as error:
        raise MetricError(f"{PROGRAM} failed ({' '.join(str(error).split())})") from error
    return ended.stdout.decode("utf-8", "replace")


def _parse(table: str) -> tuple[Word, ...]:
    """Return the words of a table, whose columns are documented in Tesseract's manual."""
    words: list[Word] = []
    for row in table.splitlines():
        cells = row.split("\t")
        if cells[0] == _WORD_LEVEL and (text := "".join(cells[11].split())):
            left, top, width, height = map(int, cells[6:10])
            right, bottom = left + width, top + height
            words.append(Word(text, float(cells[10]), tuple(cells[1:5]), left, top, right, bottom))
    return tuple(words)


def _text_regions(words: Sequence[Word]) -> list[_Region]:
    """Return a region for each line that certainly contains text."""
    lines: dict[tuple[str, ...], list[Word]] = defaultdict(list)
    for word in words:
        if word.is_certain:
            lines[word.line].append(word)
    return [_region(line) for line in lines.values()]


def _region(words: Sequence[Word]) -> _Region:
    """Return the box around words, a bit larger than they are."""
    top, bottom = min(word.top for word in words), max(word.bottom for word in words)
    margin = _PADDING * (bottom - top)
    left, right = min(word.left for word in words), max(word.right for word in words)
    return _Region(left - margin, top - margin, right + margin, bottom + margin)
