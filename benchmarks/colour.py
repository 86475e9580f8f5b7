"""Compare conversions of wide-gamut, linear and grey images for a network, by CIEDE2000.

    python -m benchmarks.colour DATA

A crop of each photograph is the ground truth in a colour space. It is downscaled to a quarter in
linear light and upscaled with four conversions: none (pass); sRGB's tone curve on its own primaries
(curve); sRGB values of the same colours, clipped to 0..1 (sRGB); and the clipped part interpolated
and added (sRGB + rest). `assigned` photographs keep their values, interpreted in the space, which
makes them very saturated; `converted` ones keep their colours. The table lists the CIEDE2000
difference (mean, 99th percentile, mean outside sRGB) and the PSNR of stored values.

DATA is a folder of photos: `eval/photos` has photographs of the gb82 image set.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.alpha import Network
from upscale.images.pixels.colour import ToneCurve

PHOTOS = ("flowers", "girl", "bulb", "sumac")
D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
Curve = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Space:
    """A colour space: chromaticities of primaries and white, and its curve to light and back.

    Curves are defined from 0 on, and mirrored below. Without primaries, the space is grey.
    """

    primaries: tuple[float, ...] | None
    white: tuple[float, float]
    decode: Curve
    encode: Curve

    def to_xyz(self, pixels: np.ndarray) -> np.ndarray:
        """Convert (H, W, C) to XYZ (D50), without clipping."""
        return np.copysign(self.decode(np.abs(pixels)), pixels) @ self.matrix.T

    def of_xyz(self, xyz: np.ndarray) -> np.ndarray:
        """Convert XYZ (D50) to this space: the inverse of `to_xyz`."""
        grey = self.primaries is None
        light = xyz[..., 1:2] if grey else xyz @ np.linalg.inv(self.matrix).T
        return np.copysign(self.encode(np.abs(light)), light).astype(np.float32)

    @property
    def matrix(self) -> np.ndarray:
        """Matrix from light to XYZ, adapted to D50 (Bradford)."""
        white = xyz_of(self.white)
        if self.primaries is None:
            return xyz_of(D50)[:, None]
        colours = np.stack([xyz_of(self.primaries[at : at + 2]) for at in (0, 2, 4)], 1)
        cones = np.diag((BRADFORD @ xyz_of(D50)) / (BRADFORD @ white))
        return (
            np.linalg.inv(BRADFORD) @ cones @ BRADFORD @ colours * np.linalg.solve(colours, white)
        )


def xyz_of(chromaticity: tuple[float, ...]) -> np.ndarray:
    """Return XYZ with Y = 1 of a chromaticity (x, y)."""
    x, y = chromaticity
    return np.array([x / y, 1, (1 - x - y) / y])


def gamma(power: float) -> tuple[Curve, Curve]:
    """Return a power function and its inverse."""
    return lambda x: x**power, lambda x: x ** (1 / power)


def dot_gain(gain: float) -> tuple[Curve, Curve]:
    """Return the curve of printed paper with a dot gain at 50 %, and its inverse."""
    values = np.linspace(0, 1, 4096)
    ink = 1 - values
    light = 1 - (ink + 4 * gain * ink * (1 - ink)).clip(0, 1)
    light += values * 1e-6
    return lambda x: np.interp(x, values, light), lambda x: np.interp(x, light, values)


LINEAR = gamma(1)
SRGB_CURVE: tuple[Curve, Curve] = (
    lambda x: np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4),
    lambda x: np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055),
)
SRGB_PRIMARIES = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
SRGB = Space(SRGB_PRIMARIES, D65, *SRGB_CURVE)
GREY = Space(None, D50, *SRGB_CURVE)
SPACES = {
    "Display P3": Space((0.680, 0.320, 0.265, 0.690, 0.150, 0.060), D65, *SRGB_CURVE),
    "Adobe RGB": Space((0.64, 0.33, 0.21, 0.71, 0.15, 0.06), D65, *gamma(2.2)),
    "ProPhoto": Space((0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001), D50, *gamma(1.8)),
    "linear sRGB": Space(SRGB_PRIMARIES, D65, *LINEAR),
    "grey, gamma 2.2": Space(None, D50, *gamma(2.2)),
    "grey, dot gain 20 %": Space(None, D50, *dot_gain(0.2)),
    "grey, linear": Space(None, D50, *LINEAR),
}


def converted(pixels: np.ndarray, source: Space, target: Space) -> np.ndarray:
    """Convert to the same colours in another space, without clipping."""
    return target.of_xyz(source.to_xyz(pixels))


def to_lab(pixels: np.ndarray, space: Space) -> np.ndarray:
    """Convert (H, W, C) to CIELAB (D50)."""
    ratio = space.to_xyz(pixels) / xyz_of(D50)
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), -1)


def ciede2000(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the colour difference of two CIELAB images (Sharma, Wu and Dalal 2005)."""
    (l1, a1, b1), (l2, a2, b2) = (np.moveaxis(x.astype(np.float64), -1, 0) for x in (first, second))
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    grey = 1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + 25.0**7))
    c1, c2 = np.hypot(a1 * grey, b1), np.hypot(a2 * grey, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a * grey)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180
    both = c1 * c2 > 0
    turn = np.where(both, turn, 0)
    hue = np.where(
        both, np.where(np.abs(h1 - h2) > 180, (h1 + h2 + 360) / 2 % 360, (h1 + h2) / 2), h1 + h2
    )
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    wave = 1 - 0.17 * np.cos(np.radians(hue - 30)) + 0.24 * np.cos(np.radians(2 * hue))
    wave += 0.32 * np.cos(np.radians(3 * hue + 6)) - 0.20 * np.cos(np.radians(4 * hue - 63))
    by_light = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)
    lightness = (l2 - l1) / by_light
    saturation = (c2 - c1) / (1 + 0.045 * chroma)
    tint = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * wave)
    bend = -2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
    bend *= np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    return np.sqrt((lightness**2 + saturation**2 + tint**2 + bend * saturation * tint).clip(0))


