"""Ways to upscale transparency, judged by what a viewer sees over black, white and magenta.

    python -m benchmarks.alpha ../shared/data                       # both tables
    python -m benchmarks.alpha ../shared/data --look folder         # and images to look at

Each image is a large one with alpha, shrunk to a quarter: carefully (colour weighted by alpha),
carefully with the product rounded to 8 bits (as browsers do), or carelessly (every channel by
itself, so that what was hidden bleeds into the edges); then upscaled again by each way. Errors are
in levels of 255 against the large image's own composite; `band` is where alpha is neither 0 nor
1, and three pixels around it.
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
"""Sides of the large images, at most."""

FINER = 4
"""Drawn images are drawn this much larger."""

CAREFULLY, ROUNDED, CARELESSLY = "carefully", "carefully, the product in 8 bits", "carelessly"

PLAIN = str.maketrans(" /,()", "_____")

BACKGROUNDS = {"black": (0, 0, 0), "white": (1, 1, 1), "magenta": (1, 0, 1)}


@dataclass(frozen=True)
class Layer:
    """Colour (H, W, 3), not multiplied by alpha, and alpha (H, W); float32 in [0, 1]."""

    colour: np.ndarray
    alpha: np.ndarray

    def over(self, background: tuple[int, int, int]) -> np.ndarray:
        """The composite, as nearly all programs make it: with encoded values."""
        alpha = self.alpha[..., None]
        return self.colour * alpha + np.float32(background) * (1 - alpha)


Method = Callable[[Layer, "Network"], Layer]


class Network:
    """A network for float images that remembers what it has done."""

    def __init__(self, model: str) -> None:
        self._upscaler = Upscaler(model, device="cpu", precision="fp32")
        self._known: dict[bytes, np.ndarray] = {}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Four times as large; (H, W, C), clipped to [0, 1] before and after."""
        key = image.tobytes()
        if key not in self._known:
            self._known[key] = self._upscaler.upscale(np.clip(image, 0, 1), scale=4)
        return self._known[key]


# The images


