"""Draw the SVG files of the architecture page: `python docs/drawings.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
FONT = "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
INK, FAINT, PAPER = "#1f2933", "#52606d", "#ffffff"
COLOURS = {
    "user": "#fde3c8",
    "work": "#d8ecf3",
    "core": "#d5ead8",
    "base": "#e6e6ec",
    "training": "#ecdcf3",
}

Box = tuple[float, float, float, float]
"""Left, top, width and height."""


def box(place: Box, title: str, lines: Sequence[str], colour: str) -> Iterator[str]:
    """Yield a rounded box with a bold title and small lines below it."""
    left, top, width, height = place
    yield (
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="6" '
        f'fill="{COLOURS[colour]}" stroke="{FAINT}" stroke-width="1"/>'
    )
    middle = left + width / 2
    first = top + height / 2 - 8.5 * len(lines) + 5
    yield text(middle, first, title, weight="600", size=14)
    for number, line in enumerate(lines, 1):
        yield text(middle, first + 17 * number, line, size=12, colour=FAINT)


def text(
    x: float, y: float, words: str, *, size: int, weight: str = "400", colour: str = INK,
    anchor: str = "middle",
) -> str:  # fmt: skip
    """Return one line of text."""
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-family="{FONT}" font-size="{size}" '
        f'font-weight="{weight}" fill="{colour}">{escape(words)}</text>'
    )


def arrow(*points: tuple[float, float]) -> str:
    """Return a line through the points with a head at its end."""
    path = " ".join(f"{x},{y}" for x, y in points)
    return (
        f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.4" '
        'marker-end="url(#head)"/>'
    )


def drawing(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """Return a complete SVG file."""
    head = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        f'markerHeight="8" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{INK}"/></marker></defs>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">',
            f"<title>{escape(title)}</title>",
            head,
            f'<rect width="{width}" height="{height}" rx="8" fill="{PAPER}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def rooms() -> str:
    """Draw the packages as layers: each imports only from layers below it."""
    rows: list[list[tuple[str, list[str], str, float]]] = [
        [
            ("upscale.cli", ["commands, options, output"], "user", 1.0),
            ("upscale_training", ["data, degradation, losses,", "loop, recipes"], "training", 0.9),
        ],
        [("upscale.app", ["a page in a browser: uploads, queue"], "user", 1.0)],
        [("upscale.jobs", ["one image, a batch, a video, an evaluation"], "work", 1.0)],
        [
            ("upscale.video", ["frames, streams, segments"], "work", 1.0),
            ("upscale.compare", ["comparison pages"], "work", 0.8),
            ("upscale.faces", ["find, restore, paste back"], "core", 1.0),
        ],
        [
            ("upscale.engine", ["arrays in and out; memory"], "core", 1.0),
            ("upscale.images", ["codecs, metadata, pixels"], "work", 1.0),
            ("upscale.metrics", ["PSNR, SSIM, LPIPS, NIQE"], "core", 1.0),
            ("upscale.export", ["ONNX, ncnn, cards"], "core", 0.8),
        ],
        [
            ("upscale.checkpoints", ["files, catalogue, download"], "core", 1.0),
            ("upscale.kernels", ["compiled C and Triton"], "core", 1.0),
        ],
        [("upscale.models", ["networks and their registry"], "core", 1.0)],
        [
            ("upscale.tiling", ["layer groups, schedule"], "core", 1.0),
            ("upscale.selection", ["a network for an image"], "base", 1.0),
            ("upscale.files", ["atomic writes, locks, names"], "base", 1.0),
        ],
        [("upscale.errors", ["all exceptions and exit codes"], "base", 1.0)],
    ]  # fmt: skip
    width, gap, parts = 760.0, 12.0, list[str]()
    top = 16.0
    for row in rows:
        height = 62.0 if any(len(lines) > 1 for _, lines, _, _ in row) else 52.0
        share = (width - 32 - gap * (len(row) - 1)) / sum(part for *_, part in row)
        left = 16.0
        for title, lines, colour, part in row:
            parts += box((left, top, share * part, height), title, lines, colour)
            left += share * part + gap
        top += height + gap
    parts.append(
        text(width / 2, top + 8, "Each package imports only from packages below it.",
             size=12, colour=FAINT)
    )  # fmt: skip
    return drawing(width, top + 24, "The packages of upscale as layers", parts)


def way(title: str, steps: Sequence[tuple[str, list[str], str]], columns: int = 4) -> str:
    """Draw steps as boxes in reading order, joined by arrows."""
    wide, high, gap, left, top = 172.0, 78.0, 24.0, 16.0, 16.0
    places = [
        (left + (wide + gap) * (n % columns), top + (high + gap + 10) * (n // columns), wide, high)
        for n in range(len(steps))
    ]
    parts: list[str] = []
    for place, (name, lines, colour) in zip(places, steps, strict=True):
        parts += box(place, name, lines, colour)
    for (x, y, w, h), (u, v, *_) in pairwise(places):
        if v == y:
            parts.append(arrow((x + w, y + h / 2), (u, v + h / 2)))
        else:
            between = y + h + (gap + 10) / 2
            parts.append(
                arrow((x + w / 2, y + h), (x + w / 2, between), (u + wide / 2, between),
                      (u + wide / 2, v))
            )  # fmt: skip
    width = left * 2 + wide * columns + gap * (columns - 1)
    return drawing(width, places[-1][1] + high + 16, title, parts)


def image_way() -> str:
    """Draw the way of an image."""
    return way(
        "The way of an image",
        [
            ("Plan", ["jobs: names, clashes,", "sizes from headers"], "work"),
            ("Read", ["images.codecs: pixels,", "alpha, metadata"], "work"),
            ("Prepare", ["images.pixels: depth,", "colour, alpha"], "work"),
            ("Upscale", ["engine: device,", "precision, tile size"], "core"),
            ("Layer groups", ["tiling: tile by tile,", "halo from neighbours"], "core"),
            ("Resize", ["engine: to the exact", "size, Lanczos"], "core"),
            ("Encode", ["images.codecs and", "metadata"], "work"),
            ("Atomic write", ["files: temporary file,", "flush, rename"], "base"),
        ],
    )


def frame_way() -> str:
    """Draw the way of a frame."""
    return way(
        "The way of a video frame",
        [
            ("Probe", ["video: streams, times,", "colour of all frames"], "work"),
            ("Decode", ["video.reader: native", "YUV planes"], "work"),
            ("To RGB", ["engine: matrix, range,", "siting, on the device"], "core"),
            ("Upscale", ["engine and tiling: one", "tile size per video"], "core"),
            ("To YUV", ["engine: planes of", "the encoder"], "core"),
            ("Encode", ["video: a segment of", "120 frames, journalled"], "work"),
            ("Join", ["video: segments, sound,", "subtitles, chapters"], "work"),
            ("Verify, rename", ["frames and times", "are read back"], "base"),
        ],
    )


def sample_way() -> str:
    """Draw the way of a training sample."""
    return way(
        "The way of a training sample",
        [
            ("Sampler", ["number of a sample ->", "image, patch, flips"], "training"),
            ("HR patch", ["data: decode, crop;", "in worker processes"], "training"),
            ("Degradation", ["blur, resize, noise,", "JPEG, twice"], "training"),
            ("Pair pool", ["mixes pairs", "between batches"], "training"),
            ("Generator", ["LR -> SR;", "upscale.models"], "core"),
            ("Losses", ["pixel, perceptual,", "GAN (discriminator)"], "training"),
            ("Step", ["optimiser, averaged", "weights (EMA)"], "training"),
            ("Save", ["state, validation,", "safetensors"], "base"),
        ],
    )


def main() -> None:
    """Write all drawings."""
    for name, draw in {
        "rooms": rooms,
        "way-of-an-image": image_way,
        "way-of-a-frame": frame_way,
        "way-of-a-sample": sample_way,
    }.items():
        (IMAGES / f"{name}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
