"""Automatic networks: choose them for each image, animation or video, and load them when needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np

from upscale.images import Image, ImageSequence, extend_colour
from upscale.images.pixels.colour import finite
from upscale.jobs.image import PLAIN, Pixels, network_input
from upscale.options import AUTO, EngineOptions, TextureOptions

if TYPE_CHECKING:
    import torch

    from upscale.engine.loading import Model
    from upscale.engine.mixing import MixedUpscaler
    from upscale.engine.upscaler import Upscaler
    from upscale.selection import Choice, Sample

AUTO_SCALE = 4
"""Scale of all networks that are chosen among."""

_SUM_TOLERANCE = 1e-4

MOST_FRAMES = 8
"""Frames of an animation or a video that are looked at."""

MOST_SIDE = 2048
"""Rows and columns in the middle of a frame that are looked at, to save memory."""


class ChoiceRecord(TypedDict):
    """The choice of networks in JSON records, described in docs/reference/json.md."""

    weights: dict[str, float]
    reason: str
    clean: bool


def choice_record(choice: Choice) -> ChoiceRecord:
    """Return a choice as `--json` prints it."""
    return {
        "weights": {name: round(weight, 6) for name, weight in choice.weights.items()},
        "reason": choice.reason,
        "clean": choice.is_clean,
    }


def recorded_choice(record: Mapping[str, object]) -> Choice | None:
    """Return the choice that a record describes; None if no run of upscale made such a record."""
    from pydantic import TypeAdapter, ValidationError

    from upscale.selection import Choice

    try:
        weights = TypeAdapter(dict[str, float]).validate_python(record.get("weights"), strict=True)
    except ValidationError:
        return None
    reason, is_clean = record.get("reason"), record.get("clean")
    is_sum = abs(sum(weights.values()) - 1) < _SUM_TOLERANCE
    if not is_sum or not weights.keys() <= {*auto_networks()}:
        return None
    if min(weights.values()) < 0 or not isinstance(reason, str) or not isinstance(is_clean, bool):
        return None
    return Choice(weights, reason, is_clean)


def chosen_names(choice: Choice) -> str:
    """Return the names of the chosen networks as reports contain them."""
    return " + ".join(choice.weights)


def auto_networks() -> tuple[str, ...]:
    """Return the names of the networks that are chosen among."""
    from upscale.selection.choice import CLEAN, DAMAGED, DRAWING

    return CLEAN, DAMAGED, DRAWING


class AutoUpscaler:
    """The networks of `auto` on a device; each is loaded when it is first needed.

    Args:
        options: Settings of all networks, and the fidelity.

    Raises:
        UsageError: A denoising strength is given, which the networks do not support.
        DeviceError: The device or precision is not available.
    """

    def __init__(self, options: EngineOptions) -> None:
        from upscale.checkpoints import resolve
        from upscale.engine.device import pick_device, pick_precision, precision_name

        if options.denoise is not None:
            resolve(AUTO, denoise=options.denoise)  # raises the error, which names alternatives
        self._options = options
        self._device = pick_device(options.device)
        self._precision = precision_name(pick_precision(options.precision, self._device))
        self._tile: int | Literal["auto"] = options.tile
        self._models: dict[str, Model] = {}
        self._upscalers: dict[str, Upscaler] = {}

    @property
    def model_name(self) -> str:
        """The name that stands for all networks."""
        return AUTO

    @property
    def model_scale(self) -> int:
        """Output pixels per image pixel and axis before the final resize."""
        return AUTO_SCALE

    @property
    def device(self) -> torch.device:
        """The device that computes."""
        return self._device

    @property
    def device_name(self) -> str:
        """The device as `--device` spells it."""
        return str(self._device)

    @property
    def precision_name(self) -> str:
        """The precision as `--precision` spells it."""
        return self._precision

    @property
    def kernels_name(self) -> str:
        """The implementation of the convolutions of the networks for photos."""
        from upscale.selection.choice import DAMAGED

        return self._upscaler(DAMAGED).kernels_name

    @property
    def convolutions(self) -> str:
        """The implementations of the convolutions of all networks that were used."""
        return ", ".join(sorted({each.convolutions for each in self._upscalers.values()}))

    @property
    def available_kernels(self) -> str:
        """The implementation that may compute convolutions of the networks for photos."""
        from upscale.selection.choice import DAMAGED

        return self._upscaler(DAMAGED).available_kernels

    def resolve_tile(self, width: int, height: int, tile: int | None = None) -> int:
        """Pin an automatic tile for all networks; see `Upscaler.resolve_tile`."""
        from upscale.selection.choice import DAMAGED

        if isinstance(self._tile, str):
            self._tile = self._upscaler(DAMAGED).resolve_tile(width, height, tile)
            for upscaler in self._upscalers.values():
                upscaler.resolve_tile(width, height, self._tile)
        return self._tile

    def choose_for(self, content: Image | ImageSequence, texture: TextureOptions = PLAIN) -> Choice:
        """Choose networks for an image, or once for all frames of a sequence.

        Raises:
            ImageError: A frame cannot be read.
        """
        if texture.normal_map and self._options.fidelity is None:
            from upscale.selection.choice import DAMAGED, Choice

            return Choice({DAMAGED: 1.0}, "a normal map is not a photo", is_clean=False)
        return self.choose(samples_of(content))

    def choose(self, samples: Sequence[Sample]) -> Choice:
        """Choose networks for samples, by the fidelity if it is given."""
        from upscale import selection
        from upscale.selection.choice import CLEAN, DAMAGED

        fidelity = self._options.fidelity
        if not samples:
            return selection.Choice({DAMAGED: 1.0}, "no frame could be decoded", is_clean=False)
        if fidelity is None:
            return selection.choose(samples, self._probe)
        weights = {CLEAN: fidelity, DAMAGED: 1 - fidelity}
        return selection.Choice(
            {name: weight for name, weight in weights.items() if weight > 0},
            f"fidelity {fidelity:g}",
            selection.looks_clean(samples),
        )

    def upscaler_for(self, choice: Choice) -> Upscaler | MixedUpscaler:
        """Return the upscaler with the chosen networks, after loading them."""
        from upscale.engine.mixing import MixedUpscaler

        parts = [(self._upscaler(name), weight) for name, weight in choice.weights.items()]
        return parts[0][0] if len(parts) == 1 else MixedUpscaler(parts)

    def _upscaler(self, name: str) -> Upscaler:
        if name not in self._upscalers:
            self._upscalers[name] = self._make(name, tta=self._options.tta)
        return self._upscalers[name]

    def _probe(self, name: str, crop: Pixels) -> Pixels:
        """Upscale a crop; averaging flips and turns would soften what is measured."""
        upscaler = self._make(name, tta=False) if self._options.tta else self._upscaler(name)
        return upscaler.run(crop).pixels

    def _make(self, name: str, *, tta: bool) -> Upscaler:
        from upscale.engine.loading import load_model
        from upscale.engine.upscaler import Upscaler

        if name not in self._models:
            self._models[name] = load_model(name)
        return Upscaler(
            self._models[name],
            device=self._options.device,
            precision=self._options.precision,
            tile=self._tile,
            tta=tta,
            kernels=self._options.kernels,
        )


def samples_of(content: Image | ImageSequence) -> list[Sample]:
    """Return an image, or some frames of a sequence, as a network gets them.

    Raises:
        ImageError: A frame cannot be read.
    """
    if isinstance(content, Image):
        return [image_sample(content)]
    wanted = set(spread(range(content.count)))
    return [
        image_sample(_middle(frame.image))
        for number, frame in enumerate(islice(content.frames(), max(wanted, default=-1) + 1))
        if number in wanted
    ]


def image_sample(image: Image) -> Sample:
    """Return an image as a network gets it: its colours, without transparent borders."""
    from upscale.selection import Sample

    pixels, _ = network_input(_opaque(image))
    return Sample(pixels, image.origin.quality)


def spread(numbers: Sequence[int]) -> list[int]:
    """Return at most `MOST_FRAMES` numbers, in equal distances."""
    count = min(len(numbers), MOST_FRAMES)
    return [numbers[len(numbers) * (2 * part + 1) // (2 * count)] for part in range(count)]


def middle(length: int) -> slice:
    """Return the middle of an axis, at most `MOST_SIDE` long.

    It begins at a multiple of 16, so that the blocks of a codec keep their positions.
    """
    start = max(length - MOST_SIDE, 0) // 32 * 16
    return slice(start, start + MOST_SIDE)


def _middle(image: Image) -> Image:
    rows, columns = middle(image.height), middle(image.width)
    return _cut(image, rows, columns)


def _opaque(image: Image) -> Image:
    """Return the part of an image that is not transparent, with colour extended under the rest."""
    image = replace(image, pixels=finite(image.pixels))
    if image.alpha is None:
        return image
    rows, columns = (np.flatnonzero(image.alpha.any(axis)) for axis in (1, 0))
    if rows.size:
        image = _cut(image, slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    assert image.alpha is not None
    return replace(image, pixels=extend_colour(image.pixels, image.alpha, ""), alpha=None)


def _cut(image: Image, rows: slice, columns: slice) -> Image:
    alpha = None if image.alpha is None else image.alpha[rows, columns]
    return replace(image, pixels=image.pixels[rows, columns], alpha=alpha)
