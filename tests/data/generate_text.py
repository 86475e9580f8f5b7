"""Draw the images of `text`: the same lines in several sizes, fonts and colours.

    python tests/data/generate_text.py

They are checked in, because fonts differ between versions of Pillow and OpenCV.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

TARGET = Path(__file__).parent / "text"
LINES = (
    "Networks enlarge images and",
    "keep 128 small letters legible:",
    "Brown fox, lazy dog 947",
)
DARK_ON_LIGHT = ((30, 30, 30), (245, 245, 240))
LIGHT_ON_DARK = ((240, 240, 235), (20, 30, 45))
DRAWN = [(size, style) for size in (12, 16, 24, 32) for style in ("aileron", "rubik")]


def page(size: int, font: str, colours: tuple) -> np.ndarray:
    """Draw the lines with letters of `size` pixels; a multiple of 4 pixels wide and high."""
    ink, paper = colours
    image = Image.new("RGB", (size * 16 // 4 * 4, size * 11 // 2 // 4 * 4), paper)
    corners = [(round(size * 0.6), round(size * (0.5 + 1.5 * line))) for line in range(len(LINES))]
    if font == "aileron":
        draw = ImageDraw.Draw(image)
        for corner, text in zip(corners, LINES, strict=True):
            draw.text(corner, text, fill=ink, font=ImageFont.load_default(size))
        return np.asarray(image)
    pixels = np.array(image)
    for (x, y), text in zip(corners, LINES, strict=True):
        cv2.putText(pixels, text, (x, y + round(size * 0.8)), ink, cv2.FontFace("sans"), size)
    return pixels


def camera_view(pixels: np.ndarray, seed: int) -> np.ndarray:
    """Show a page as a camera does: tilted, unevenly lit, a little soft and noisy."""
    height, width = pixels.shape[:2]
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    shift = np.array([(0.01, 0.06), (-0.02, 0.01), (-0.01, -0.02), (0.02, -0.01)], np.float32)
    tilt = cv2.getPerspectiveTransform(corners, corners + shift * np.float32((width, height)))
    border = cv2.BORDER_REPLICATE
    tilted = cv2.warpPerspective(pixels, tilt, (width, height), flags=cv2.INTER_CUBIC,
                                 borderMode=border)  # fmt: skip
    light = np.linspace(1.0, 0.75, width)[:, None] * np.array((1.0, 0.95, 0.85))
    soft = cv2.GaussianBlur(tilted * light, (0, 0), 0.7)
    noise = np.random.default_rng(seed).normal(0, 1, soft.shape)
    return np.clip(np.rint(soft + noise), 0, 255).astype(np.uint8)


def save(name: str, pixels: np.ndarray, *, lossless: bool) -> None:
    file, quality = TARGET / f"{name}.webp", 100 if lossless else 95
    Image.fromarray(pixels).save(file, lossless=lossless, quality=quality, method=6)


def main() -> None:
    for index, (size, font) in enumerate(DRAWN):
        colours = LIGHT_ON_DARK if index % 4 in (1, 2) else DARK_ON_LIGHT
        save(f"{font}-{size}", page(size, font, colours), lossless=True)
    for size in (16, 24):
        view = camera_view(page(size, "rubik", DARK_ON_LIGHT), size)
        save(f"camera-{size}", view, lossless=False)


if __name__ == "__main__":
    main()
