"""Draw a grid of images with captions, for example of one image with several degradations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from upscale_training.data.pixels import Pixels

BACKGROUND, BRIGHT, PLAIN, DIM = (24, 24, 27), (250, 250, 250), (205, 205, 210), (128, 128, 138)
_MARGIN, _GAP, _INSET = 28, 20, 8
_TITLE, _TEXT = 24, 14
_LINE = 19
"""Distance of lines of small text in pixels."""
_LEAST_WIDTH = 240
"""Minimum width of a cell in pixels, so that its caption fits below it."""
_SHAPE = 1.6
"""Target ratio of width to height of a grid."""
_BETWEEN = "  ·  "
_SPACE = "  "
"""Two spaces: the space of Pillow's font is so narrow that 21 3.0 looks like 213.0."""


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One image of a grid.

    Attributes:
        name: Title of the image.
        words: Parts of the caption; line breaks within a part are avoided.
        pixels: Array of shape (H, W, 3), uint8, RGB; pixels are repeated up to the width of the
            widest cell.
    """

    name: str
    words: Sequence[str]
    pixels: Pixels


def draw_grid(title: str, note: str, cells: Sequence[Cell]) -> Pixels:
    """Draw cells row by row, with a caption below each image and a heading above all.

    Args:
        title: Heading of one line.
        note: Line below the heading.
        cells: Cells, at least one.
    """
    width = max(cell.pixels.shape[1] for cell in cells)
    width *= -(-_LEAST_WIDTH // width)
    font = ImageFont.load_default(_TEXT)
    images = [_upscaled(cell.pixels, width) for cell in cells]
    texts = [_wrapped(cell, font, width) for cell in cells]
    height = max(image.height for image in images)
    columns = _columns(len(cells), width, height + 4 * _LINE)
    rows = [range(first, len(cells))[:columns] for first in range(0, len(cells), columns)]
    heights = [height + _INSET + _LINE * max(len(texts[index]) for index in row) for row in rows]
    heading = _TITLE + _LINE + 2 * _INSET
    canvas = Image.new(
        "RGB",
        (
            2 * _MARGIN + columns * (width + _GAP) - _GAP,
            2 * _MARGIN + heading + sum(heights) + _GAP * len(rows),
        ),
        BACKGROUND,
    )
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, _MARGIN), title, BRIGHT, ImageFont.load_default(_TITLE))
    draw.text((_MARGIN, _MARGIN + _TITLE + _INSET), note, DIM, font)
    top = _MARGIN + heading + _GAP
    for row, tall in zip(rows, heights, strict=True):
        for column, index in enumerate(row):
            left = _MARGIN + column * (width + _GAP)
            canvas.paste(images[index], (left, top))
            _write(draw, (left, top + height + _INSET), texts[index], font)
        top += tall + _GAP
    return np.asarray(canvas)


_Piece = tuple[str, tuple[int, int, int]]
"""A text and its colour."""

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _upscaled(pixels: Pixels, width: int) -> Image.Image:
    factor = width // pixels.shape[1]
    return Image.fromarray(pixels.repeat(factor, 0).repeat(factor, 1))


def _columns(count: int, width: int, height: int) -> int:
    """Return a number of columns with about the shape of a screen and few empty cells."""

    def badness(columns: int) -> float:
        rows = -(-count // columns)
        shape = columns * (width + _GAP) / (rows * (height + _GAP))
        return abs(math.log(shape / _SHAPE)) + (rows * columns - count) / count

    return min(range(1, count + 1), key=badness)


def _wrapped(cell: Cell, font: _Font, width: int) -> list[list[_Piece]]:
    """Return the lines below a cell: its name, and the parts of its caption between dots."""
    lines: list[list[_Piece]] = [[(cell.name, BRIGHT)]]
    for index, words in enumerate(cell.words):
        between = _BETWEEN if index else "   "
        unbroken = words.replace(" ", _SPACE)
        for part in [unbroken] if font.getlength(unbroken) <= width else words.split():
            line = "".join(text for text, _ in lines[-1])
            if font.getlength(line + between + part) <= width:
                lines[-1] += [(between, DIM), (part, PLAIN)]
            else:
                lines.append([(part, PLAIN)])
            between = _SPACE
    return lines


def _write(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], lines: list[list[_Piece]], font: _Font
) -> None:
    left, top = corner
    for number, line in enumerate(lines):
        across = float(left)
        for text, colour in line:
            draw.text((across, top + number * _LINE), text, colour, font)
            across += font.getlength(text)
