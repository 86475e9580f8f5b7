"""Compare methods for upscaling transparency by composites over black, white and magenta.

    python -m benchmarks.alpha DATA                       # both tables
    python -m benchmarks.alpha DATA --images FOLDER       # also write the composites

Large images with alpha are downscaled to a quarter: premultiplied (colour weighted by alpha),
premultiplied with the product rounded to 8 bits (as browsers do), or straight (each channel
separately, so that hidden colours bleed into the edges). Each method upscales them again. Errors
are in levels of 255 against the composite of the large image; `edge` is the area where alpha is
neither 0 nor 1, and three pixels around it.

DATA is a folder of photographs and images with alpha: `eval/photos` has photographs of the gb82
image set, `lowres` inputs of Real-ESRGAN, and `robustness/gofuzz` images of go-fuzz-corpus.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from upscale import Upscaler
from upscale.images import extend_colour, read_image
from upscale.images.pixels.alpha import hold_to_source

SIDE = 384
"""Longest side of the large images."""

OVERSAMPLING = 4
"""Factor by which generated images are drawn larger."""

PREMULTIPLIED, ROUNDED, STRAIGHT = "premultiplied", "premultiplied in 8 bits", "straight"

FILE_NAME = str.maketrans(" /,()", "_____")

BACKGROUNDS = {"black": (0, 0, 0), "white": (1, 1, 1), "magenta": (1, 0, 1)}


@dataclass(frozen=True)
class Layer:
    """Straight colour (H, W, 3) and alpha (H, W), float32 in 0..1."""

    colour: np.ndarray
    alpha: np.ndarray

    def over(self, background: tuple[int, int, int]) -> np.ndarray:
        """Return the composite over a background, computed with encoded values as usual."""
        alpha = self.alpha[..., None]
        return self.colour * alpha + np.float32(background) * (1 - alpha)


Method = Callable[[Layer, "Network"], Layer]


class Network:
    """A network for float images that caches its results."""

    def __init__(self, model: str) -> None:
        self._upscaler = Upscaler(model, device="cpu", precision="fp32")
        self._cache: dict[bytes, np.ndarray] = {}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Upscale an image (H, W, C) by 4; values are clipped to 0..1 before and after."""
        key = image.tobytes()
        if key not in self._cache:
            self._cache[key] = self._upscaler.upscale(np.clip(image, 0, 1), scale=4)
        return self._cache[key]


# The images


