"""The choice of networks for images, against always the same one; and the fit behind it.

    python -m benchmarks.selection make FOLDER photos/*.png --side 320          # fixed strengths
    python -m benchmarks.selection make FOLDER photos/*.png --random            # for the fit
    python -m benchmarks.selection report FOLDER
    python -m benchmarks.selection fit FOLDER

`make` damages a square of each photo in many ways, upscales the results x4 with both networks, and
stores outputs and scores, so that it can be interrupted and resumed. `report` compares, for each
kind of damage, the ST-LPIPS of the choice with that of each network and of their mean. `fit` prints
weights for `upscale/selection/evidence.py`, with the cost of the choice on photos left out of the
fit (five groups by photo). Stored outputs stand in for the networks when crops are probed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage
from upscale_training.degraded_sample import find_sampler

from upscale.engine.upscaler import Upscaler
from upscale.images import read_file
from upscale.images.image import Image
from upscale.metrics import Resources, metrics
from upscale.selection import Choice, Sample, choose
from upscale.selection.choice import CLEAN, DAMAGED
from upscale.selection.evidence import (
    DAMAGED_FROM,
    EVIDENCE,
    MEAN_FROM,
    amounts_of,
)
from upscale.selection.probing import findings_of
from upscale.selection.traits import traits_of

Pixels = NDArray[np.uint8]
Damage = Callable[[Pixels], tuple[bytes, str]]
"""Makes the bytes of an LR file, and their suffix, from an HR image."""

SCALE, FOLDS, BORDER = 4, 5, 48
NETWORKS = {"x4p": DAMAGED, "df2k": CLEAN}
WEIGHTS = (0.0, 0.5, 1.0)
"""Weights of the network for clean images."""


def shrunk(hr: Pixels, factor: float = SCALE, filter: str = "bicubic") -> Pixels:
    """Shrink an image by a factor."""
    kind = {"bicubic": 3, "area": 4, "lanczos": 1, "bilinear": 2}[filter]
    size = round(hr.shape[1] / factor), round(hr.shape[0] / factor)
    return np.asarray(PILImage.fromarray(hr).resize(size, PILImage.Resampling(kind)))


def encoded(pixels: Pixels, format: str = "PNG", **options: int) -> tuple[bytes, str]:
    """Encode an image by Pillow."""
    target = io.BytesIO()
    PILImage.fromarray(pixels).save(target, format, **options)
    return target.getvalue(), {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}[format]


def as_png(data: tuple[bytes, str]) -> tuple[bytes, str]:
    """Decode a file and save it as PNG."""
    return encoded(np.asarray(PILImage.open(io.BytesIO(data[0])).convert("RGB")))


def noisy(pixels: Pixels, sigma: float, seed: int) -> Pixels:
    """Add white noise to each channel."""
    noise = np.random.default_rng(seed).normal(0, sigma, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def blurred(hr: Pixels, sigma: float) -> Pixels:
    """Blur an image by a deviation in pixels of the LR image."""
    return np.asarray(cv2.GaussianBlur(hr, (0, 0), sigma * SCALE), np.uint8)


def upscaled_again(hr: Pixels, factor: float) -> Pixels:
    """Shrink an image too much, and upscale it to the size of the LR image."""
    size = hr.shape[1] // SCALE, hr.shape[0] // SCALE
    small = PILImage.fromarray(shrunk(hr, SCALE * factor))
    return np.asarray(small.resize(size, PILImage.Resampling.BICUBIC))


def real_esrgan(hr: Pixels, seed: int) -> tuple[bytes, str]:
    """Damage an image by the chain of the training of Real-ESRGAN."""
    sampler = find_sampler("real-esrgan", scale=SCALE, seed=seed)
    return encoded(np.asarray(sampler.sample(seed).make(np.ascontiguousarray(hr))))


def fixed_damages(seed: int) -> dict[str, Damage]:
    """Return kinds of damage of fixed strength, by name."""
    damages: dict[str, Damage] = {"clean": lambda hr: encoded(shrunk(hr))}
    for quality in (95, 85, 70, 50):
        damages[f"jpeg {quality}"] = lambda hr, q=quality: encoded(shrunk(hr), "JPEG", quality=q)
    for sigma in (3, 10, 20):
        damages[f"noise {sigma}"] = lambda hr, s=sigma: encoded(noisy(shrunk(hr), s, seed))
    return damages | {
        "blur 1.5": lambda hr: encoded(shrunk(blurred(hr, 1.5))),
        "upscaled x2": lambda hr: encoded(upscaled_again(hr, 2)),
        "jpeg 75 as png": lambda hr: as_png(encoded(shrunk(hr), "JPEG", quality=75)),
        "webp 80": lambda hr: encoded(shrunk(hr), "WEBP", quality=80),
        "real-esrgan": lambda hr: real_esrgan(hr, seed),
    }


def random_damages(seed: int) -> dict[str, Damage]:
    """Return kinds of damage of random strength, by name."""
    own = random.Random(seed)
    quality, coarse, sigma = own.randint(30, 98), own.randint(30, 90), own.uniform(1, 25)
    filter, wide, factor = own.choice(["area", "lanczos", "bilinear"]), own.uniform(0.3, 2.5), 1.5
    return {
        "clean": lambda hr: encoded(shrunk(hr)),
        f"clean {filter}": lambda hr: encoded(shrunk(hr, filter=filter)),
        "jpeg": lambda hr: encoded(shrunk(hr), "JPEG", quality=quality),
        "jpeg as png": lambda hr: as_png(encoded(shrunk(hr), "JPEG", quality=quality)),
        "jpeg shrunk": lambda hr: encoded(
            shrunk(np.asarray(_opened(encoded(shrunk(hr, 2), "JPEG", quality=coarse))), 2)
        ),
        "webp": lambda hr: encoded(shrunk(hr), "WEBP", quality=quality),
        "noise": lambda hr: encoded(noisy(shrunk(hr), sigma, seed)),
        "noise jpeg": lambda hr: encoded(
            noisy(shrunk(hr), sigma / 2, seed), "JPEG", quality=coarse
        ),
        "blur": lambda hr: encoded(shrunk(blurred(hr, wide))),
        "upscaled": lambda hr: encoded(upscaled_again(hr, factor + wide / 2)),
        "real-esrgan": lambda hr: real_esrgan(hr, seed),
    }


def _opened(data: tuple[bytes, str]) -> PILImage.Image:
    return PILImage.open(io.BytesIO(data[0])).convert("RGB")


def make(folder: Path, photos: Sequence[Path], side: int, is_random: bool) -> None:
    """Damage, upscale and score photos; what the folder has already is left out."""
    for name in ("lr", *NETWORKS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    log = folder / "log.jsonl"
    done = {row["id"] for row in _rows(folder)} if log.exists() else set[str]()
    upscalers = {name: Upscaler(network, device="cpu") for name, network in NETWORKS.items()}
    measure = metrics()["st-lpips"].load(Resources())
    for number, photo in enumerate(photos):
        hr = np.asarray(PILImage.open(photo).convert("RGB"))
        top, left = ((size - side) // 2 for size in hr.shape[:2])
        hr = np.ascontiguousarray(hr[top : top + side, left : left + side])
        for kind, damage in (random_damages if is_random else fixed_damages)(number).items():
            id = f"{photo.stem}-{kind.replace(' ', '-')}"
            if id in done:
                continue
            data, suffix = damage(hr)
            (folder / "lr" / f"{id}.{suffix}").write_bytes(data)
            lr = _image(folder / "lr" / f"{id}.{suffix}").pixels
            outputs = {name: each.upscale(lr) for name, each in upscalers.items()}
            for name, output in outputs.items():
                PILImage.fromarray(output).save(folder / name / f"{id}.png")
            inner = slice(BORDER, -BORDER)
            scores = {
                f"{weight:g}": measure(
                    np.ascontiguousarray(mixed(outputs, weight)[inner, inner]),
                    np.ascontiguousarray(hr[inner, inner]),
                    0,
                )
                for weight in WEIGHTS
            }
            row = {"id": id, "file": str(photo), "kind": kind, "scores": scores}
            with log.open("a") as target:
                target.write(json.dumps(row) + "\n")


def mixed(outputs: dict[str, Pixels], weight: float) -> Pixels:
    """Return the weighted mean of both networks' outputs."""
    clean, damaged = outputs["df2k"].astype(np.float32), outputs["x4p"].astype(np.float32)
    return np.rint(weight * clean + (1 - weight) * damaged).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Item:
    """A damaged photo with the outputs of both networks."""

    id: str
    photo: str
    kind: str
    costs: tuple[float, ...]
    pixels: NDArray[Any]
    quality: int | None
    outputs: dict[str, Pixels]

    def probe(self, network: str, crop: NDArray[Any]) -> NDArray[Any]:
        """Return the part of the stored output that belongs to a crop."""
        height, width = crop.shape[:2]
        views = np.lib.stride_tricks.sliding_window_view(self.pixels, crop.shape)[:, :, 0]
        first = (views[..., 0, 0, :] == crop[0, 0]).all(axis=-1)
        for y, x in np.argwhere(first):
            if np.array_equal(views[y, x], crop):
                break
        else:
            raise ValueError("no such crop")
        output = self.outputs[next(key for key, name in NETWORKS.items() if name == network)]
        return output[SCALE * y : SCALE * (y + height), SCALE * x : SCALE * (x + width)]

    def choice(self) -> Choice:
        """Choose the networks for this image."""
        return choose([Sample(self.pixels, self.quality)], self.probe)

    def amounts(self) -> list[float]:
        """Return the amounts of all evidence."""
        found = findings_of(self.pixels, lambda crop: self.probe(DAMAGED, crop))
        return list(amounts_of(traits_of(self.pixels, self.quality), found))


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def _image(path: Path) -> Image:
    image = read_file(path.read_bytes())
    if not isinstance(image, Image):
        image = next(iter(image.frames())).image
    return image