def drawn(paint: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> Layer:
    """What `paint` draws at a finer size, shrunk carefully."""
    colour, alpha = paint(SIDE * FINER)
    return shrink(Layer(colour, alpha), FINER)


def logo(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Letters, a ring, a disc and hairlines in flat colours."""
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
    """A photograph cut out as a shape with some hundred hairs at its edge."""

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
    """A tinted pane with highlights and a soft shadow: alpha between 0 and 1 nearly everywhere."""
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
    """A photograph that fades away: sharp colours under a smooth alpha."""

    def paint(side: int) -> tuple[np.ndarray, np.ndarray]:
        colour = cv2.imread(str(photo))[96:480, 96:480, ::-1]
        colour = cv2.resize(colour, (side, side), interpolation=cv2.INTER_CUBIC)
        down, across = np.mgrid[:side, :side].astype(np.float32) / side
        alpha = np.clip(1.3 - 2.6 * np.hypot(down - 0.5, across - 0.5), 0, 1)
        return np.float32(colour) / 255, alpha

    return paint


def stored(path: Path) -> Layer:
    """A file with alpha, cropped so that a quarter of its sides is whole."""
    image = read_image(path)
    height, width = min(image.height, SIDE) // 4 * 4, min(image.width, SIDE) // 4 * 4
    top, left = (image.height - height) // 2, (image.width - width) // 2
    full = np.iinfo(image.pixels.dtype).max
    samples = (image.samples()[top : top + height, left : left + width] / full).astype(np.float32)
    return Layer(np.ascontiguousarray(samples[..., :3]), np.ascontiguousarray(samples[..., 3]))


def images(data: Path) -> dict[str, Layer]:
    """Every image by name."""
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


def shrink(layer: Layer, times: int, how: str = CAREFULLY) -> Layer:
    """Shrink by area; carelessly, hidden colours (black) are averaged in."""
    size = (layer.alpha.shape[1] // times, layer.alpha.shape[0] // times)

    def area(plane: np.ndarray) -> np.ndarray:
        return cv2.resize(plane, size, interpolation=cv2.INTER_AREA)

    alpha = area(layer.alpha)
    if how == CARELESSLY:
        return Layer(area(np.where(layer.alpha[..., None] > 0, layer.colour, 0)), alpha)
    product = area(layer.colour * layer.alpha[..., None])
    if how == ROUNDED:
        product, alpha = np.rint(product * 255) / 255, np.rint(alpha * 255) / 255
    return Layer(product / np.maximum(alpha, 1e-6)[..., None], alpha)


def in_levels(layer: Layer) -> Layer:
    """Rounded to 8 bits, as a file would have it; black where nothing is visible."""
    alpha = np.rint(layer.alpha * 255) / np.float32(255)
    colour = np.rint(layer.colour.clip(0, 1) * 255) / np.float32(255)
    return Layer(np.where(alpha[..., None] > 0, colour, 0).astype(np.float32), alpha)


# Ways with alpha


def grey(alpha: np.ndarray, network: Network) -> np.ndarray:
    """Through the network, as a grey image."""
    return network(alpha[..., None])[..., 0].copy()


def filtered(plane: np.ndarray, how: Image.Resampling = Image.Resampling.LANCZOS) -> np.ndarray:
    """Four times larger by one of Pillow's filters, unclipped."""
    size = (plane.shape[1] * 4, plane.shape[0] * 4)
    return np.array(Image.fromarray(plane, "F").resize(size, how))


def clamped(large: np.ndarray, alpha: np.ndarray, beyond: float = 0) -> np.ndarray:
    """Held within the 3x3 source pixels around, or beyond by a part of what they span."""
    around, size = np.ones((3, 3), np.uint8), large.shape[::-1]
    low, high = cv2.erode(alpha, around), cv2.dilate(alpha, around)
    limits = (low - (high - low) * beyond).clip(0), (high + (high - low) * beyond).clip(0, 1)
    return large.clip(*(cv2.resize(x, size, interpolation=cv2.INTER_NEAREST) for x in limits))


def added(large: np.ndarray, alpha: np.ndarray, rounds: int, beyond: float = 0) -> np.ndarray:
    """What the mean over a source pixel lacks is added back; clamped after every round."""
    large, size = clamped(large, alpha, beyond), large.shape[::-1]
    for _ in range(rounds):
        lack = alpha - cv2.resize(large, alpha.shape[::-1], interpolation=cv2.INTER_AREA)
        lack = cv2.resize(lack, size, interpolation=cv2.INTER_LINEAR)
        large = clamped(large + lack, alpha, beyond)
    return large


def held(large: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """As the program does it, in 8 bits."""
    levels = np.rint(large.clip(0, 1) * 255).astype(np.uint8)
    hold_to_source(levels, np.rint(alpha * 255).astype(np.uint8))
    return levels / np.float32(255)


ALPHAS: dict[str, Callable[[np.ndarray, Network], np.ndarray]] = {
    "network": grey,
    "network, clamped (was)": lambda a, n: clamped(grey(a, n), a),
    "network, clamped, lack added once": lambda a, n: added(grey(a, n), a, 1),
    "network, clamped, lack added 4 times": lambda a, n: added(grey(a, n), a, 4),
    "network, clamped loosely, added 4 times": lambda a, n: added(grey(a, n), a, 4, 0.5),
    "network, clamped loosely, added twice": lambda a, n: added(grey(a, n), a, 2, 0.5),
    "the same, slopes interpolated (chosen)": lambda a, n: held(grey(a, n), a),
    "bicubic, clamped": lambda a, n: clamped(filtered(a, Image.Resampling.BICUBIC), a),
    "Lanczos": lambda a, n: filtered(a).clip(0, 1),
    "Lanczos, clamped": lambda a, n: clamped(filtered(a), a),
    "Lanczos, clamped loosely, added 4 times": lambda a, n: added(filtered(a), a, 4, 0.5),
}
CHOSEN = "the same, slopes interpolated (chosen)"

# Ways with colour


def spread(trusted: float, *, relative: bool = False) -> Callable[[Layer], np.ndarray]:
    """Coarser averages, weighted by alpha, wherever alpha is below `trusted`, mixed by alpha.

    `relative` trusts a pixel fully where nothing around it is more visible.
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
        around = cv2.resize(fill(*coarse, None), (width, height), interpolation=cv2.INTER_LINEAR)
        return (around + (own - around) * trust[..., None]).astype(np.float32)

    def extend(layer: Layer) -> np.ndarray:
        most = cv2.dilate(layer.alpha, np.ones((5, 5), np.uint8))
        trust = layer.alpha / np.maximum(most, 1e-6) if relative else None
        return fill(layer.colour * layer.alpha[..., None], layer.alpha, trust)

    return extend


EXTENSIONS: dict[str, Callable[[Layer], np.ndarray]] = {
    "as it is": lambda layer: layer.colour,
    "spread where alpha is 0 (was)": spread(1e-6),
    "spread below 4/255 (chosen)": lambda layer: extend_colour(layer.colour, layer.alpha),
    "spread below 16/255": spread(16 / 255),
    "spread below 64/255": spread(64 / 255),
    "spread below 255/255": spread(1),
    "spread, trust relative to alpha around": spread(8 / 255, relative=True),
}
SPREAD = "spread below 4/255 (chosen)"


def through(extend: Callable[[Layer], np.ndarray], alpha: str) -> Method:
    """Extended colour and alpha, each through its own way."""
    return lambda layer, network: Layer(network(extend(layer)), ALPHAS[alpha](layer.alpha, network))


def two_composites(layer: Layer, network: Network) -> Layer:
    """The network on the composites over black and white; alpha and colour solved from them."""
    black, white = (network(layer.over(value)) for value in ((0, 0, 0), (1, 1, 1)))
    alpha = (1 - (white - black).mean(2)).clip(0, 1)
    colour = black / np.maximum(alpha, 1 / 255)[..., None]
    return Layer(colour.clip(0, 1), alpha)


def multiplied(layer: Layer, network: Network) -> Layer:
    """The network on colour times alpha, divided by an alpha that went the usual way."""
    product = network(layer.over((0, 0, 0)))
    alpha = ALPHAS[CHOSEN](layer.alpha, network)
    return Layer((product / np.maximum(alpha, 1 / 255)[..., None]).clip(0, 1), alpha)


# The tables


def errors(found: Layer, truth: Layer) -> dict[str, float]:
    """Mean absolute errors in levels of 255."""
    inside = ((truth.alpha > 0.02) & (truth.alpha < 0.98)).astype(np.uint8)
    band = cv2.dilate(inside, np.ones((7, 7), np.uint8)) > 0
    result = {"alpha": float(np.abs(found.alpha - truth.alpha).mean() * 255)}
    whole = []
    for name, value in BACKGROUNDS.items():
        difference = np.abs(found.over(value) - truth.over(value)) * 255
        result[f"band, {name}"] = float(difference[band].mean())
        whole.append(float((difference**2).mean()))
    result["band"] = float(np.mean([result[f"band, {name}"] for name in BACKGROUNDS]))
    result["PSNR"] = 10 * np.log10(255**2 / np.mean(whole))
    return result


def table(
    title: str,
    methods: dict[str, Method],
    truths: dict[str, Layer],
    network: Network,
    look: Path | None,
) -> None:
    """Print one table a way of shrinking: ways down, images across (band error), then means."""
    for how in (CAREFULLY, ROUNDED, CARELESSLY):
        print(f"\n{title}; shrunk {how}\n")
        print(f"| way | {' | '.join(truths)} | band | black | white | magenta | alpha | PSNR |")
        print("|---" * (len(truths) + 7) + "|")
        for name, method in methods.items():
            rows = []
            for image, truth in truths.items():
                found = method(in_levels(shrink(truth, 4, how)), network)
                rows.append(errors(found, truth))
                if look:
                    save(found, look / f"{image}-{name}-{how}.png".translate(PLAIN))
            means = {key: np.mean([row[key] for row in rows]) for key in rows[0]}
            cells = [f"{row['band']:.2f}" for row in rows] + [f"**{means['band']:.2f}**"]
            cells += [f"{means[f'band, {key}']:.2f}" for key in BACKGROUNDS]
            print(
                f"| {name} | {' | '.join(cells)} | {means['alpha']:.2f} | {means['PSNR']:.2f} |",
                flush=True,
            )


def save(layer: Layer, path: Path) -> None:
    """Composites over black, white and magenta beside each other."""
    beside = np.hstack([layer.over(value) for value in BACKGROUNDS.values()])
    cv2.imwrite(str(path), np.rint(beside.clip(0, 1) * 255).astype(np.uint8)[..., ::-1])


def main() -> None:
    """Measure every way on every image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="realesrgan-x4plus")
    parser.add_argument("--look", type=Path)
    arguments = parser.parse_args()
    network, truths = Network(arguments.model), images(arguments.data)
    if arguments.look:
        arguments.look.mkdir(parents=True, exist_ok=True)
        for name, truth in truths.items():
            save(truth, arguments.look / f"{name}-truth.png".translate(PLAIN))
    ways = {name: through(EXTENSIONS[SPREAD], name) for name in ALPHAS}
    ways |= {"two composites": two_composites, "colour times alpha": multiplied}
    table(f"{arguments.model}: alpha", ways, truths, network, arguments.look)
    ways = {name: through(extend, CHOSEN) for name, extend in EXTENSIONS.items()}
    table(f"{arguments.model}: colour", ways, truths, network, arguments.look)


if __name__ == "__main__":
    main()
