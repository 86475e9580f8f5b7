"""Two processes on a CPU, beside one that takes their batches together."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from upscale_training.loop import Note, StageStarted, train
from upscale_training.loop.state import saved_states
from upscale_training.recipe import (
    DegradationRecipe,
    DiscriminatorSettings,
    GanSettings,
    OptimiserSettings,
    Stage,
)

from tests.training.loop.runs import check_same, collected, finish, longer, one_stage, start, tiny

ADAM = OptimiserSettings(1e-3)
LAST_BIASES = ("conv9.bias", "model.11.bias")


def losses(folder) -> list[dict]:
    found = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["losses"] for line in found if line["event"] == "step"]


def close_to(losses: dict) -> dict:
    """Match losses up to rounding; mean predictions are near 0, so theirs is an absolute one."""
    return {
        key: pytest.approx(value, rel=1e-4, abs=1e-5 if key.startswith("mean") else None)
        for key, value in losses.items()
    }


def without_offset(losses: dict) -> dict:
    """Replace the mean predictions of a relativistic discriminator, whose offset is arbitrary."""
    rest = dict(losses)
    return rest | {"difference": rest.pop("mean_real") - rest.pop("mean_fake")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unet", "patch"])
@pytest.mark.parametrize("relativistic", [False, True])
def test_two_processes_train_as_one_with_the_doubled_batch(images, tmp_path, kind, relativistic):
    # Without a pool: each process has its own, so that what it mixes depends on their number.
    gan = GanSettings(
        relativistic=relativistic, discriminator=DiscriminatorSettings(kind, features=4)
    )
    alone = one_stage(
        images,
        Stage("gan", 4, ADAM, batch=4, ema=0.9, gan=gan),
        data=replace(tiny(images).data, patch=32),
    )
    together = replace(alone, stages=(replace(alone.stages[0], batch=2),))
    train(alone, tmp_path / "alone", device="cpu")
    finish(start(together, tmp_path / "together", processes=2))
    for mine, theirs in zip(losses(tmp_path / "alone"), losses(tmp_path / "together"), strict=True):
        comparable = without_offset if relativistic else dict
        assert comparable(mine) == close_to(comparable(theirs))
    one, other = (
        saved_states(tmp_path / name / "states" / "gan")[-1] for name in ("alone", "together")
    )
    for network in ("generator", "judge"):
        wanted = one.common()[network]["network"]
        for key, value in other.common()[network]["network"].items():
            if relativistic and key in LAST_BIASES:
                continue  # its gradient is 0 but for rounding, which Adam makes a full step of
            torch.testing.assert_close(value, wanted[key], rtol=2e-3, atol=2e-5, msg=key)


@pytest.mark.slow
def test_a_vgg_discriminator_uses_batch_statistics_of_both_processes(images, tmp_path):
    gan = GanSettings(discriminator=DiscriminatorSettings("vgg", features=4))
    # A low rate: Adam makes full steps of gradients that are 0 but for rounding, and of those this
    # discriminator has many.
    stage = Stage("gan", 4, OptimiserSettings(1e-5), batch=4, ema=0.9, gan=gan)
    alone = one_stage(images, stage, data=replace(tiny(images).data, patch=128))
    together = replace(alone, stages=(replace(stage, batch=2),))
    train(alone, tmp_path / "alone", device="cpu")
    finish(start(together, tmp_path / "together", processes=2))
    for mine, theirs in zip(losses(tmp_path / "alone"), losses(tmp_path / "together"), strict=True):
        assert mine == close_to(theirs)


@pytest.mark.slow
def test_two_processes_resume_exactly_as_two_and_with_a_note_as_one(images, tmp_path):
    whole = one_stage(images, degradation=DegradationRecipe(pool=5))
    half = longer(whole, 0, 2)
    for recipe, name in ((whole, "at once"), (half, "in two"), (whole, "in two")):
        finish(start(recipe, tmp_path / name, processes=2))
    one, other = (tmp_path / name / "states" / "psnr" for name in ("at once", "in two"))
    check_same(saved_states(one)[-1].common(), saved_states(other)[-1].common())
    for rank in (0, 1):
        check_same(saved_states(one)[-1].own(rank), saved_states(other)[-1].own(rank))
    events = collected(longer(whole, 0, 5), tmp_path / "in two")
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("was saved by 2 processes, not 1" in note for note in notes)
    assert StageStarted("psnr", 3, 5) in events
