from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from upscale_training.data.pixels import read_rgb, write_png
from upscale_training.loop import Baseline, Note, Validated
from upscale_training.loop.distributed import Processes
from upscale_training.loop.validation import Validation, upscale_bicubic
from upscale_training.recipe import (
    DegradationRecipe,
    LoggingSettings,
    SavingSettings,
    ValidationSet,
    ValidationSettings,
)

from tests.training.loop.runs import collected, one_stage
from upscale.errors import TrainingError
from upscale.metrics import psnr, ssim


@pytest.fixture(scope="module")
def processes() -> Processes:
    return Processes("cpu", "fp32")


@pytest.fixture
def pairs(tmp_path, images) -> tuple[Path, Path]:
    """A folder of good images, and one of them shrunk by another program."""
    for file in images.iterdir():
        high = read_rgb(file)
        low = cv2.resize(high, (12, 12), interpolation=cv2.INTER_AREA)
        write_png(high, tmp_path / "high" / file.name)
        write_png(low, tmp_path / "low" / file.name)
    return tmp_path / "high", tmp_path / "low"


def validating(*sets: ValidationSet, **settings) -> ValidationSettings:
    return ValidationSettings(sets, every=2, **settings)


def test_the_baseline_is_bicubic_interpolation_measured_over_the_pairs(images, pairs, processes):
    high, low = pairs
    recipe = one_stage(images, validation=validating(ValidationSet(high, "pairs", low)))
    found = Validation(recipe, processes, print).baseline()["pairs"]
    results = [
        (upscale_bicubic(read_rgb(low / file.name), 4), read_rgb(file))
        for file in sorted(high.iterdir())
    ]
    assert found["psnr"] == pytest.approx(np.mean([psnr(*pair, border=4) for pair in results]))
    assert found["ssim"] == pytest.approx(np.mean([ssim(*pair, border=4) for pair in results]))
    assert 15 < found["psnr"] < 50


def test_created_lr_images_depend_only_on_the_seed(images, processes):
    def baseline(**changes) -> dict:
        recipe = one_stage(images, validation=validating(ValidationSet(images, **changes)))
        validation = Validation(recipe, processes, print)
        first = validation.baseline()
        torch.rand(3)
        assert validation.baseline() == first
        return first["validation"]

    real = baseline()
    assert baseline() == real
    assert baseline(seed=1) != real
    assert baseline(chain="classical")["psnr"] > real["psnr"] + 2


def test_created_pairs_are_those_of_upscale_degrade(images, processes, tmp_path):
    from upscale_training.degraded_sample import DegradationSampler
    from upscale_training.test_set import find_images, write_set

    folder = tmp_path / "set"
    recipe = one_stage(images, validation=validating(ValidationSet(images, seed=5)))
    draws = DegradationSampler(recipe.degradation, 4, 5)
    assert len(list(write_set(folder, find_images([images], folder), draws))) == 5
    written = replace(
        recipe, validation=validating(ValidationSet(folder / "gt", low=folder / "lq"))
    )
    made = Validation(recipe, processes, print).baseline()
    assert Validation(written, processes, print).baseline() == made


def test_the_averaged_weights_are_measured_on_whole_images(images, processes, tmp_path):
    from upscale_training.loop.state import saved_states

    from upscale.engine.upscaler import Upscaler

    recipe = one_stage(images, validation=validating(ValidationSet(images, chain="classical")))
    events = collected(recipe, tmp_path / "run")
    last = [event for event in events if isinstance(event, Validated)][-1]
    state = saved_states(tmp_path / "run" / "states" / "psnr")[-1]
    upscaler = Upscaler(state.weights, device="cpu")
    found = Validation(recipe, processes, print)._evaluate(upscaler.upscale, lambda: False)
    assert last.step == 3
    assert found.scores == last.scores


def test_the_baseline_is_emitted_once(images, tmp_path):
    recipe = one_stage(images, validation=validating(ValidationSet(images)))
    events = collected(recipe, tmp_path / "run")
    assert len([event for event in events if isinstance(event, Baseline)]) == 1
    stages = (replace(recipe.stages[0], iterations=4),)
    again = collected(replace(recipe, stages=stages), tmp_path / "run")
    assert not any(isinstance(event, Baseline) for event in again)
    assert (tmp_path / "run" / "log.jsonl").read_text().count('"baseline"') == 1


def test_previews_show_bicubic_and_the_ground_truth(images, tmp_path):
    recipe = one_stage(
        images,
        validation=validating(ValidationSet(images, "held"), images=2),
        logging=LoggingSettings(every=1, tensorboard=True),
    )
    collected(recipe, tmp_path / "run")
    folder = tmp_path / "run" / "pictures" / "psnr" / "00000003"
    assert {path.name for path in folder.iterdir()} == {"held-000-0.png", "held-001-1.png"}
    grid = read_rgb(folder / "held-000-0.png")
    assert grid.shape[0] > 48
    assert grid.shape[1] > 4 * 48
    boards = list((tmp_path / "run" / "tensorboard" / "psnr").iterdir())
    assert boards
    assert sum(path.stat().st_size for path in boards) > 10_000


def test_a_damaged_image_is_skipped_and_reported_once(images, tmp_path):
    for file in images.iterdir():
        (tmp_path / "held").mkdir(exist_ok=True)
        (tmp_path / "held" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "held" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    recipe = one_stage(images, validation=validating(ValidationSet(tmp_path / "held")))
    events = collected(recipe, tmp_path / "run")
    notes = [event.text for event in events if isinstance(event, Note)]
    assert len([text for text in notes if "0.png" in text]) == 1


def test_a_set_without_usable_images_raises_an_error(images, processes, tmp_path):
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "0.png").write_bytes(b"nothing")
    recipe = one_stage(images, validation=validating(ValidationSet(tmp_path / "held")))
    with pytest.raises(TrainingError, match="contains no image that validation can use"):
        Validation(recipe, processes, lambda _: None).baseline()


def test_metrics_are_those_of_upscale_eval_and_missing_ones_are_skipped(images, processes):
    names = ("psnr-y", "niqe", "lpips-vgg")
    events: list[str] = []
    recipe = one_stage(
        images,
        degradation=DegradationRecipe(pool=0),
        validation=validating(ValidationSet(images), metrics=names),
        saving=SavingSettings(best_metric="psnr-y"),
    )
    validation = Validation(recipe, processes, events.append)
    found = validation._measures
    assert {"psnr-y", "niqe"} <= found.keys()
    if "lpips-vgg" not in found:
        assert len(events) == 1
        assert events[0].startswith("validation skips lpips-vgg: needs ")
