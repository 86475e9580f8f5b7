"""Degradations to look at: a grid of one image degraded many times, with what was done to it."""

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
"""Pixels from one line of small text to the next."""
_LEAST_WIDTH = 240
"""Of a cell in pixels, so that its words fit below it."""
_SHAPE = 1.6
"""Width over height that a grid comes near to."""
_BETWEEN = "  ·  "
_SPACE = "  "
"""Pillow's font has a space so narrow that 21 3.0 looks like 213.0."""


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One image of a grid.

    Attributes:
        name: what it is called.
        words: what is said of it, in pieces that stay on one line where they can.
        pixels: repeated as often as they fit into the width of the widest cell.
    """

    name: str
    words: Sequence[str]
    pixels: Pixels


def draw_grid(title: str, note: str, cells: Sequence[Cell]) -> Pixels:
    """Draw cells row by row, words below each image and a heading above all.

    Args:
        title: one line.
        note: one line below it.
        cells: at least one.
    """
    width = max(cell.pixels.shape[1] for cell in cells)
    width *= -(-_LEAST_WIDTH // width)
    font = ImageFont.load_default(_TEXT)
    images = [_upscaled(cell.pixels, width) for cell in cells]
    texts = [_wrapped(cell, font, width) for cell in cells]
    height = max(image.height for image in images)
    columns = _columns(len(cells), width, height + 4 * _LINE)
    rows = [range(first, len(cells))[:columns] for first in range(0, len(cells), columns)]
    heights = [height + _INSET + _LINE * max(len(texts[place]) for place in row) for row in rows]
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
        for column, place in enumerate(row):
            left = _MARGIN + column * (width + _GAP)
            canvas.paste(images[place], (left, top))
            _write(draw, (left, top + height + _INSET), texts[place], font)
        top += tall + _GAP
    return np.asarray(canvas)


_Piece = tuple[str, tuple[int, int, int]]
"""Text and its colour."""

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _upscaled(pixels: Pixels, width: int) -> Image.Image:
    factor = width // pixels.shape[1]
    return Image.fromarray(pixels.repeat(factor, 0).repeat(factor, 1))


def _columns(count: int, width: int, height: int) -> int:
    """How many columns come near to the shape of a screen and leave few places empty."""

    def badness(columns: int) -> float:
        rows = -(-count // columns)
        shape = columns * (width + _GAP) / (rows * (height + _GAP))
        return abs(math.log(shape / _SHAPE)) + (rows * columns - count) / count

    return min(range(1, count + 1), key=badness)


def _wrapped(cell: Cell, font: _Font, width: int) -> list[list[_Piece]]:
    """The lines below a cell: its name, and its words between dots."""
    lines: list[list[_Piece]] = [[(cell.name, BRIGHT)]]
    for place, words in enumerate(cell.words):
        between = _BETWEEN if place else "   "
        whole = words.replace(" ", _SPACE)
        for part in [whole] if font.getlength(whole) <= width else words.split():
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
