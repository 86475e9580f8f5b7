"""Write pairs for a fast network.

    python -m upscale_training.recipes.mixed SCALE OUT FOLDERS...

Photographs and illustrations are scaled down by several filters. Half of these LR images stay
clean, the others get a little noise or compression; the target is the ground truth for all of
them. Text and shapes are drawn. OUT gets the folders `clean`, `light` and `text` with `gt` and
`lq` in each. Fonts (.ttf) among FOLDERS are used beside the one of Pillow. `--texts COUNT` sets the
number of drawings.
"""

from __future__ import annotations

import argparse
import io
import random
import string
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.Image import Resampling

SIDE = 384
"""HR side of drawn images in pixels."""

FILTERS = (
    Resampling.BICUBIC, Resampling.BICUBIC, Resampling.BICUBIC, Resampling.LANCZOS, Resampling.BOX,
)  # fmt: skip
WORDS = (
    "the", "and", "for", "light", "water", "2026", "No.", "17", "£42.50", "street", "green",
    "MAXIMUM", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "Station", "EXIT", "3.3V",
    "C104", "R27", "Überraschung", "façade", "info@mail.org", "10:45", "km/h",
)  # fmt: skip


def reduced(hr: Image.Image, scale: int, rnd: random.Random) -> Image.Image:
    """Return the LR image of an HR image, by one of several filters, at times a bit soft."""
    if rnd.random() < 0.15:
        values = cv2.GaussianBlur(np.asarray(hr), (0, 0), rnd.uniform(0.2, 0.7) * scale)
        hr = Image.fromarray(values)
    return hr.resize((hr.width // scale, hr.height // scale), rnd.choice(FILTERS))


def lightly_damaged(lr: Image.Image, rnd: random.Random) -> Image.Image:
    """Return an LR image with noise of up to 5 levels, JPEG or WebP from quality 65, or both."""
    kind = rnd.choice(("noise", "jpeg", "jpeg", "webp", "both"))
    if kind in ("noise", "both"):
        generator = np.random.default_rng(rnd.randrange(2**32))
        shape = (lr.height, lr.width, rnd.choice((1, 3)))
        grain = generator.normal(scale=rnd.uniform(0.5, 5), size=shape)
        lr = Image.fromarray((np.asarray(lr) + grain).round().clip(0, 255).astype(np.uint8))
    if kind == "noise":
        return lr
    file = io.BytesIO()
    if kind == "webp":
        lr.save(file, "WEBP", quality=rnd.randint(65, 95))
    else:
        lr.save(file, "JPEG", quality=rnd.randint(65, 97), subsampling=rnd.choice((0, 2)))
    return Image.open(file).convert("RGB")


def _colours(rnd: random.Random) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return colours of the background and of the foreground, often black and white."""
    if rnd.random() < 0.4:
        pair = [(255, 255, 255), (rnd.choice((0, 0, 40, 90)),) * 3]
        rnd.shuffle(pair)
        return pair[0], pair[1]
    while True:
        pair = [tuple(rnd.randrange(256) for _ in range(3)) for _ in range(2)]
        if abs(sum(pair[0]) - sum(pair[1])) > 180:
            return pair[0], pair[1]


def _words(rnd: random.Random) -> str:
    """Return a line of words, digits and random letters."""
    letters = "".join(rnd.choices(string.ascii_letters + string.digits + string.punctuation, k=12))
    return " ".join([*rnd.sample(WORDS, 8), letters, *rnd.sample(WORDS, 4)])


def drawn(rnd: random.Random, fonts: list[Path]) -> Image.Image:
    """Return an image of text lines and shapes, drawn at the double size."""
    side = 2 * SIDE
    background, _ = _colours(rnd)
    image = Image.new("RGB", (side, side), background)
    draw = ImageDraw.Draw(image)
    for _ in range(rnd.randrange(4)):
        box = [rnd.randrange(side) for _ in range(4)]
        box = [
            *map(min, zip(box[:2], box[2:], strict=True)),
            *map(max, zip(box[:2], box[2:], strict=True)),
        ]
        fill, outline = _colours(rnd)
        shape = rnd.choice((draw.rectangle, draw.ellipse))
        shape(
            box,
            fill=fill if rnd.random() < 0.7 else None,
            outline=outline,
            width=rnd.randint(2, 12),
        )
        draw.line([rnd.randrange(side) for _ in range(4)], fill=outline, width=rnd.randint(2, 16))
    top = 0
    while top < side:
        size = round(2 * np.exp(rnd.uniform(np.log(18), np.log(90))))
        font = rnd.choice([None, *fonts])
        face = ImageFont.truetype(font, size) if font else ImageFont.load_default(size)
        paper, ink = _colours(rnd)
        if rnd.random() < 0.6:
            draw.rectangle((0, top, side, top + round(1.3 * size)), fill=paper)
        draw.text((rnd.randint(-60, 20), top), _words(rnd), font=face, fill=ink)
        top += round(rnd.uniform(1.25, 1.8) * size)
    if rnd.random() < 0.3:
        image = image.rotate(rnd.uniform(-30, 30), Resampling.BICUBIC, fillcolor=background)
    return image.resize((SIDE, SIDE), Resampling.BOX)


def _save(folder: Path, name: str, hr: Image.Image, lr: Image.Image) -> None:
    for kind, image in (("gt", hr), ("lq", lr)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        image.save(folder / kind / f"{name}.png", compress_level=1)


def photographs(out: Path, files: list[Path], scale: int) -> None:
    """Write a clean and a lightly damaged pair for each image, scaled down at random."""
    for number, path in enumerate(files):
        rnd = random.Random(number)
        image = Image.open(path).convert("RGB")
        for kind in ("clean", "light"):
            factor = rnd.choice((1, 1, 0.75, 0.5))
            width, height = (int(side * factor) // scale * scale for side in image.size)
            hr = image.resize((width, height), Resampling.LANCZOS)
            lr = reduced(hr, scale, rnd)
            _save(
                out / kind, f"{number:04}", hr, lr if kind == "clean" else lightly_damaged(lr, rnd)
            )


def texts(out: Path, fonts: list[Path], scale: int, count: int) -> None:
    """Write pairs of drawn images; two of five are lightly damaged."""
    for number in range(count):
        rnd = random.Random(number)
        hr = drawn(rnd, fonts)
        lr = reduced(hr, scale, rnd)
        _save(out / "text", f"{number:04}", hr, lightly_damaged(lr, rnd) if number % 5 < 2 else lr)


def main(scale: int, out: Path, folders: list[Path], count: int = 300) -> None:
    """Write all pairs for a scale, `count` of them drawn; the same ones in each call."""
    files = [path for folder in folders for path in sorted(folder.iterdir())]
    images = [path for path in files if path.suffix in (".jpg", ".png", ".webp")]
    photographs(out, images, scale)
    texts(out, [path for path in files if path.suffix == ".ttf"], scale, count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scale", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--texts", type=int, default=300, metavar="COUNT")
    given = parser.parse_args()
    main(given.scale, given.out, given.folders, given.texts)