def items(folder: Path) -> Iterator[Item]:
    """Yield all that `make` stored; photographs only."""
    for row in _rows(folder):
        if "/graphics/" in row["file"]:
            continue
        image = _image(next((folder / "lr").glob(f"{row['id']}.*")))
        outputs = {
            name: np.asarray(PILImage.open(folder / name / f"{row['id']}.png").convert("RGB"))
            for name in NETWORKS
        }
        scores = [row["scores"][f"{weight:g}"] for weight in WEIGHTS]
        costs = tuple(score[1] if isinstance(score, list) else score for score in scores)
        pixels, quality = image.pixels, image.origin.quality
        yield Item(row["id"], row["file"], row["kind"], costs, pixels, quality, outputs)


def report(folder: Path, with_items: bool) -> None:
    """Print a table of the kinds of damage."""
    picks: dict[str, list[tuple[int, tuple[float, ...]]]] = defaultdict(list)
    for item in items(folder):
        choice = item.choice()
        pick = WEIGHTS.index(choice.weights.get(CLEAN, 0.0))
        picks[item.kind].append((pick, item.costs))
        if with_items:
            print(item.id, WEIGHTS[pick], choice.reason, np.round(item.costs, 3))
    print_table(picks)


def print_table(picks: dict[str, list[tuple[int, tuple[float, ...]]]]) -> None:
    """Print the mean costs of fixed networks and of the choice, and how often it was wrong."""
    print("| damage | photos | x4plus | mean | df2k | choice | over the best | picks | wrong |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind, rows in sorted(picks.items()):
        costs = np.array([each for _, each in rows])
        chosen = np.array([each[pick] for pick, each in rows])
        fixed = costs.mean(axis=0)
        counts = "/".join(str(sum(pick == number for pick, _ in rows)) for number in range(3))
        wrong = float((chosen > 1.2 * costs.min(axis=1) + 0.01).mean())
        print(
            f"| {kind} | {len(rows)} | {fixed[0]:.3f} | {fixed[1]:.3f} | {fixed[2]:.3f} "
            f"| {chosen.mean():.3f} | {100 * (chosen.mean() / fixed.min() - 1):+.0f} % "
            f"| {counts} | {100 * wrong:.0f} % |"
        )


def fit(folder: Path) -> None:
    """Print weights and limits fitted to all photos, and the table for photos left out."""
    found = list(items(folder))
    amounts = np.array([item.amounts() for item in found])
    costs = np.array([item.costs for item in found])
    kinds = np.array([item.kind for item in found])
    best = {kind: costs[kinds == kind].mean(axis=0).min() for kind in set(kinds)}
    importance = np.array([(1.5 if "clean" in kind else 1) / best[kind] for kind in kinds])
    groups = np.array([_group(item.photo) for item in found])
    picks: dict[str, list[tuple[int, tuple[float, ...]]]] = defaultdict(list)
    for group in range(FOLDS):
        inside = groups != group
        model = fitted(amounts[inside], costs[inside], importance[inside])
        for index in np.flatnonzero(~inside):
            pick = picked(float(amounts[index] @ model[0]), *model[1:])
            picks[kinds[index]].append((pick, found[index].costs))
            picks["all"].append((pick, found[index].costs))
    print_table(picks)
    weights, mean_from, damaged_from = fitted(amounts, costs, importance)
    print(f"MEAN_FROM, DAMAGED_FROM = {mean_from:.2f}, {damaged_from:.2f}")
    for each, weight in zip(EVIDENCE, weights, strict=True):
        print(f"{weight:8.3f} (now {each.weight:g}) {each.reason}")
    now = np.array([each.weight for each in EVIDENCE])
    for name, model in (
        ("now", (now, MEAN_FROM, DAMAGED_FROM)),
        ("new", (weights, mean_from, damaged_from)),
    ):
        chosen = [picked(float(row @ model[0]), *model[1:]) for row in amounts]
        print(name, "mean cost", costs[np.arange(len(costs)), chosen].mean())


def _group(photo: str) -> int:
    """Return the group of a photo: crops of one photo are in one group."""
    name = "_".join(Path(photo).name.split("_")[:2])
    return int(hashlib.md5(name.encode()).hexdigest(), 16) % FOLDS


def picked(damage: float, mean_from: float, damaged_from: float) -> int:
    """Return the index of the choice in `WEIGHTS`."""
    return 0 if damage >= damaged_from else 1 if damage >= mean_from else 2


def fitted(
    amounts: NDArray[Any], costs: NDArray[Any], importance: NDArray[Any]
) -> tuple[NDArray[Any], float, float]:
    """Fit weights above 0 and both limits to the expected cost of a soft choice."""
    scales = amounts.std(axis=0) + 1e-6
    inputs = torch.tensor(amounts / scales, dtype=torch.float32)
    targets = torch.tensor(costs * (importance / importance.sum())[:, None], dtype=torch.float32)
    weights = torch.full((amounts.shape[1],), 0.3, requires_grad=True)
    limits = torch.tensor([0.5, 1.0], requires_grad=True)
    optimiser = torch.optim.Adam([weights, limits], 0.03)
    for _ in range(400):
        first = torch.nn.functional.softplus(limits[0])
        second = first + torch.nn.functional.softplus(limits[1])
        damage = inputs @ weights.relu()
        damaged = torch.sigmoid(4 * (damage - second))
        clean = torch.sigmoid(4 * (first - damage))
        shares = torch.stack([damaged, 1 - damaged - clean, clean], dim=1)
        loss = (shares * targets).sum() + 0.0005 * weights.square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    first = torch.nn.functional.softplus(limits[0]).item()
    second = first + torch.nn.functional.softplus(limits[1]).item()
    return weights.relu().detach().numpy() / scales, first, second


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("command", choices=["make", "report", "fit"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("photos", type=Path, nargs="*")
    parser.add_argument("--side", type=int, default=320, help="side of the HR square in pixels")
    parser.add_argument("--random", action="store_true", help="damage of random strength")
    parser.add_argument("--items", action="store_true", help="print each choice")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.command == "make":
        make(args.folder, args.photos, args.side, args.random)
    elif args.command == "report":
        report(args.folder, args.items)
    else:
        fit(args.folder)


if __name__ == "__main__":
    main()