def drawn(paint: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> Layer:
    """Return what `paint` draws at a larger size, downscaled."""
    colour, alpha = paint(SIDE * OVERSAMPLING)
    return downscale(Layer(colour, alpha), OVERSAMPLING)


def logo(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw letters, a ring, a disc and hairlines in flat colours."""
    pil_image = Image.new("RGBA", (side, side))
    draw, unit = ImageDraw.Draw(pil_image), side // 96
    draw.ellipse((8 * unit, 6 * unit, 48 * unit, 46 * unit), (230, 40, 30, 255))
    draw.ellipse((16 * unit, 14 * unit, 40 * unit, 38 * unit), (0, 0, 0, 0))
    draw.rounded_rectangle(
        (54 * unit, 8 * unit, 90 * unit, 44 * unit), 9 * unit, (20, 90, 220, 255)
    )
    draw.polygon([(62 * unit, 38 * unit), (72 * unit, 14 * unit), (82 * unit, 38 * unit)], "white")
    for line in range(6):
        across = (6 + 15 * line) * unit
        draw.line(
            (across, 54 * unit, across + 8 * unit, 64 * unit), (250, 170, 0), unit * (line + 1) // 2
        )
    draw.text((4 * unit, 62 * unit), "Street 8", (10, 120, 60), ImageFont.load_default(20 * unit))
    draw.text((50 * unit, 84 * unit), "fine print", "white", ImageFont.load_default(9 * unit))
    samples = np.float32(pil_image) / 255
    return samples[..., :3], samples[..., 3]


def strands(photo: Path) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """Return a painter of a photograph, cut out as a disc with 500 hairs at its edge."""

    def paint(side: int) -> tuple[np.ndarray, np.ndarray]:
        colour = cv2.imread(str(photo))[96:480, 96:480, ::-1]
        colour = cv2.resize(colour, (side, side), interpolation=cv2.INTER_CUBIC)
        rng, alpha = np.random.default_rng(4), np.zeros((side, side), np.uint8)
        middle, radius = side // 2, side * 0.26
        cv2.circle(alpha, (middle, middle), int(radius), 255, -1, cv2.LINE_AA)
        for _ in range(500):
            angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.3) * side
            steps = np.linspace(0, 1, 24)
            turn = angle + rng.normal(0, 0.5) * steps**2
            reach = radius * 0.95 + steps * length
            points = np.stack((np.cos(turn) * reach, np.sin(turn) * reach), 1) + middle
            cv2.polylines(
                alpha, [np.int32(points)], False, 255, int(rng.integers(1, 5)), cv2.LINE_AA
            )
        return np.float32(colour) / 255, np.float32(alpha) / 255

    return paint


def glass(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a tinted pane with highlights and a soft shadow: mostly half transparent."""
    pil_image = Image.new("L", (side, side))
    unit = side // 96
    ImageDraw.Draw(pil_image).rounded_rectangle(
        (18 * unit, 14 * unit, 78 * unit, 70 * unit), 12 * unit, 255
    )
    pane = np.float32(pil_image) / 255
    shadow = cv2.GaussianBlur(np.roll(pane, 10 * unit, (0, 1)), (0, 0), 5 * unit) * 0.5
    down, across = np.mgrid[:side, :side].astype(np.float32) / side
    tint = (0.25 + 0.4 * down) * pane
    shine = np.exp(-(((across + down - 0.65) / 0.05) ** 2)) * pane * 0.85
    rim = np.clip(cv2.GaussianBlur(pane, (0, 0), unit) * (1 - pane) * 4, 0, 0.6)
    alpha, colour = np.zeros((side, side), np.float32), np.zeros((side, side, 3), np.float32)
    for cover, paint in (
        (shadow, (0, 0, 0)),
        (tint, (0.2, 0.7, 0.9)),
        (rim, (0.9, 1, 1)),
        (shine, (1, 1, 1)),
    ):
        colour = np.float32(paint) * cover[..., None] + colour * (1 - cover[..., None])
        alpha = cover + alpha * (1 - cover)
    return colour / np.maximum(alpha, 1e-6)[..., None], alpha


def haze(photo: Path) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """Return a painter of a photograph that fades out: sharp colours under a smooth alpha."""

    def paint(side: int) -> tuple[np.ndarray, np.ndarray]:
        colour = cv2.imread(str(photo))[96:480, 96:480, ::-1]
        colour = cv2.resize(colour, (side, side), interpolation=cv2.INTER_CUBIC)
        down, across = np.mgrid[:side, :side].astype(np.float32) / side
        alpha = np.clip(1.3 - 2.6 * np.hypot(down - 0.5, across - 0.5), 0, 1)
        return np.float32(colour) / 255, alpha

    return paint


def stored(path: Path) -> Layer:
    """Read a file with alpha, cropped to sides that are multiples of 4."""
    image = read_image(path)
    height, width = min(image.height, SIDE) // 4 * 4, min(image.width, SIDE) // 4 * 4
    top, left = (image.height - height) // 2, (image.width - width) // 2
    full = np.iinfo(image.pixels.dtype).max
    samples = (image.samples()[top : top + height, left : left + width] / full).astype(np.float32)
    return Layer(np.ascontiguousarray(samples[..., :3]), np.ascontiguousarray(samples[..., 3]))


def images(data: Path) -> dict[str, Layer]:
    """Return all images by name."""
    photos = data / "eval/photos"
    return {
        "logo": drawn(logo),
        "tux": stored(data / "robustness/gofuzz/tux.lossless.webp"),
        "gopher": stored(data / "robustness/gofuzz/gopher.png"),
        "hair (dog)": drawn(strands(photos / "dog-lossless.png")),
        "hair (girl)": drawn(strands(photos / "girl-lossless.png")),
        "children": stored(data / "lowres/children-alpha.png"),
        "tree": stored(data / "lowres/tree_alpha_16bit.png"),
        "glass": drawn(glass),
        "haze": drawn(haze(photos / "flowers-lossless.png")),
    }


def downscale(layer: Layer, factor: int, mode: str = PREMULTIPLIED) -> Layer:
    """Downscale by area; in straight mode, hidden colours (black) are averaged in."""
    size = (layer.alpha.shape[1] // factor, layer.alpha.shape[0] // factor)

    def area(plane: np.ndarray) -> np.ndarray:
        return cv2.resize(plane, size, interpolation=cv2.INTER_AREA)

    alpha = area(layer.alpha)
    if mode == STRAIGHT:
        return Layer(area(np.where(layer.alpha[..., None] > 0, layer.colour, 0)), alpha)
    product = area(layer.colour * layer.alpha[..., None])
    if mode == ROUNDED:
        product, alpha = np.rint(product * 255) / 255, np.rint(alpha * 255) / 255
    return Layer(product / np.maximum(alpha, 1e-6)[..., None], alpha)


def rounded(layer: Layer) -> Layer:
    """Round to 8 bits as in a file; black where nothing is visible."""
    alpha = np.rint(layer.alpha * 255) / np.float32(255)
    colour = np.rint(layer.colour.clip(0, 1) * 255) / np.float32(255)
    return Layer(np.where(alpha[..., None] > 0, colour, 0).astype(np.float32), alpha)


# Methods for alpha


def grey(alpha: np.ndarray, network: Network) -> np.ndarray:
    """Upscale alpha with the network as a grey image."""
    return network(alpha[..., None])[..., 0].copy()


def resampled(
    plane: np.ndarray, resample: Image.Resampling = Image.Resampling.LANCZOS
) -> np.ndarray:
    """Upscale by 4 with a filter of Pillow, without clipping."""
    size = (plane.shape[1] * 4, plane.shape[0] * 4)
    return np.array(Image.fromarray(plane, "F").resize(size, resample))


def clamped(large: np.ndarray, alpha: np.ndarray, overshoot: float = 0) -> np.ndarray:
    """Clamp to the range of the 3x3 source pixels, extended by a fraction of that range."""
    kernel, size = np.ones((3, 3), np.uint8), large.shape[::-1]
    low, high = cv2.erode(alpha, kernel), cv2.dilate(alpha, kernel)
    margin = (high - low) * overshoot
    limits = (low - margin).clip(0), (high + margin).clip(0, 1)
    return large.clip(*(cv2.resize(x, size, interpolation=cv2.INTER_NEAREST) for x in limits))


def corrected(
    large: np.ndarray, alpha: np.ndarray, rounds: int, overshoot: float = 0
) -> np.ndarray:
    """Add back the difference to the source, and clamp, in several rounds."""
    large, size = clamped(large, alpha, overshoot), large.shape[::-1]
    for _ in range(rounds):
        missing = alpha - cv2.resize(large, alpha.shape[::-1], interpolation=cv2.INTER_AREA)
        missing = cv2.resize(missing, size, interpolation=cv2.INTER_LINEAR)
        large = clamped(large + missing, alpha, overshoot)
    return large


def held_to_source(large: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Correct alpha as `upscale` does, in 8 bits."""
    levels = np.rint(large.clip(0, 1) * 255).astype(np.uint8)
    hold_to_source(levels, np.rint(alpha * 255).astype(np.uint8))
    return levels / np.float32(255)


CHOSEN = "network, corrected twice, slopes interpolated (chosen)"
ALPHAS: dict[str, Callable[[np.ndarray, Network], np.ndarray]] = {
    "network": grey,
    "network, clamped (before)": lambda a, n: clamped(grey(a, n), a),
    "network, clamped, corrected once": lambda a, n: corrected(grey(a, n), a, 1),
    "network, clamped, corrected 4 times": lambda a, n: corrected(grey(a, n), a, 4),
    "network, clamped loosely, corrected 4 times": lambda a, n: corrected(grey(a, n), a, 4, 0.5),
    "network, clamped loosely, corrected twice": lambda a, n: corrected(grey(a, n), a, 2, 0.5),
    CHOSEN: lambda a, n: held_to_source(grey(a, n), a),
    "bicubic, clamped": lambda a, n: clamped(resampled(a, Image.Resampling.BICUBIC), a),
    "Lanczos": lambda a, n: resampled(a).clip(0, 1),
    "Lanczos, clamped": lambda a, n: clamped(resampled(a), a),
    "Lanczos, clamped loosely, corrected 4 times": lambda a, n: corrected(resampled(a), a, 4, 0.5),
}
# Methods for colour


def spread(trusted: float, *, relative: bool = False) -> Callable[[Layer], np.ndarray]:
    """Return a function that mixes colours with averages where alpha is below `trusted`.

    Args:
        trusted: Alpha from which a colour is kept.
        relative: Compare alpha with the largest of the neighbourhood instead.
    """

    def fill(colour: np.ndarray, weight: np.ndarray, trust: np.ndarray | None) -> np.ndarray:
        height, width = weight.shape
        own = colour / np.maximum(weight, 1e-30)[..., None]
        trust = np.minimum(weight / trusted, 1) if trust is None else trust
        if max(height, width) == 1 or trust.min() >= 1:
            return own
        half = ((width + 1) // 2, (height + 1) // 2)
        coarse = (
            cv2.resize(plane, half, interpolation=cv2.INTER_AREA) for plane in (colour, weight)
        )
        average = cv2.resize(fill(*coarse, None), (width, height), interpolation=cv2.INTER_LINEAR)
        return (average + (own - average) * trust[..., None]).astype(np.float32)

    def extend(layer: Layer) -> np.ndarray:
        most = cv2.dilate(layer.alpha, np.ones((5, 5), np.uint8))
        trust = layer.alpha / np.maximum(most, 1e-6) if relative else None
        return fill(layer.colour * layer.alpha[..., None], layer.alpha, trust)

    return extend


EXTENSIONS: dict[str, Callable[[Layer], np.ndarray]] = {
    "unchanged": lambda layer: layer.colour,
    "spread where alpha is 0 (before)": spread(1e-6),
    "spread below 4/255 (chosen)": lambda layer: extend_colour(layer.colour, layer.alpha),
    "spread below 16/255": spread(16 / 255),
    "spread below 64/255": spread(64 / 255),
    "spread below 255/255": spread(1),
    "spread, relative to the alpha around": spread(8 / 255, relative=True),
}
SPREAD = "spread below 4/255 (chosen)"


def combined(extend: Callable[[Layer], np.ndarray], alpha: str) -> Method:
    """Return a method with one extension of colour and one method for alpha."""
    return lambda layer, network: Layer(network(extend(layer)), ALPHAS[alpha](layer.alpha, network))


def two_composites(layer: Layer, network: Network) -> Layer:
    """Upscale composites over black and white, and solve them for alpha and colour."""
    black, white = (network(layer.over(value)) for value in ((0, 0, 0), (1, 1, 1)))
    alpha = (1 - (white - black).mean(2)).clip(0, 1)
    colour = black / np.maximum(alpha, 1 / 255)[..., None]
    return Layer(colour.clip(0, 1), alpha)


def multiplied(layer: Layer, network: Network) -> Layer:
    """Upscale colour times alpha, and divide it by the alpha of the chosen method."""
    product = network(layer.over((0, 0, 0)))
    alpha = ALPHAS[CHOSEN](layer.alpha, network)
    return Layer((product / np.maximum(alpha, 1 / 255)[..., None]).clip(0, 1), alpha)


# The tables


def errors(result: Layer, truth: Layer) -> dict[str, float]:
    """Return mean absolute errors in levels of 255, and the PSNR."""
    inside = ((truth.alpha > 0.02) & (truth.alpha < 0.98)).astype(np.uint8)
    edge = cv2.dilate(inside, np.ones((7, 7), np.uint8)) > 0
    scores = {"alpha": float(np.abs(result.alpha - truth.alpha).mean() * 255)}
    squared = []
    for name, value in BACKGROUNDS.items():
        difference = np.abs(result.over(value) - truth.over(value)) * 255
        scores[f"edge, {name}"] = float(difference[edge].mean())
        squared.append(float((difference**2).mean()))
    scores["edge"] = float(np.mean([scores[f"edge, {name}"] for name in BACKGROUNDS]))
    scores["PSNR"] = 10 * np.log10(255**2 / np.mean(squared))
    return scores


def table(
    title: str,
    methods: dict[str, Method],
    truths: dict[str, Layer],
    network: Network,
    folder: Path | None,
) -> None:
    """Print a table per downscaling mode: edge errors of each method and image, and means."""
    for mode in (PREMULTIPLIED, ROUNDED, STRAIGHT):
        print(f"\n{title}; downscaled {mode}\n")
        print(f"| method | {' | '.join(truths)} | edge | black | white | magenta | alpha | PSNR |")
        print("|---" * (len(truths) + 7) + "|")
        for name, method in methods.items():
            rows = []
            for image, truth in truths.items():
                result = method(rounded(downscale(truth, 4, mode)), network)
                rows.append(errors(result, truth))
                if folder:
                    save(result, folder / f"{image}-{name}-{mode}.png".translate(FILE_NAME))
            means = {key: np.mean([row[key] for row in rows]) for key in rows[0]}
            cells = [f"{row['edge']:.2f}" for row in rows] + [f"**{means['edge']:.2f}**"]
            cells += [f"{means[f'edge, {key}']:.2f}" for key in BACKGROUNDS]
            print(
                f"| {name} | {' | '.join(cells)} | {means['alpha']:.2f} | {means['PSNR']:.2f} |",
                flush=True,
            )


def save(layer: Layer, path: Path) -> None:
    """Write the composites over black, white and magenta side by side."""
    composites = np.hstack([layer.over(value) for value in BACKGROUNDS.values()])
    cv2.imwrite(str(path), np.rint(composites.clip(0, 1) * 255).astype(np.uint8)[..., ::-1])


def main() -> None:
    """Measure all methods on all images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of photos and images with alpha")
    parser.add_argument("--model", default="realesrgan-x4plus")
    parser.add_argument("--images", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    network, truths = Network(arguments.model), images(arguments.data)
    if arguments.images:
        arguments.images.mkdir(parents=True, exist_ok=True)
        for name, truth in truths.items():
            save(truth, arguments.images / f"{name}-truth.png".translate(FILE_NAME))
    methods = {name: combined(EXTENSIONS[SPREAD], name) for name in ALPHAS}
    methods |= {"two composites": two_composites, "colour times alpha": multiplied}
    table(f"{arguments.model}: alpha", methods, truths, network, arguments.images)
    methods = {name: combined(extend, CHOSEN) for name, extend in EXTENSIONS.items()}
    table(f"{arguments.model}: colour", methods, truths, network, arguments.images)


if __name__ == "__main__":
    main()
