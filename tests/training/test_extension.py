"""A degradation and a loss are added from outside of the package, and used by a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
from upscale_training.degradation import (
    Degradation,
    apply,
    register_degradation,
    unregister_degradation,
)
from upscale_training.degradation.operations import Operation
from upscale_training.degradation.steps import STEPS, Step
from upscale_training.loop import Logged, train
from upscale_training.losses import register_loss, unregister_loss
from upscale_training.losses.pixels import PIXEL_LOSSES
from upscale_training.recipe.reading import read_recipe
from upscale_training.recipe.writing import to_yaml
from upscale_training.schema import Probability, settings

from tests.training.loop.runs import make_images
from upscale.errors import TrainingError, UsageError

RECIPE = """\
name: extended
network: {architecture: rrdbnet, features: 4, blocks: 1, growth: 2}
data:
  sources: [{path: photos}]
  patch: 16
  margin: 4
  workers: 0
degradation:
  chain:
    - {do: fade, probability: 1, strength: 0.25}
    - {do: resize, up: 0, down: 0, keep: 1, of: result}
  pool: 0
stages:
  - name: psnr
    iterations: 2
    batch: 2
    optimiser: {learning_rate: 1e-3}
    pixel: {kind: halved_l1}
logging: {every: 1, tensorboard: false}
"""


@dataclass(frozen=True, slots=True)
class Fade(Operation):
    """Moves all values towards grey."""

    do: ClassVar[str] = "fade"
    strength: float

    def __str__(self) -> str:
        return f"fade {self.strength:.2f}"


@settings
class FadeStep(Step):
    """Fades some images."""

    do: Literal["fade"] = "fade"
    probability: Probability = 0.5
    strength: Probability = 0.5

    def sample(self, own, shared, scale):
        return (Fade(self.strength),) if own.chance(self.probability) else ()


def fade(images: torch.Tensor, operations) -> torch.Tensor:
    strengths = images.new_tensor([each.strength for each in operations]).view(-1, 1, 1, 1)
    return images.lerp(torch.full_like(images, 0.5), strengths)


def halved_l1(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (output - target).abs().mean() / 2


@pytest.fixture
def extended() -> Iterator[None]:
    """Registers the toys, and removes them afterwards."""
    register_degradation("fade", FadeStep, {Fade: fade})
    register_loss("halved_l1", halved_l1)
    yield
    unregister_loss("halved_l1")
    unregister_degradation("fade")
    assert "fade" not in STEPS and "halved_l1" not in PIXEL_LOSSES


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    make_images(tmp_path / "photos")
    path = tmp_path / "extended.yaml"
    path.write_text(RECIPE)
    return path


def test_a_registered_degradation_and_loss_are_trained_with(extended, recipe, tmp_path):
    losses = {}
    for name in ("halved_l1", "l1"):
        events = []
        changed = read_recipe(recipe, [f"stages.0.pixel.kind={name}"])
        train(changed, tmp_path / name, device="cpu", events=events.append)
        losses[name] = next(each.losses["pixel"] for each in events if isinstance(each, Logged))
    assert losses["halved_l1"] == pytest.approx(losses["l1"] / 2)
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(read_recipe(recipe)))
    assert read_recipe(again) == read_recipe(recipe)


def test_a_registered_degradation_is_applied_and_described(extended):
    degradation = Degradation((Fade(0.25),))
    assert Degradation.from_dict(degradation.as_dict()) == degradation
    assert str(degradation) == "fade 0.25"
    images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    faded = apply(images, [degradation, Degradation(())])
    assert torch.equal(faded[0], torch.full((3, 4, 4), 32 / 255))
    assert torch.equal(faded[1], images[1])


def test_the_official_mode_lacks_a_registered_degradation(extended, recipe):
    with pytest.raises(UsageError, match="basicsr cannot do fade: use mode corrected"):
        Degradation((Fade(0.25),), mode="official")
    with pytest.raises(TrainingError, match=r"degradation\.chain: basicsr cannot do fade"):
        recipe.write_text(RECIPE.replace("  pool: 0", "  pool: 0\n  mode: official"))
        read_recipe(recipe)


def test_a_name_cannot_be_registered_twice(extended):
    with pytest.raises(UsageError, match="fade"):
        register_degradation("fade", FadeStep, {Fade: fade})
    with pytest.raises(UsageError, match="l1"):
        register_loss("l1", halved_l1)


def test_names_that_are_not_registered_raise_an_error_with_line_and_key(recipe):
    with pytest.raises(
        TrainingError, match=r"yaml:18: stages\.0\.pixel\.kind: must be 'l1', 'charb"
    ):
        read_recipe(recipe)
    recipe.write_text(RECIPE.replace("halved_l1", "l1"))
    with pytest.raises(TrainingError, match=r"yaml:10: degradation\.chain\.0\.do: must be 'blur'"):
        read_recipe(recipe)