Method = Callable[[np.ndarray, Space, Callable[[np.ndarray], np.ndarray]], np.ndarray]


def as_stored(pixels: np.ndarray, space: Space, network: Callable) -> np.ndarray:
    """Upscale stored values."""
    return network(np.float32(pixels))


def as_srgb(pixels: np.ndarray, space: Space, network: Callable) -> np.ndarray:
    """Upscale the same colours in sRGB, clipped to 0..1."""
    target = SRGB if space.primaries else GREY
    return converted(network(converted(pixels, space, target)), target, space)


def as_srgb_and_rest(pixels: np.ndarray, space: Space, network: Callable) -> np.ndarray:
    """Upscale as in `as_srgb`, and add the interpolated part that was clipped."""
    target = SRGB if space.primaries else GREY
    values = converted(pixels, space, target)
    rest = cv2.resize(values - values.clip(0, 1), None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
    large = network(values)
    return converted(large + rest.reshape(large.shape), target, space)


def with_curve(pixels: np.ndarray, space: Space, network: Callable) -> np.ndarray:
    """Upscale values of the space's own primaries with sRGB's tone curve."""
    other = Space(space.primaries, space.white, *SRGB_CURVE)
    return converted(network(converted(pixels, space, other)), other, space)


METHODS: dict[str, Method] = {
    "pass": as_stored,
    "curve": with_curve,
    "sRGB": as_srgb,
    "sRGB + rest": as_srgb_and_rest,
}


def truths(data: Path, space: Space, *, assigned: bool) -> list[np.ndarray]:
    """Return crops of photographs in a space, 384x384, floats in 0..1."""
    crops = []
    for name in PHOTOS:
        photo = cv2.imread(str(data / f"eval/photos/{name}-lossless.png"))[96:480, 96:480, ::-1]
        photo = np.float32(photo) / 255
        if space.primaries is None:
            crops.append(converted(photo, SRGB, space).clip(0, 1))
        else:
            crops.append(photo if assigned else converted(photo, SRGB, space).clip(0, 1))
    return crops


def measure(truth: np.ndarray, space: Space, method: Method, network: Callable) -> list[float]:
    """Return mean, 99th percentile and mean outside sRGB of the difference, and the PSNR."""
    light = Space(space.primaries, space.white, *LINEAR)
    small = cv2.resize(converted(truth, space, light), (96, 96), interpolation=cv2.INTER_AREA)
    small = converted(small.reshape(96, 96, -1), light, space).clip(0, 1)
    small = np.rint(small * 65535).astype(np.float32) / 65535
    large = method(small, space, network).clip(0, 1)
    difference = ciede2000(to_lab(large, space), to_lab(truth, space))
    in_srgb = converted(truth, space, SRGB if space.primaries else GREY)
    outside = ((in_srgb < -0.01) | (in_srgb > 1.01)).any(2)
    wide = difference[outside].mean() if outside.sum() > 100 else np.nan
    error = -10 * np.log10(np.mean((large - truth) ** 2))
    return [difference.mean(), np.percentile(difference, 99), wide, error]


def with_rest(light: np.ndarray, curve: ToneCurve, network: Callable) -> np.ndarray:
    """Upscale with sRGB's curve up to white; the part above is interpolated and added."""
    values = curve.to_network(light) * np.float32(curve.high)
    rest = cv2.resize((values - 1).clip(0), None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
    return curve.from_network((network(values) + rest) / np.float32(curve.high), np.float32)


def hdr_table(data: Path, network: Callable) -> None:
    """Print a table of conversions for scene-linear floats up to 8 times white."""
    print(
        "\n| conversion, light up to 8 | CIEDE2000 up to white | relative error above white, % |"
        "\n|---|---|---|"
    )
    curve = ToneCurve(True, 0.0, float(1 + np.log(8) * 1.055 / 2.4))
    methods: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "clipped at 1": network,
        "clipped at 1, rest interpolated": lambda x: (
            network(x)
            + cv2.resize((x - 1).clip(0), None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
        ),
        "sRGB's curve, clipped, rest interpolated": lambda x: with_rest(x, curve, network),
        "divided by the maximum": lambda x: network(x / 8) * 8,
        "sRGB's power, divided": lambda x: (network((x / 8) ** (1 / 2.4)) ** 2.4) * 8,
        "sRGB's curve, then a logarithm (chosen)": lambda x: curve.from_network(
            network(curve.to_network(x)), np.float32
        ),
    }
    light = Space(SRGB_PRIMARIES, D65, *LINEAR)
    for name, method in methods.items():
        below, above = [], []
        for photo in truths(data, light, assigned=False):
            scene = (photo**1.5 * 8).astype(np.float32)
            small = cv2.resize(scene, (96, 96), interpolation=cv2.INTER_AREA)
            large, bright = method(small), (scene > 1).any(2)
            difference = ciede2000(to_lab(large.clip(0, 1), light), to_lab(scene.clip(0, 1), light))
            below.append(difference[~bright].mean())
            above.append(
                np.mean(np.abs(large - scene)[bright] / np.maximum(scene[bright], 0.1)) * 100
            )
        print(f"| {name} | {np.mean(below):.2f} | {np.mean(above):.1f} |", flush=True)


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of photos, in eval/photos")
    parser.add_argument(
        "--models", nargs="+", default=["realesr-animevideov3", "realesrgan-x4plus"]
    )
    arguments = parser.parse_args()
    for model in arguments.models:
        network = Network(model)
        print(
            f"\n{model}\n\n| space | photographs | conversion | mean | 99 % | outside sRGB | PSNR |"
        )
        print("|---|---|---|---|---|---|---|")
        for name, space in SPACES.items():
            for assigned in (False, True) if space.primaries else (False,):
                for name_of_method, method in METHODS.items():
                    rows = [
                        measure(x, space, method, network)
                        for x in truths(arguments.data, space, assigned=assigned)
                    ]
                    cells = [
                        np.nanmean(column) if np.isfinite(column).any() else np.nan
                        for column in zip(*rows, strict=True)
                    ]
                    kind = "assigned" if assigned else "converted"
                    print(
                        f"| {name} | {kind} | {name_of_method} | "
                        + " | ".join(f"{x:.2f}" for x in cells)
                        + " |",
                        flush=True,
                    )
        hdr_table(arguments.data, network)


if __name__ == "__main__":
    main()
